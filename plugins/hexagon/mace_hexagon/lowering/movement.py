"""Operators that move numbers without computing: most are another view of their operand."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.graph import node_encoding
from mace_core.tensor import DType
from mace_hexagon.description import QTensor, to_encoding
from mace_hexagon.lowering.carriers import INTEGERS
from mace_hexagon.lowering.context import DeclinedError, NodeContext, Order
from mace_hexagon.lowering.indexing import picked
from mace_hexagon.lowering.infinities import within_half
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS


def _reshape(context: NodeContext) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same numbers in the same order."""
    x = context.x(0)
    context.require_same_encoding(x)
    context.emit("Reshape", [x])


def _transpose(context: NodeContext) -> None:
    rank = len(context.shape())
    perm = tuple(context.attr("perm") or reversed(range(rank)))
    order = context.order()
    if context.is_constant(0):
        raise DeclinedError("Transpose of a constant is left to the core")
    context.alias(tuple(perm.index(axis) for axis in order))


def _identity(context: NodeContext) -> None:
    if context.node.output(1) is not None:
        raise DeclinedError("Dropout with a mask is not offered")
    if context.node.op_type == "Dropout":
        training = context.node.input(2)
        known = context.lowering.view.constant(training) if training is not None else None
        dropping = training is not None and (known is None or bool(known.numpy().any()))
        if dropping or (context.lowering.view.opset() < 7 and not context.attr("is_test", 0)):
            raise DeclinedError("Dropout in training mode is not offered")
    if context.is_constant(0):
        context.emit("Reshape", [context.x(0)])
        return
    context.alias(context.order())


def _concat(context: NodeContext) -> None:
    rank = len(context.out_shape())
    axis = int(context.attr("axis")) % rank
    indices = range(len(context.node.inputs))
    natural = tuple(range(rank))
    order = next((o for o in (context.order(index) for index in indices) if o != natural), natural)
    operands = [context.x(index, order) for index in indices]
    context.emit("Concat", operands, order, axis=np.uint32(order.index(axis)))


def _split(context: NodeContext) -> None:
    rank = len(context.shape())
    axis, order = int(context.attr("axis", 0)) % rank, context.order()
    sizes = [context.out_shape(index)[axis] for index in range(len(context.node.outputs))]
    if len(sizes) == 1:
        context.emit("Reshape", [context.x(0, order)], order)
        return
    cuts = np.cumsum(sizes)[:-1].astype(np.uint32)
    source = context.x(0, order)
    results = [context.result_tensor(order, index) for index in range(len(sizes))]
    context.lowering.add("Split", [source], results, axis=np.uint32(order.index(axis)), split_index=cuts)
    for index, result in enumerate(results):
        context.finish(result, order, index)


def _slice(context: NodeContext) -> None:
    shape, out, order = context.shape(), context.out_shape(), context.order()
    starts, steps = [0] * len(shape), [1] * len(shape)
    if context.has(1):
        first = context.integers(1)
        axes = context.integers(3) if context.has(3) else list(range(len(first)))
        strides = context.integers(4) if context.has(4) else [1] * len(first)
    else:  # before opset 10
        first = list(context.attr("starts"))
        axes = list(context.attr("axes") or range(len(first)))
        strides = [1] * len(first)
    for axis, start, step in zip(axes, first, strides, strict=True):
        size = shape[axis]
        start = start + size if start < 0 else start
        starts[axis] = min(max(start, 0), size if step > 0 else size - 1)
        steps[axis] = step
    ranges = [(s, s + n * t, t) for s, n, t in zip(starts, out, steps, strict=True)]
    if any(step < 0 for step in steps) or (context.dtype() in INTEGERS and any(step != 1 for step in steps)):
        tensor = context.x(0)  # the HTP takes steps forward only, and does not compile those over integers
        context.require_same_encoding(tensor)
        for axis, (start, _, step) in enumerate(ranges):
            if step != 1 or out[axis] != shape[axis]:
                tensor = picked(context, tensor, axis, start + step * np.arange(out[axis]))
        context.emit("Reshape", [tensor])
        return
    laid = np.array([ranges[axis] for axis in order], np.int32)
    context.emit("StridedSlice", [context.x(0, order)], order, ranges=laid)


_PAD_SCHEMES = {"constant": 0, "reflect": 2}


def _pad(context: NodeContext) -> None:
    rank, order = len(context.shape()), context.order()
    mode = context.attr("mode", "constant")
    flat = context.integers(1) if context.has(1) else list(context.attr("pads"))
    axes = [axis % rank for axis in context.integers(3)] if context.has(3) else list(range(rank))
    pairs = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        pairs[axis] = (flat[position], flat[position + len(axes)])
    fill = context.array(2) if context.has(2) else np.array(context.attr("value", 0.0))
    is_plain = mode in _PAD_SCHEMES and context.dtype() in (DType.FLOAT32, DType.FLOAT16)
    if not context.is_quantized and (not is_plain or fill is None or min(map(min, pairs)) < 0):
        _pad_by_parts(context, mode, pairs)
        return
    if mode not in _PAD_SCHEMES or min(map(min, pairs)) < 0:
        raise DeclinedError(f"a quantized Pad {mode}, or by negative amounts, is not offered")
    params: dict[str, Any] = {
        "scheme": np.uint32(_PAD_SCHEMES[mode]),
        "pad_amount": np.array([pairs[axis] for axis in order], np.uint32),
    }
    if mode == "constant":
        if fill is None:
            raise DeclinedError("Pad with a value computed at run time is not offered by QNN")
        if context.lowering.half and fill.dtype.kind == "f":
            fill = within_half(context.lowering, fill, "the value of Pad", context.node)
        params["pad_constant_value"] = np.float32(fill.reshape(-1)[0])
    context.emit("Pad", [context.x(0, order)], order, **params)


def _pad_by_parts(context: NodeContext, mode: str, pairs: list[tuple[int, int]]) -> None:
    """Axis by axis: elements picked again, or a border of the fill joined; negative amounts are picked away."""
    tensor = context.x(0)
    if tensor.encoding is not None:
        raise DeclinedError("Pad of quantized codes is not offered")
    for axis, (before, behind) in enumerate(pairs):
        size = tensor.shape[axis]
        if mode == "constant":
            tensor = _with_border(context, tensor, axis, max(before, 0), max(behind, 0))
            which = np.arange(max(-before, 0), tensor.shape[axis] - max(-behind, 0))
        else:
            which = np.pad(np.arange(size), (max(before, 0), max(behind, 0)), _PAD_MODES[mode])
            which = which[max(-before, 0) : len(which) - max(-behind, 0)]
        if len(which) != tensor.shape[axis] or (which != np.arange(len(which))).any():
            tensor = picked(context, tensor, axis, which)
    context.emit("Reshape", [tensor])


_PAD_MODES: dict[str, Any] = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}


def _with_border(context: NodeContext, tensor: QTensor, axis: int, before: int, behind: int) -> QTensor:
    chain = Chain(context)
    if before == behind == 0:
        return tensor
    fill = context.x(2) if context.has(2) else chain.number(float(context.attr("value", 0.0)), tensor)
    unit = context.reshaped(fill, (1,) * len(tensor.shape))
    parts = []
    for amount in (before, behind):
        shape = (*tensor.shape[:axis], amount, *tensor.shape[axis + 1 :])
        if amount and unit.data is not None:
            parts.append(context.constant(np.full(shape, unit.data), "border"))
        elif amount:
            parts.append(chain.shaped("Tile", (unit,), shape, unit.data_type, multiples=np.array(shape, np.uint32)))
    if before:
        parts.insert(1, tensor)
    else:
        parts.insert(0, tensor)
    joined = (*tensor.shape[:axis], before + tensor.shape[axis] + behind, *tensor.shape[axis + 1 :])
    return chain.shaped("Concat", tuple(parts), joined, tensor.data_type, axis=np.uint32(axis))


def _tile(context: NodeContext) -> None:
    """Tile and Expand: whole repetitions along axes."""
    shape, out = context.shape(), context.out_shape()
    source = context.reshaped(context.x(0), (1,) * (len(out) - len(shape)) + shape)
    multiples = [result // size for result, size in zip(out, source.shape, strict=True)] if out else [1]
    context.require_same_encoding(source)
    if all(multiple == 1 for multiple in multiples):  # a Tile of five axes by ones crashes the library
        context.emit("Reshape", [source])
        return
    context.emit("Tile", [source], multiples=np.array(multiples, np.uint32))


def _quantize(context: NodeContext) -> None:
    """A QuantizeLinear on its own: real numbers become fixed-point."""
    stored = context.node.outputs[0]
    assert stored is not None
    found = node_encoding(context.lowering.view, context.node)
    encoding = None if found is None else to_encoding(found)
    if encoding is None or encoding.axis is not None:
        raise DeclinedError("QuantizeLinear per channel, in blocks or by computed scales is not offered by QNN")
    order: Order = context.order()
    result = context.lowering.new_tensor(stored, order, encoding)
    context.lowering.add("Quantize", [context.x(0, order)], [result])
    context.lowering.define(stored, result, order)


LOWERINGS.add(
    {
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
        "Transpose": _transpose,
        "Identity": _identity,
        "Dropout": _identity,
        "Concat": _concat,
        "Split": _split,
        "Slice": _slice,
        "Pad": _pad,
        "Tile": _tile,
        "Expand": _tile,
        "QuantizeLinear": _quantize,
    }
)
