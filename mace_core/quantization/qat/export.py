"""From a trained graph to an ONNX file in QDQ form."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from mace_core.frontend.load import load_model
from mace_core.frontend.onnx.export import save_onnx
from mace_core.quantization.packed_rows import pack_quantized
from mace_core.quantization.qat.prepare import batch_shapes

OPSET = 18


def export_onnx(
    trained: GraphModule,
    example: tuple[torch.Tensor, ...],
    path: str | Path,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Path:
    """Write what `prepare` gave and training improved as ONNX with QuantizeLinear and DequantizeLinear nodes.

    Every engine that reads QDQ files runs it. Weights that are zero in a pattern are stored without their zeros.
    ``trained`` can be trained further.

    Args:
        trained: a graph of `prepare`.
        example: inputs as `prepare` was given.
        path: where to write; a file that is there is replaced once the new one is complete.
        input_names: of the model's inputs; None: as the module calls them.
        output_names: of its outputs.

    Returns:
        ``path``.
    """
    path = Path(path)
    converted = convert_pt2e(move_exported_model_to_eval(copy.deepcopy(trained)))
    program = torch.onnx.export(
        converted,
        example,
        dynamo=True,
        dynamic_shapes=batch_shapes(example),
        opset_version=OPSET,
        input_names=input_names,
        output_names=output_names,
        verbose=False,
    )
    assert program is not None
    handle, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".onnx", dir=path.parent)
    os.close(handle)
    try:
        program.save(unfinished, external_data=False)
        _pack(unfinished)
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return path


def _pack(path: str) -> None:
    """Store weights that are zero in a pattern without their zeros."""
    graph = load_model(path)
    if pack_quantized(graph):
        save_onnx(graph, path)
