"""Reductions over axes, positions of extremes, the largest elements."""

from __future__ import annotations

import numpy as np

from mace_apu.description import Operand, scalar_bool, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.normalization import root_of_squares
from mace_apu.lowering.orders import Order
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.types import FLOATS
from mace_apu.lowering.values import int32_vector
from mace_apu.neuron.constants import Fuse, OperandCode, Operation
from mace_core.graph import Value
from mace_core.tensor import DType

_OPERATIONS = {
    "ReduceMean": Operation.MEAN,
    "ReduceSum": Operation.REDUCE_SUM,
    "ReduceMax": Operation.REDUCE_MAX,
    "ReduceMin": Operation.REDUCE_MIN,
}

_EXACT_HALF = 2048
"""Integers up to this are exact in float16."""

_NORMS = ("ReduceL1", "ReduceL2", "ReduceSumSquare")

_OF_FLAGS = {Operation.REDUCE_MAX: Operation.REDUCE_ANY, Operation.REDUCE_MIN: Operation.REDUCE_ALL}


def _reduce(context: NodeContext) -> None:
    operation = _OPERATIONS[context.node.op_type]
    if context.dtype() is DType.BOOL and operation in _OF_FLAGS:
        operation = _OF_FLAGS[operation]
    elif context.dtype() not in (DType.FLOAT32, DType.FLOAT16):
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered")
    x, places, laid = reduced_dimensions(context)
    context.require_same_encoding(x)
    keep = bool(context.attr("keepdims", 1))
    # MEAN came first, with a number; the others take a truth value
    keeps = scalar_int(int(keep), "keep_dims") if operation is Operation.MEAN else scalar_bool(keep, "keep_dims")
    context.emit(operation, [x, int32_vector(places, "axes"), keeps], laid)


def _norm(context: NodeContext) -> None:
    """ReduceL1, ReduceL2 and ReduceSumSquare."""
    if context.is_quantized or context.dtype() not in (DType.FLOAT32, DType.FLOAT16):
        raise DeclinedError(f"{context.node.op_type} is offered for real numbers only")
    x, places, laid = reduced_dimensions(context)
    keep = bool(context.attr("keepdims", 1))
    if context.node.op_type == "ReduceL2":
        made = root_of_squares(context, x, places)
        result = context.new_result(laid)
        context.finish(context.reshaped(made, result.shape), laid)
        return
    none = scalar_int(int(Fuse.NONE), "activation")
    parts = (
        context.compute(Operation.ABS, [x])
        if context.node.op_type == "ReduceL1"
        else context.compute(Operation.MUL, [x, x, none])
    )
    context.emit(Operation.REDUCE_SUM, [parts, int32_vector(places, "axes"), scalar_bool(keep, "keep_dims")], laid)


def reduced_dimensions(context: NodeContext) -> tuple[Operand, list[int], Order]:
    """Operand 0, the dimensions of it that are reduced, and the order of the result."""
    rank, order = len(context.shape()), context.order()
    axes = context.integers(1) if context.has(1) else context.attr("axes")
    if not axes:
        if context.attr("noop_with_empty_axes", 0):
            raise DeclinedError("a reduction over no axes is left to other devices")
        axes = range(rank)
    reduced = sorted({axis % rank for axis in axes})
    places = sorted(order.index(axis) for axis in reduced if axis in order)
    if not places:
        raise DeclinedError("a reduction over axes of length 1 only is left to other devices")
    laid: Order = order
    if not context.attr("keepdims", 1):
        left = [axis for axis in range(rank) if axis not in reduced]
        laid = tuple(left.index(axis) for axis in order if axis in left)
    return context.x(0, order), places, laid


def _arg(context: NodeContext) -> None:
    """ArgMax and ArgMin: positions, as 32-bit integers inside."""
    rank = len(context.shape())
    axis = int(context.attr("axis", 0)) % rank
    natural = context.lowering.natural(context.operand(0))
    if context.dtype() is DType.INT64 or len(natural) != rank or rank == 1:
        raise DeclinedError(f"{context.node.op_type} is offered for two to four dimensions, not of 64-bit integers")
    if context.attr("select_last_index", 0):
        _last_arg(context, axis)
        return
    operation = Operation.ARGMAX if context.node.op_type == "ArgMax" else Operation.ARGMIN
    x, where = context.x(0), scalar_int(axis, "axis")
    if not context.attr("keepdims", 1):
        context.emit(operation, [x, where])
        return
    result = context.new_result()
    flat = context.temporary((*x.shape[:axis], *x.shape[axis + 1 :]), result, "positions")
    context.lowering.add(operation, [x, where], [flat])
    context.lowering.add(Operation.EXPAND_DIMS, [flat, where], [result])
    context.finish(result)


def _last_arg(context: NodeContext, axis: int) -> None:
    """The last of equal extremes, where Neuron selects the first: the largest of their positions."""
    x = context.x(0)
    size, shape = x.shape[axis], x.shape
    if x.code not in FLOATS or (context.is_half(x) and size > _EXACT_HALF):
        raise DeclinedError(f"the last of equals is offered of real numbers, and in float16 of up to {_EXACT_HALF}")
    over = [int32_vector((axis,), "axes"), scalar_bool(True, "keep_dims")]
    reduced = (*shape[:axis], 1, *shape[axis + 1 :])
    operation = Operation.REDUCE_MAX if context.node.op_type == "ArgMax" else Operation.REDUCE_MIN
    extreme = context.compute(operation, [x, *over], reduced)
    flags = Operand(f"{context.node.name}.extreme", OperandCode.TENSOR_BOOL8, shape)
    context.lowering.add(Operation.EQUAL, [x, extreme], [flags])
    dtype, along = context.dtype().numpy, [1] * len(shape)
    along[axis] = size
    places = np.broadcast_to(np.arange(size, dtype=dtype).reshape(along), shape)
    kept = context.temporary(shape, x, "positions")
    nowhere = context.constant(np.full(shape, -1, dtype), "nowhere")
    context.lowering.add(Operation.SELECT, [flags, context.constant(places, "places"), nowhere], [kept])
    over[1] = scalar_bool(bool(context.attr("keepdims", 1)), "keep_dims")
    result = context.new_result()
    last = context.compute(Operation.REDUCE_MAX, [kept, *over], result.shape)
    context.lowering.add(Operation.CAST, [last], [result])
    context.finish(result)


def _top_k(context: NodeContext) -> None:
    """The largest of an axis, sorted; where they were is not offered."""
    rank = len(context.shape())
    axis = int(context.attr("axis", -1)) % rank
    if not context.attr("largest", 1):
        raise DeclinedError("TopK of the smallest is not offered by Neuron")
    if context.dtype() is DType.INT64 or rank > 4:
        raise DeclinedError("TopK is offered for up to four dimensions, not of 64-bit integers")
    positions = context.node.output(1)
    if positions is not None and _is_used(context, positions):
        raise DeclinedError("TopK with positions is not offered: of equals Neuron takes the last, ONNX the first")
    order: Order = (*(other for other in range(rank) if other != axis), axis)
    count, x = context.integers(1)[0], context.x(0, order)
    context.require_same_encoding(x)
    values = context.new_result(order, 0)
    where = context.temporary(values.shape, context.constant(np.zeros(1, np.int32), "zero"), "positions")
    context.lowering.add(Operation.TOPK_V2, [x, scalar_int(count, "k")], [values, where])
    context.finish(values, order, 0)
    if positions is not None:
        context.lowering.define(positions, where, order)


def _is_used(context: NodeContext, value: Value) -> bool:
    view = context.lowering.view
    return view.is_output(value) or bool(view.users(value))


LOWERINGS.add(
    {
        **dict.fromkeys(_OPERATIONS, _reduce),
        **dict.fromkeys(_NORMS, _norm),
        "ArgMax": _arg,
        "ArgMin": _arg,
        "TopK": _top_k,
    }
)
