"""The files that a model lies in."""

from __future__ import annotations

from pathlib import Path


def model_files(model: str | Path) -> tuple[list[Path], int]:
    """The model file and those that it keeps weights in, and the bytes of all its constants.

    Raises:
        ModelError: if the model cannot be read.
    """
    from mace_core.frontend.load import load_model
    from mace_core.graph.constants import constant_tensors

    graph = load_model(model)
    tensors = list(constant_tensors(graph))
    files = {Path(tensor.source.path).absolute(): None for tensor in tensors if tensor.source is not None}
    return [Path(model).absolute(), *(path for path in files if path != Path(model).absolute())], sum(
        tensor.nbytes for tensor in tensors
    )
