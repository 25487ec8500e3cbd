"""Operators that pick and place elements by position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.description import QTensor
from mace_hexagon.lowering.carriers import INTEGERS
from mace_hexagon.lowering.context import INT32, DeclinedError, NodeContext, Order
from mace_hexagon.lowering.integers import Chain, as_int32, positions
from mace_hexagon.lowering.table import LOWERINGS
from mace_hexagon.qnn.types import DataType

_REDUCTIONS = {"none": 0, "add": 1, "mul": 2}
HALF_MAX = 65504.0
MOST_SELECTED = 16
_FLOATS = (DType.FLOAT32, DType.FLOAT16)


def _gather(context: NodeContext) -> None:
    """Rows of a matrix, or elements of the middle of three axes: other forms the library gets wrong.

    With indices computed at run time the axis comes first, with constant ones it stays where it is.
    """
    shape = context.shape()
    axis = int(context.attr("axis", 0)) % len(shape)
    count = math.prod(context.shape(1))
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    where = context.reshaped(positions(context, 1, np.array(shape[axis])), (count,))
    x = context.x(0)
    context.require_same_encoding(x)
    held, restore = _as_gatherable(context, x)
    if where.data is not None:
        found = _gathered(context, context.reshaped(held, (outer, shape[axis], inner)), where, (outer, count, inner), 1)
    else:
        rows = context.reshaped(_swapped(context, held, (outer, shape[axis], inner)), (shape[axis], outer * inner))
        taken = _gathered(context, rows, where, (count, outer * inner), 0)
        found = _swapped(context, taken, (count, outer, inner))
    _finish_as(context, found, restore)


def _gathered(context: NodeContext, x: QTensor, where: QTensor, shape: tuple[int, ...], axis: int) -> QTensor:
    result = context.temporary(shape, x, "gathered")
    context.lowering.add("Gather", [x, where], [result], axis=np.int32(axis))
    return result


def _swapped(context: NodeContext, x: QTensor, shape: tuple[int, int, int]) -> QTensor:
    """The first two of the three axes that ``x`` is seen with, the other way round."""
    first, second, third = shape
    if first == 1 or second == 1:
        return x
    seen = context.reshaped(x, shape)
    result = context.temporary((second, first, third), seen, "swapped")
    context.lowering.add("Transpose", [seen], [result], perm=np.array([1, 0, 2], np.uint32))
    return result


def _as_gatherable(context: NodeContext, x: QTensor) -> tuple[QTensor, DataType | None]:
    """Booleans as integers, which the library gathers; and the type to return to."""
    if x.data_type is not DataType.BOOL_8:
        return x, None
    return Chain(context).op("Cast", x, data_type=DataType.INT_32), DataType.BOOL_8


def _finish_as(context: NodeContext, tensor: QTensor, data_type: DataType | None, index: int = 0) -> None:
    """``tensor`` holds the numbers of the result, but for shape and type."""
    if data_type is not None:
        tensor = Chain(context).op("Cast", tensor, data_type=data_type)
    context.emit("Reshape", [tensor], index=index)


def _gather_elements(context: NodeContext) -> None:
    shape = context.shape()
    axis = int(context.attr("axis", 0)) % len(shape)
    where = positions(context, 1, np.array(shape[axis]))
    held, restore = _as_gatherable(context, context.x(0))
    found = Chain(context).shaped(
        "GatherElements", (held, where), context.out_shape() or (1,), held.data_type, axis=np.uint32(axis)
    )
    _finish_as(context, found, restore)


def _gather_nd(context: NodeContext) -> None:
    shape, batch = context.shape(), int(context.attr("batch_dims", 0))
    if batch:
        raise DeclinedError("GatherND with batch_dims is computed wrongly by the library")
    if context.is_quantized:
        raise DeclinedError("GatherND of quantized numbers loses their scale in the library")
    depth = context.shape(1)[-1]
    where = positions(context, 1, np.array(shape[:depth]))
    held, restore = _as_gatherable(context, context.x(0))
    found = Chain(context).shaped(
        "GatherNd", (held, where), context.out_shape() or (1,), held.data_type, batch_dims=np.uint32(0)
    )
    _finish_as(context, found, restore)


def _reduction(context: NodeContext) -> np.uint32:
    name = context.attr("reduction", "none")
    if name not in _REDUCTIONS:
        raise DeclinedError(f"{context.node.op_type} with the reduction {name} is not offered")
    return np.uint32(_REDUCTIONS[name])


def _scatter_elements(context: NodeContext) -> None:
    """Also the deprecated Scatter.  The library adds and multiplies integers only, so reductions are left out."""
    shape = context.shape()
    axis = int(context.attr("axis", 0)) % len(shape)
    if _reduction(context):
        raise DeclinedError("ScatterElements with a reduction is not offered for real numbers")
    _require_computable(context)
    where = positions(context, 1, np.array(shape[axis]))
    operands = [context.x(0), where, context.x(2)]
    context.emit("ScatterElements", operands, axis=np.uint32(axis), reduction=np.uint32(0))


def _scatter_nd(context: NodeContext) -> None:
    shape = context.shape()
    depth = context.shape(1)[-1]
    where = positions(context, 1, np.array(shape[:depth]))
    _require_computable(context)
    reduction = _reduction(context)
    if reduction and context.dtype() not in _FLOATS:
        raise DeclinedError(f"ScatterND with a reduction of {context.dtype().label} is not offered")
    context.emit("ScatterNd", [context.x(0), where, context.x(2)], reduction=reduction)


def _require_computable(context: NodeContext) -> None:
    if context.is_quantized or context.dtype() not in (*_FLOATS, *INTEGERS):
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered")


def _one_hot(context: NodeContext) -> None:
    """Indices beyond the depth have no hot element, which the library does by itself; negative ones are wrapped."""
    depth = context.integers(1)[0]
    rank = len(context.out_shape())
    axis = int(context.attr("axis", -1)) % rank
    if context.dtype() in INTEGERS:
        indices = as_int32(context, 0)
    else:
        indices = Chain(context).op("Cast", context.x(0), data_type=DataType.INT_32)
    chain = Chain(context)
    negative = chain.test("ElementWiseLess", indices, chain.number(0, indices))
    shifted = chain.op("ElementWiseAdd", indices, chain.number(depth, indices))
    wrapped = chain.op("ElementWiseSelect", negative, shifted, indices)
    along = [1] * rank
    along[axis] = depth
    steps = context.constant(np.arange(depth, dtype=np.int32).reshape(along), "steps")
    spread = list(context.shape(0))
    spread.insert(axis, 1)
    values = context.x(2)
    hot = chain.test("ElementWiseEqual", context.reshaped(wrapped, tuple(spread)), steps)
    off, on = (
        chain.shaped("StridedSlice", (values,), (1,), values.data_type, ranges=np.array([[at, at + 1, 1]], np.int32))
        for at in (0, 1)
    )
    context.emit("ElementWiseSelect", [hot, on, off])


def _cum_sum(context: NodeContext) -> None:
    """Reverse and exclusive sums of real numbers do not compile: differences of the plain ones."""
    if context.dtype() not in _FLOATS or context.is_quantized:
        raise DeclinedError(f"CumSum of {context.dtype().label} is not offered: the library sums in 32-bit floats")
    axis = context.integers(1)[0] % len(context.shape())
    x, chain = context.x(0), Chain(context)
    total = chain.op("CumulativeSum", x, axis=np.uint32(axis), exclusive=np.bool_(False), reverse=np.bool_(False))
    if context.attr("reverse", 0):
        kept = list(x.shape)
        kept[axis] = 1
        whole = chain.shaped(
            "ReduceSum", (x,), tuple(kept), x.data_type, axes=np.array([axis], np.uint32), keep_dims=np.bool_(True)
        )
        rest = chain.op("ElementWiseSubtract", whole, total)  # what comes behind
        total = rest if context.attr("exclusive", 0) else chain.op("ElementWiseAdd", rest, x)
    elif context.attr("exclusive", 0):
        total = chain.op("ElementWiseSubtract", total, x)
    context.emit("Reshape", [total])


def _arg(context: NodeContext) -> None:
    """ArgMax and ArgMin: positions, as 32-bit integers inside; the last of equals is the first from behind."""
    rank, shape = len(context.shape()), context.shape()
    axis = int(context.attr("axis", 0)) % rank
    operation = "Argmax" if context.node.op_type == "ArgMax" else "Argmin"
    keep = np.bool_(context.attr("keepdims", 1))
    x = context.x(0)
    if context.dtype() in INTEGERS and x.encoding is None and context.dtype() is DType.UINT32:
        raise DeclinedError("QNN does not compare unsigned 32-bit integers")
    operation, x = _best(context, operation, x, axis)
    if not context.attr("select_last_index", 0) or shape[axis] == 1:
        context.emit(operation, [x], axis=np.uint32(axis), keep_dims=keep)
        return
    chain = Chain(context)
    turned = reversed_along(context, x, axis)
    kept = [size for other, size in enumerate(shape) if keep or other != axis]
    if keep:
        kept[axis] = 1
    found = chain.shaped(operation, (turned,), tuple(kept) or (1,), DataType.INT_32, axis=np.uint32(axis),
                         keep_dims=keep)  # fmt: skip
    context.emit("ElementWiseSubtract", [chain.number(shape[axis] - 1, found), found])


def _best(context: NodeContext, operation: str, x: QTensor, axis: int) -> tuple[str, QTensor]:
    """Where the best integers are, to be looked up instead of them: the library compares them as floats."""
    if x.data_type is not DataType.INT_32:
        return operation, x
    chain = Chain(context)
    kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    reduce = "ReduceMax" if operation == "Argmax" else "ReduceMin"
    best = chain.shaped(reduce, (x,), kept, x.data_type, axes=np.array([axis], np.uint32), keep_dims=np.bool_(True))
    return "Argmax", chain.op("Cast", chain.test("ElementWiseEqual", x, best), data_type=DataType.INT_32)


def reversed_along(context: NodeContext, x: QTensor, axis: int) -> QTensor:
    """``x`` with the elements along an axis in reverse."""
    return picked(context, x, axis, np.arange(x.shape[axis])[::-1])


def picked(context: NodeContext, x: QTensor, axis: int, which: Any) -> QTensor:
    """Elements of ``x`` along an axis, by constant positions."""
    shape = x.shape
    seen = context.reshaped(x, (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])))
    where = context.constant(np.asarray(which, np.int32), "positions")
    found = _gathered(context, seen, where, (seen.shape[0], len(which), seen.shape[2]), 1)
    return context.reshaped(found, (*shape[:axis], len(which), *shape[axis + 1 :]))


def _top_k(context: NodeContext) -> None:
    """The largest or smallest along an axis, sorted, with their positions; of equal ones the first.

    The library takes equal ones in any order: its own operation serves where positions are not asked for.
    """
    rank, largest = len(context.shape()), bool(context.attr("largest", 1))
    axis = int(context.attr("axis", -1)) % rank
    count = context.integers(1)[0]
    if not context.is_quantized and (context.node.output(1) is not None or context.dtype() not in _FLOATS):
        if count > MOST_SELECTED:
            raise DeclinedError(f"TopK of more than {MOST_SELECTED} with positions takes equal ones in any order")
        _select_one_by_one(context, axis, count, largest=largest)
        return
    if context.dtype() not in _FLOATS:
        raise DeclinedError(f"TopK of {context.dtype().label} is computed in floats by the library")
    order: Order = (*(other for other in range(rank) if other != axis), axis)
    values = context.result_tensor(order, 0)
    if context.node.output(1) is not None:
        raise DeclinedError("TopK of quantized numbers with positions takes equal ones in any order")
    shape = values.shape
    unused = QTensor(context.lowering.unique(f"{context.node.name}.positions"), DataType.INT_32, shape)
    context.lowering.add("TopK", [context.x(0, order)], [values, unused], k=np.uint32(count), largest=np.bool_(largest))
    context.finish(values, order, 0)


def _select_one_by_one(context: NodeContext, axis: int, count: int, *, largest: bool) -> None:
    """Find the best, push it to the end of the scale, and so on."""
    chain, x = Chain(context), context.x(0)
    shape = x.shape
    kept = (*shape[:axis], 1, *shape[axis + 1 :])
    along = [1] * len(shape)
    along[axis] = shape[axis]
    steps = context.constant(np.arange(shape[axis], dtype=np.int32).reshape(along), "steps")
    if context.dtype() is DType.UINT32:
        raise DeclinedError("QNN does not compare unsigned 32-bit integers")
    end = HALF_MAX if context.dtype() in _FLOATS else INT32.max
    worst = chain.number(-end if largest else end, x)
    arg, reduce = ("Argmax", "ReduceMax") if largest else ("Argmin", "ReduceMin")
    values, where = [], []
    for left in range(count, 0, -1):
        values.append(chain.shaped(reduce, (x,), kept, x.data_type, axes=np.array([axis], np.uint32),
                                   keep_dims=np.bool_(True)))  # fmt: skip
        search, seen = _best(context, arg, x, axis)
        where.append(
            chain.shaped(search, (seen,), kept, DataType.INT_32, axis=np.uint32(axis), keep_dims=np.bool_(True))
        )
        if left > 1:
            x = chain.op("ElementWiseSelect", chain.test("ElementWiseEqual", where[-1], steps), worst, x)
    for index, parts in enumerate((values, where)):
        if context.node.output(index) is None:
            continue
        if len(parts) == 1:
            context.emit("Reshape", parts, index=index)
        else:
            context.emit("Concat", parts, index=index, axis=np.uint32(axis))


def _trilu(context: NodeContext) -> None:
    """A mask, which is constant where the diagonal is."""
    shape = context.shape()
    known = context.array(1) if context.has(1) else np.zeros(1)
    offset = None if known is None else int(known.reshape(-1)[0])
    rows, columns = shape[-2:]
    upper, x = bool(context.attr("upper", 1)), context.x(0)
    if context.is_quantized or x.encoding is not None:
        raise DeclinedError("Trilu of quantized numbers is not offered")
    across = (1,) * (len(shape) - 2) + (rows, columns)
    distance = np.arange(columns)[None] - np.arange(rows)[:, None]
    if offset is None:
        held = Chain(context).test(
            "ElementWiseGreaterEqual" if upper else "ElementWiseLessEqual",
            context.constant(distance.reshape(across).astype(np.int32), "distance"),
            as_int32(context, 1),
        )
    else:
        held = context.constant((distance >= offset if upper else distance <= offset).reshape(across), "mask")
    if x.data_type is DataType.BOOL_8:
        context.emit("ElementWiseAnd", [x, held])
        return
    context.emit("ElementWiseSelect", [held, x, Chain(context).number(0, x)])


def _hardmax(context: NodeContext) -> None:
    """One where ArgMax points, zero elsewhere."""
    shape = context.shape()
    rank, old = len(shape), context.lowering.view.opset() < 13
    axis = int(context.attr("axis", 1 if old else -1)) % rank
    if old and axis != rank - 1:
        raise DeclinedError("Hardmax over several axes (before opset 13) is not offered")
    kept = list(shape)
    kept[axis] = 1
    chain, x = Chain(context), context.x(0)
    where = chain.shaped("Argmax", (x,), tuple(kept), DataType.INT_32, axis=np.uint32(axis), keep_dims=np.bool_(True))
    along = [1] * rank
    along[axis] = shape[axis]
    steps = context.constant(np.arange(shape[axis], dtype=np.int32).reshape(along), "steps")
    context.emit("Cast", [chain.test("ElementWiseEqual", where, steps)])


LOWERINGS.add(
    {
        "Gather": _gather,
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "Scatter": _scatter_elements,
        "ScatterElements": _scatter_elements,
        "ScatterND": _scatter_nd,
        "OneHot": _one_hot,
        "CumSum": _cum_sum,
        "ArgMax": _arg,
        "ArgMin": _arg,
        "TopK": _top_k,
        "Trilu": _trilu,
        "Hardmax": _hardmax,
    }
)
