"""Dynamic quantization: 8-bit weights, and activations by the range that each run finds (DynamicQuantizeLinear).

A product becomes DynamicQuantizeLinear, MatMulInteger or ConvInteger, and the scaling of its sums in float; an LSTM
becomes com.microsoft's DynamicQuantizeLSTM. No calibration is needed; the range costs a pass over the activations in
every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.quantization.dynamic_lstm import dynamic_lstm, reason_against_lstm
from mace_core.quantization.editing import Editor
from mace_core.quantization.encodings import quantize, transposed, weight_encoding
from mace_core.quantization.grids import Grid
from mace_core.quantization.prepare import is_float_constant
from mace_core.tensor import DType, QuantEncoding, TensorType, ValueType


@dataclass(slots=True)
class Dynamic:
    """What was made dynamic.

    Attributes:
        nodes: the products that are computed in integers.
        floats: why each other product stays in float.
        weights: integers and encoding of the weights of each product, in the form of its float weights.
    """

    nodes: list[Node] = field(default_factory=list)
    floats: dict[Node, str] = field(default_factory=dict)
    weights: dict[Node, tuple[npt.NDArray[Any], QuantEncoding]] = field(default_factory=dict)


def quantize_dynamically(
    graph: Graph,
    grid: Grid,
    types: Mapping[Value, ValueType],
    excluded: Mapping[Node, str],
    *,
    per_channel: bool = True,
) -> Dynamic:
    """Rewrite the products with constant weights of a graph in place.

    Args:
        types: of computed values, as far as they are known.
        excluded: nodes that stay in float, each with the reason.
    """
    found = Dynamic()
    editor = Editor(graph)
    ranges: dict[Value, tuple[Value, Value, Value]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        reason = _reason_against(node, types, excluded)
        if reason is not None:
            if reason:
                found.floats[node] = reason
            nodes.append(node)
            continue
        if node.op_type == "LSTM":
            nodes.append(dynamic_lstm(editor, node, grid, per_channel=per_channel))
        else:
            nodes += _Product(editor, node, grid, per_channel, ranges, found).nodes()
        found.nodes.append(node)
    graph.nodes = nodes
    editor.sweep()
    return found


def _reason_against(node: Node, types: Mapping[Value, ValueType], excluded: Mapping[Node, str]) -> str | None:
    """None if a node becomes dynamic; empty if it is no product at all."""
    if node.domain or node.op_type not in ("MatMul", "Gemm", "Conv", "LSTM", "GRU", "RNN"):
        return ""
    if node in excluded:
        return excluded[node]
    if node.op_type in ("GRU", "RNN"):
        return f"there is no {node.op_type} of integers"
    x, weights = node.inputs[0], node.inputs[1]
    type = None if x is None else types.get(x, x.type)
    if not isinstance(type, TensorType) or type.dtype is not DType.FLOAT32:
        return "its input is not known to be float32"
    if not is_float_constant(weights):
        return "its weights are computed in the run"
    if node.op_type == "LSTM":
        return reason_against_lstm(node)
    assert weights is not None and weights.constant is not None
    if node.op_type == "MatMul" and len(weights.constant.shape) != 2:
        return "its weights are no matrix"
    if node.op_type == "Gemm" and (
        node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0 or node.attr("transA", 0)
    ):
        return "its alpha or beta is not 1, or its first operand is transposed"
    return None


class _Product:
    """The nodes that take the place of one product."""

    def __init__(
        self,
        editor: Editor,
        node: Node,
        grid: Grid,
        per_channel: bool,
        ranges: dict[Value, tuple[Value, Value, Value]],
        found: Dynamic,
    ) -> None:
        self.editor = editor
        self.node = node
        self.grid = grid
        self.per_channel = per_channel
        self.ranges = ranges
        self.found = found
        self.made: list[Node] = []

    def nodes(self) -> list[Node]:
        """In order; the last one writes the product's own output."""
        node, name = self.node, self.node.name
        x, weights = node.inputs[0], node.inputs[1]
        assert x is not None and weights is not None and weights.constant is not None
        array = weights.constant.numpy()
        is_conv = node.op_type == "Conv"
        is_transposed = bool(node.op_type == "Gemm" and node.attr("transB", 0))
        if is_transposed:
            array = np.ascontiguousarray(array.T)
        encoding = weight_encoding(array, self.grid, axis=(0 if is_conv else 1) if self.per_channel else None)
        integers = quantize(array, encoding)
        self.found.weights[node] = transposed(integers, encoding) if is_transposed else (integers, encoding)
        stored, x_scale, x_zero = self._range(x)
        w = self.editor.constant(f"{weights.name}_quantized", integers)
        zero = self.editor.constant(f"{weights.name}_zero_point", np.zeros((), integers.dtype))
        sums = self._node(
            "ConvInteger" if is_conv else "MatMulInteger",
            [stored, w, x_zero, zero],
            f"{name}_sums",
            dict(node.attributes) if is_conv else {},
        )
        floats = self._node("Cast", [sums], f"{name}_floats", {"to": Attribute(AttributeKind.INT, DType.FLOAT32.value)})
        scale = encoding.scale
        if is_conv and scale.ndim:
            scale = scale.reshape(-1, *(1,) * (array.ndim - 2))
        factor = self._node("Mul", [x_scale, self.editor.constant(f"{weights.name}_scale", scale)], f"{name}_scale")
        result = self._node("Mul", [floats, factor], f"{name}_scaled")
        bias = node.input(2)
        if bias is not None:
            if is_conv and bias.constant is not None:
                shaped = bias.constant.numpy().reshape(-1, *(1,) * (array.ndim - 2))
                bias = self.editor.constant(f"{bias.name}_{node.name}", shaped)
            result = self._node("Add", [result, bias], f"{name}_result")
        last = self.made[-1]
        last.outputs = list(node.outputs)
        for value in last.outputs:
            if value is not None:
                value.producer = last
        return self.made

    def _range(self, x: Value) -> tuple[Value, Value, Value]:
        if x not in self.ranges:
            outputs = tuple(self.editor.value(f"{x.name}_{what}") for what in ("quantized", "scale", "zero_point"))
            self.made.append(
                self.editor.node("DynamicQuantizeLinear", [x], outputs, name=f"{x.name}_DynamicQuantizeLinear")
            )
            self.ranges[x] = (outputs[0], outputs[1], outputs[2])
        return self.ranges[x]

    def _node(
        self,
        op_type: str,
        inputs: list[Value | None] | list[Value],
        name: str,
        attributes: dict[str, Attribute] | None = None,
    ) -> Value:
        result = self.editor.value(name)
        self.made.append(self.editor.node(op_type, inputs, [result], name=name, attributes=attributes))
        return result
