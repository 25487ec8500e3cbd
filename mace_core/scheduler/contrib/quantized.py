"""Quantised operators: computed between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

import math

from mace_core.graph import Node, Value
from mace_core.scheduler.contrib.pieces import channels_first, channels_last, shaped, turned
from mace_core.scheduler.contrib.registry import body, given, kept, made
from mace_core.scheduler.rewriting import BodyBuilder


def _floats(b: BodyBuilder, node: Node, first: int) -> Value:
    """The float behind the quantised input at ``first``, whose scale and zero point follow it."""
    return b.op("DequantizeLinear", [given(node, first), given(node, first + 1), node.input(first + 2)])


def _quantize(b: BodyBuilder, node: Node, value: Value, scale: int) -> bool:
    b.op("QuantizeLinear", [value, given(node, scale), node.input(scale + 1)], into=made(node))
    return True


@body("QLinearAdd", "QLinearMul")
def _quantized_binary(b: BodyBuilder, node: Node) -> bool:
    return _quantize(b, node, b.op(node.op_type[len("QLinear") :], [_floats(b, node, 0), _floats(b, node, 3)]), 6)


@body("QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool")
def _quantized_unary(b: BodyBuilder, node: Node) -> bool:
    """Pools may have their channels last, as onnxruntime lays out quantised networks."""
    last = bool(node.attr("channels_last", 0))
    value = _floats(b, node, 0)
    rank = len(b.view.shape(given(node, 0)))
    if last:
        value = turned(b, value, channels_first(rank))
    value = b.op(node.op_type[len("QLinear") :], [value], kept(node, "channels_last"))
    return _quantize(b, node, turned(b, value, channels_last(rank)) if last else value, 3)


@body("QLinearSoftmax")
def _quantized_softmax(b: BodyBuilder, node: Node) -> bool:
    """Until opset 13, which the node names itself, the softmax is over all axes from the given one on."""
    shape = b.view.shape(given(node, 0))
    axis = int(node.attr("axis", -1)) % len(shape)
    value = _floats(b, node, 0)
    if int(node.attr("opset", b.opset)) < 13:
        rows = math.prod(shape[:axis])
        value = b.op("Softmax", [shaped(b, value, (rows, math.prod(shape[axis:])))], {"axis": 1})
        return _quantize(b, node, shaped(b, value, shape), 3)
    if b.opset < 13 and axis != len(shape) - 1:
        return False
    return _quantize(b, node, b.op("Softmax", [value], {"axis": axis}), 3)


@body("QLinearWhere")
def _quantized_where(b: BodyBuilder, node: Node) -> bool:
    return _quantize(b, node, b.op("Where", [given(node, 0), _floats(b, node, 1), _floats(b, node, 4)]), 7)


@body("QLinearConcat")
def _quantized_concat(b: BodyBuilder, node: Node) -> bool:
    parts = [_floats(b, node, first) for first in range(2, len(node.inputs), 3)]
    return _quantize(b, node, b.op("Concat", parts, kept(node)), 0)


@body("QLinearConv")
def _quantized_conv(b: BodyBuilder, node: Node) -> bool:
    plain = kept(node, "channels_last")
    if not node.attr("channels_last", 0):
        b.op("QLinearConv", node.inputs, plain, into=made(node))
        return True
    rank = len(b.view.shape(given(node, 0)))
    value = turned(b, given(node, 0), channels_first(rank))
    turned(b, b.op("QLinearConv", [value, *node.inputs[1:]], plain), channels_last(rank), into=made(node))
    return True


@body("NhwcMaxPool")
def _max_pool(b: BodyBuilder, node: Node) -> bool:
    rank = len(b.view.shape(given(node, 0)))
    value = turned(b, given(node, 0), channels_first(rank))
    turned(b, b.op("MaxPool", [value], kept(node)), channels_last(rank), into=made(node))
    return True


@body("QuantizeLinear", "DequantizeLinear", "Trilu", "GatherND")
def _same_name(b: BodyBuilder, node: Node) -> bool:
    b.op(node.op_type, node.inputs, kept(node), into=made(node))
    return True
