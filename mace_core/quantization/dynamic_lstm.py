"""An LSTM with 8-bit weights whose input and states are rounded in every run: com.microsoft's DynamicQuantizeLSTM."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node, Value
from mace_core.quantization.editing import Editor
from mace_core.quantization.encodings import quantize, weight_encoding
from mace_core.quantization.grids import Grid
from mace_core.quantization.prepare import is_float_constant

INPUTS = 8
"""Of an LSTM; scales and zero points follow them."""


def reason_against_lstm(node: Node) -> str | None:
    """Why an LSTM stays in float, None if it becomes dynamic."""
    if not is_float_constant(node.input(2)):
        return "its recurrent weights are computed in the run"
    if node.attr("layout", 0):
        return "its sequences are the outermost axis"
    return None


def dynamic_lstm(editor: Editor, node: Node, grid: Grid, *, per_channel: bool) -> Node:
    """The node that takes the place of an LSTM; weights have a scale per direction, or per column of each."""
    inputs = [node.input(index) for index in range(INPUTS)]
    added: list[Value] = []
    for index in (1, 2):
        weights = inputs[index]
        assert weights is not None and weights.constant is not None
        array = np.ascontiguousarray(weights.constant.numpy().transpose(0, 2, 1))
        encodings = [weight_encoding(part, grid, axis=1 if per_channel else None) for part in array]
        integers = np.stack([quantize(part, encoding) for part, encoding in zip(array, encodings, strict=True)])
        scales = np.stack([encoding.scale for encoding in encodings])
        inputs[index] = editor.constant(f"{weights.name}_quantized", integers)
        added.append(editor.constant(f"{weights.name}_scale", scales))
        added.append(editor.constant(f"{weights.name}_zero_point", np.zeros(scales.shape, integers.dtype)))
    attributes = {name: attribute for name, attribute in node.attributes.items() if name != "layout"}
    made = editor.node(
        "DynamicQuantizeLSTM",
        [*inputs, *added],
        [],
        name=f"{node.name}_dynamic",
        domain="com.microsoft",
        attributes=attributes,
    )
    made.outputs = list(node.outputs)
    for value in made.outputs:
        if value is not None:
            value.producer = made
    return made
