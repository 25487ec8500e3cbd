"""Contents of small tensors: arithmetic, comparison, reduction, casts."""

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


def _comparison(function: Callable[..., Any]) -> Evaluator:
    def evaluate(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
        return None if ctx.opset < 7 else [np.asarray(function(*_given(arrays)))]

    return evaluate


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Pow": np.power,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Identity": lambda x: x,
}
for _name, _function in _ARITHMETIC.items():
    evaluator(_name)(_elementwise(_function))

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
    result = operands[0]
    for operand in operands[1:]:
        result = np.asarray(function(result, operand))
    return [result]


@evaluator("Clip")
def clip(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = _given(arrays)[0]
    lowest = arrays[1] if len(arrays) > 1 else ctx.attr("min")
    highest = arrays[2] if len(arrays) > 2 else ctx.attr("max")
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
    return [_given(arrays)[0].astype(dtype.numpy)]


_PLAIN = frozenset(
    {DType.BOOL, DType.FLOAT16, DType.FLOAT32, DType.FLOAT64, DType.INT8, DType.INT16, DType.INT32, DType.INT64}
    | {DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64}
)


@evaluator("CastLike")
def cast_like(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, like = _given(arrays)
    return [data.astype(like.dtype)]


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
    reduced = _REDUCTIONS[ctx.node.op_type](data, axis=axes, keepdims=bool(ctx.attr("keepdims", 1)))
    return [np.asarray(reduced).astype(data.dtype, copy=False)]


@evaluator("CumSum")
def cumulative_sum(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, axis = _given(arrays)
    if ctx.attr("exclusive", 0) or ctx.attr("reverse", 0):
        return None
    return [np.cumsum(data, axis=int(axis.reshape(-1)[0]), dtype=data.dtype)]
