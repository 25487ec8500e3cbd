"""Operators that move numbers without computing: most are another view of their operand."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.graph import node_encoding
from mace_core.tensor import DType
from mace_hexagon.clusters import to_encoding
from mace_hexagon.lowering.context import INT32, DeclinedError, NodeContext, Order
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
    if any(step < 0 for step in steps):
        raise DeclinedError("Slice with a negative step is not offered on the HTP")
    if context.dtype() is DType.INT64 and any(step != 1 for step in steps):
        raise DeclinedError("Slice of 64-bit integers with steps does not compile for the HTP")
    laid = np.array([ranges[axis] for axis in order], np.int32)
    context.emit("StridedSlice", [context.x(0, order)], order, ranges=laid)


def _gather(context: NodeContext) -> None:
    shape = context.shape()
    axis = int(context.attr("axis", 0)) % len(shape)
    indices = context.array(1)
    if indices is None:
        raise DeclinedError("Gather with indices computed at run time is not offered: QNN knows no negative ones")
    wrapped = np.where(indices < 0, indices + shape[axis], indices)
    if wrapped.size and (wrapped.min() < 0 or wrapped.max() >= shape[axis]):
        raise DeclinedError("Gather with indices beyond the axis is not offered")
    where = context.constant(wrapped.astype(np.int32), "indices")
    source = context.x(0)
    if indices.ndim:
        context.emit("Gather", [source, where], axis=np.int32(axis))
        return
    result = context.result_tensor()
    kept = context.temporary((*shape[:axis], 1, *shape[axis + 1 :]), result, "row")
    context.lowering.add("Gather", [source, where], [kept], axis=np.int32(axis))
    context.lowering.add("Reshape", [kept], [result])
    context.finish(result)


_PAD_SCHEMES = {"constant": 0, "reflect": 2}  # the library's scheme for edge gives zeros


def _pad(context: NodeContext) -> None:
    rank, order = len(context.shape()), context.order()
    mode = context.attr("mode", "constant")
    if mode not in _PAD_SCHEMES:
        raise DeclinedError(f"Pad {mode} is not offered by QNN, or not computed rightly")
    flat = context.integers(1) if context.has(1) else list(context.attr("pads"))
    axes = [axis % rank for axis in context.integers(3)] if context.has(3) else list(range(rank))
    pairs = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        pairs[axis] = (flat[position], flat[position + len(axes)])
    if any(pad < 0 for pair in pairs for pad in pair):
        raise DeclinedError("Pad by negative amounts is not offered by QNN")
    params: dict[str, Any] = {
        "scheme": np.uint32(_PAD_SCHEMES[mode]),
        "pad_amount": np.array([pairs[axis] for axis in order], np.uint32),
    }
    if mode == "constant":
        fill = context.array(2) if context.has(2) else np.array(context.attr("value", 0.0))
        if fill is None:
            raise DeclinedError("Pad with a value computed at run time is not offered by QNN")
        params["pad_constant_value"] = np.float32(fill.reshape(-1)[0])
    context.emit("Pad", [context.x(0, order)], order, **params)


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


def _arg(context: NodeContext) -> None:
    """ArgMax and ArgMin: positions, as 32-bit integers inside."""
    if context.attr("select_last_index", 0):
        raise DeclinedError("the last of equal values is not what QNN selects")
    rank = len(context.shape())
    axis = int(context.attr("axis", 0)) % rank
    if context.out_dtype() is not DType.INT64 or context.shape()[axis] > INT32.max:
        raise DeclinedError("positions are 64-bit integers in ONNX")
    operation = "Argmax" if context.node.op_type == "ArgMax" else "Argmin"
    keep = np.bool_(context.attr("keepdims", 1))
    context.emit(operation, [context.x(0)], axis=np.uint32(axis), keep_dims=keep)


def _top_k(context: NodeContext) -> None:
    """The largest or smallest of the last axis, sorted, with their positions."""
    rank = len(context.shape())
    axis = int(context.attr("axis", -1)) % rank
    order: Order = (*(other for other in range(rank) if other != axis), axis)
    count, largest = context.integers(1)[0], np.bool_(context.attr("largest", 1))
    values, positions = context.result_tensor(order, 0), context.result_tensor(order, 1)
    context.lowering.add("TopK", [context.x(0, order)], [values, positions], k=np.uint32(count), largest=largest)
    context.finish(values, order, 0)
    context.finish(positions, order, 1)


LOWERINGS.add(
    {
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
        "Transpose": _transpose,
        "Identity": _identity,
        "Dropout": _identity,
        "Concat": _concat,
        "Split": _split,
        "Slice": _slice,
        "Gather": _gather,
        "Pad": _pad,
        "Tile": _tile,
        "Expand": _tile,
        "QuantizeLinear": _quantize,
        "ArgMax": _arg,
        "ArgMin": _arg,
        "TopK": _top_k,
    }
)
