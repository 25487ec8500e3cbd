"""Independent axes of elementwise operators, normalizations, reductions and quantization."""

from __future__ import annotations

from collections.abc import Iterator

from mace_core.operators.context import normalize_axis
from mace_core.operators.independence import AxesContext, Lane, broadcast_axes, is_single, same_axes
from mace_core.operators.registry import independent_axes
from mace_core.operators.standard.reduction import reduction_axes

BROADCASTS_SINCE = 7
"""The opset since which binary operators broadcast as numpy does."""

AXIS_IS_ONE_SINCE = 13
"""The opset since which Softmax and its kin look at one axis; before, at all from one on."""


UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "CastLike", "Ceil"),
    *("Celu", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink"),
    *("Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"),
)
"""Operators that compute each element of their result from the same element of input 0, and from numbers."""

BROADCASTING = (
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"),
    *("Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"),
)
"""Operators whose inputs are broadcast to their result."""


@independent_axes(*UNARY)
def unary(ctx: AxesContext) -> Iterator[Lane]:
    return same_axes(ctx)


@independent_axes(*BROADCASTING)
def broadcasting(ctx: AxesContext) -> Iterator[Lane]:
    if ctx.opset >= BROADCASTS_SINCE or all(ctx.shape(i) == ctx.shape(0) for i in range(ctx.input_count)):
        yield from broadcast_axes(ctx)


# --- along an axis ----------------------------------------------------------------------------------------------------


@independent_axes("Hardmax", "LogSoftmax", "Softmax")
def along_axis(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.shape(0))
    if ctx.opset >= AXIS_IS_ONE_SINCE:
        return same_axes(ctx, {ctx.attr("axis", -1) % max(rank, 1)})
    axis = ctx.attr("axis", 1)
    return same_axes(ctx, range(axis + rank if axis < 0 else axis, rank))


@independent_axes("LpNormalization", "TopK")
def along_last(ctx: AxesContext) -> Iterator[Lane]:
    return same_axes(ctx, {normalize_axis(ctx.attr("axis", -1), len(ctx.shape(0)))})


@independent_axes("CumProd", "CumSum")
def cumulate(ctx: AxesContext) -> Iterator[Lane]:
    return same_axes(ctx, {normalize_axis(ctx.ints(1)[0], len(ctx.shape(0)))})


@independent_axes(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
def reduce(ctx: AxesContext) -> Iterator[Lane]:
    return _kept(ctx, set(reduction_axes(ctx, len(ctx.shape(0)))))


@independent_axes("ArgMax", "ArgMin")
def arg_reduce(ctx: AxesContext) -> Iterator[Lane]:
    return _kept(ctx, {normalize_axis(ctx.attr("axis", 0), len(ctx.shape(0)))})


def _kept(ctx: AxesContext, reduced: set[int]) -> Iterator[Lane]:
    """Lanes of the axes that are not reduced."""
    kept = [axis for axis in range(len(ctx.shape(0))) if axis not in reduced]
    keeps = bool(ctx.attr("keepdims", 1))
    for place, axis in enumerate(kept):
        yield Lane(((0, axis),), ((0, axis if keeps else place),))


# --- normalization ----------------------------------------------------------------------------------------------------


@independent_axes("BatchNormalization")
def batch_normalization(ctx: AxesContext) -> Iterator[Lane]:
    if ctx.outputs != (0,) or ctx.attr("training_mode", 0) or not ctx.attr("spatial", 1):
        return
    yield from same_axes(ctx, {1})
    if len(ctx.shape(0)) > 1:
        yield Lane(((0, 1), (1, 0), (2, 0), (3, 0), (4, 0)), ((0, 1),))


@independent_axes("InstanceNormalization")
def instance_normalization(ctx: AxesContext) -> Iterator[Lane]:
    yield Lane(((0, 0),), ((0, 0),))
    yield Lane(((0, 1), (1, 0), (2, 0)), ((0, 1),))


@independent_axes("GroupNormalization")
def group_normalization(ctx: AxesContext) -> Iterator[Lane]:
    yield Lane(((0, 0),), ((0, 0),))


@independent_axes("LRN")
def local_response(ctx: AxesContext) -> Iterator[Lane]:
    return same_axes(ctx, {1})


@independent_axes("MeanVarianceNormalization")
def mean_variance(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.shape(0))
    return same_axes(ctx, {normalize_axis(axis, rank) for axis in ctx.attr("axes", (0, 2, 3))})


@independent_axes("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(ctx: AxesContext) -> Iterator[Lane]:
    shape = ctx.shape(0)
    first = normalize_axis(ctx.attr("axis", -1), len(shape))
    for axis in range(first):
        places = [(0, axis)]
        for index in (1, 2):  # scale and bias, broadcast to the data
            own = axis - len(shape) + len(ctx.shape(index)) if ctx.has(index) else -1
            if own >= 0 and ctx.shape(index)[own] == shape[axis]:
                places.append((index, own))
        yield Lane(tuple(places), tuple((output, axis) for output in ctx.outputs))


# --- quantization -----------------------------------------------------------------------------------------------------


@independent_axes("DequantizeLinear", "QuantizeLinear")
def quantize(ctx: AxesContext) -> Iterator[Lane]:
    if is_single(ctx, 1):
        yield from same_axes(ctx)
        return
    rank = len(ctx.shape(0))
    if ctx.attr("block_size", 0) or len(ctx.shape(1)) != 1:
        return
    along = normalize_axis(ctx.attr("axis", 1), rank) if rank > 1 else 0
    yield from same_axes(ctx, {along})
    scales = tuple((index, 0) for index in (1, 2) if ctx.has(index))
    yield Lane(((0, along), *scales), ((0, along),))
