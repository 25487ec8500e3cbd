"""Contents of tensors: arithmetic, comparison, reduction, casts.

Only what every provider computes to the same bit is computed here: whole numbers, and floats whose result is rounded
correctly once.  Where implementations may differ (exponentials, sums of floats, the sign of a zero, NaN, what a type
cannot hold) the answer is None, and the run decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mace_core.graph.shapes.context import Array, NodeContext
from mace_core.graph.shapes.reduction import reduction_axes
from mace_core.graph.shapes.registry import Evaluator, evaluator
from mace_core.tensor import DType

Contents = list[Array | None]


def _given(arrays: Contents) -> list[Array]:
    return [array for array in arrays if array is not None]


def _elementwise(function: Callable[..., Any]) -> Evaluator:
    """An evaluator that applies a numpy function to the inputs and keeps the element type of the first."""

    def evaluate(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
        if ctx.opset < 7 and len(arrays) > 1:
            return None  # the old broadcast attribute: never met in shape arithmetic
        operands = _given(arrays)
        return [np.asarray(function(*operands)).astype(operands[0].dtype, copy=False)]

    return evaluate


def _if_settled(function: Callable[..., Any]) -> Evaluator:
    """The same, but only for operands without NaN and -0.0, of which the standard does not say what comes out."""
    evaluate = _elementwise(function)
    return lambda ctx, arrays: evaluate(ctx, arrays) if _are_settled(arrays) else None


def _are_settled(arrays: Contents) -> bool:
    """Whether no operand has a NaN or a zero with a sign."""
    floats = [array for array in _given(arrays) if array.dtype.kind == "f"]
    return not any(np.isnan(a).any() or (np.signbit(a) & (a == 0)).any() for a in floats)


def _only_whole_types(function: Callable[..., Any]) -> Evaluator:
    """The same, but only for whole numbers."""
    evaluate = _elementwise(function)
    return lambda ctx, arrays: None if any(a.dtype.kind == "f" for a in _given(arrays)) else evaluate(ctx, arrays)


def _comparison(function: Callable[..., Any]) -> Evaluator:
    def evaluate(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
        return None if ctx.opset < 7 else [np.asarray(function(*_given(arrays)))]

    return evaluate


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Abs": np.abs,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Identity": lambda x: x,
}
for _name, _function in _ARITHMETIC.items():
    evaluator(_name)(_elementwise(_function))
evaluator("Sign")(_if_settled(np.sign))
evaluator("Relu")(_if_settled(lambda x: np.maximum(x, x.dtype.type(0))))
evaluator("Pow")(_only_whole_types(np.power))

_PREDICATES: dict[str, Callable[..., Any]] = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Not": np.logical_not,
    "IsNaN": np.isnan,
}
for _name, _function in _PREDICATES.items():
    evaluator(_name)(_comparison(_function))


def truncated_quotient(first: Array, second: Array) -> Array:
    """Integer quotients rounded towards zero, as C divides."""
    quotient = np.floor_divide(first, second)
    inexact = (quotient * second != first) & ((first < 0) != (second < 0))
    return np.asarray(quotient + inexact).astype(first.dtype, copy=False)


@evaluator("Div")
def divide(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    first, second = _given(arrays)
    if ctx.opset < 7:
        return None
    if first.dtype.kind == "f":
        return [np.asarray(np.divide(first, second))]
    if not second.all():
        return None
    return [truncated_quotient(first, second)]


@evaluator("Mod")
def modulo(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    first, second = _given(arrays)
    if first.dtype.kind != "f" and not second.all():
        return None
    return [np.asarray(np.fmod(first, second) if ctx.attr("fmod", 0) else np.mod(first, second))]


@evaluator("Min", "Max", "Sum")
def variadic(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    function = {"Min": np.minimum, "Max": np.maximum, "Sum": np.add}[ctx.node.op_type]
    operands = _given(arrays)
    if ctx.node.op_type != "Sum" and not _are_settled(arrays):
        return None
    result = operands[0]
    for operand in operands[1:]:
        result = np.asarray(function(result, operand))
    return [result]


@evaluator("Clip")
def clip(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = _given(arrays)[0]
    lowest = arrays[1] if len(arrays) > 1 else ctx.attr("min")
    highest = arrays[2] if len(arrays) > 2 else ctx.attr("max")
    if not _are_settled(arrays):
        return None
    if lowest is not None:
        data = np.maximum(data, np.asarray(lowest, data.dtype))
    if highest is not None:
        data = np.minimum(data, np.asarray(highest, data.dtype))
    return [np.asarray(data)]


@evaluator("Where")
def where(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    condition, chosen, other = _given(arrays)
    return [np.where(condition, chosen, other)]


@evaluator("Cast")
def cast(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    target = ctx.attr("to")
    if not isinstance(target, int):
        return None
    dtype = DType(target)
    if dtype not in _PLAIN:
        return None
    return _converted(_given(arrays)[0], dtype.numpy)


def _converted(data: Array, dtype: np.dtype[Any]) -> Sequence[Array] | None:
    """``data`` in another type; None where that type cannot hold it: then the provider decides what comes out."""
    if data.dtype.kind == "f" and dtype.kind in "iu":
        whole, limits = np.trunc(data.astype(np.float64)), np.iinfo(dtype)
        # the largest number of a type of 64 bits is no float64; the first one beyond it is
        if not ((whole >= float(int(limits.min))) & (whole < float(int(limits.max) + 1))).all():
            return None
    return [data.astype(dtype)]


_PLAIN = frozenset(
    {DType.BOOL, DType.FLOAT16, DType.FLOAT32, DType.FLOAT64, DType.INT8, DType.INT16, DType.INT32, DType.INT64}
    | {DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64}
)


@evaluator("CastLike")
def cast_like(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, like = _given(arrays)
    return _converted(data, like.dtype)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMin": np.min,
    "ReduceMax": np.max,
}


@evaluator(*_REDUCTIONS)
def reduce(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = _given(arrays)[0]
    axes = reduction_axes(ctx, data.ndim)
    if data.size == 0 and ctx.node.op_type in ("ReduceMin", "ReduceMax"):
        return None
    if not axes:
        return [data]
    if ctx.node.op_type in ("ReduceSum", "ReduceProd") and not _is_exact_in_any_order(data, ctx.node.op_type):
        return None
    reduced = _REDUCTIONS[ctx.node.op_type](data, axis=axes, keepdims=bool(ctx.attr("keepdims", 1)))
    return [np.asarray(reduced).astype(data.dtype, copy=False)]


def _is_exact_in_any_order(data: Array, op_type: str) -> bool:
    """Whether a sum or product of any of these numbers is exact: whole numbers, the largest result of which is so too.

    Floats are added in an order, and in a precision, that is the provider's own.
    """
    if data.dtype.kind != "f":
        return True
    largest = np.abs(data.astype(np.float64))
    total = np.sum(largest) if op_type == "ReduceSum" else np.prod(np.maximum(largest, 1))
    return bool((data == np.trunc(data)).all() and total < 2 ** (np.finfo(data.dtype).nmant + 1))


@evaluator("CumSum")
def cumulative_sum(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, axis = _given(arrays)
    if ctx.attr("exclusive", 0) or ctx.attr("reverse", 0) or not _is_exact_in_any_order(data, "ReduceSum"):
        return None
    return [np.cumsum(data, axis=int(axis.reshape(-1)[0]), dtype=data.dtype)]
