"""The files that a model lies in."""

from __future__ import annotations

import gc
from pathlib import Path


def model_files(model: str | Path) -> tuple[list[Path], int]:
    """The model file and those that it keeps weights in, and the bytes of all its constants.

    Raises:
        ModelError: if the model cannot be read.
    """
    from mace_core.frontend.load import load_model, model_path
    from mace_core.graph.constants import constant_tensors

    tensors = list(constant_tensors(load_model(model)))
    own = model_path(model).absolute()
    files = {Path(tensor.source.path).absolute(): None for tensor in tensors if tensor.source is not None}
    nbytes = sum(tensor.nbytes for tensor in tensors)
    del tensors
    gc.collect()  # pages that this process maps would count by half only in the one that is looked at
    return [own, *(path for path in files if path != own)], nbytes
