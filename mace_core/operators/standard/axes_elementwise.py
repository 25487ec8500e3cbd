"""How elementwise operators, normalizations, reductions and quantization move with the axes of their inputs."""

from __future__ import annotations

from mace_core.graph import Value
from mace_core.operators.axis_maps import (
    AsConvolution,
    AxisMap,
    AxisNames,
    broadcast_order,
    same_order,
    singles,
    without,
)
from mace_core.operators.context import normalize_axis
from mace_core.operators.independence import AxesContext, is_single
from mace_core.operators.registry import axis_map
from mace_core.operators.standard.independent_elementwise import (
    AXIS_IS_ONE_SINCE,
    BROADCASTING,
    BROADCASTS_SINCE,
    UNARY,
)
from mace_core.operators.standard.reduction import reduction_axes
from mace_core.tensor import DType

AXES_ARE_AN_INPUT_SINCE = {"ReduceSum": 13}
"""Of reductions; of all others, `REDUCTION_INPUT`."""

REDUCTION_INPUT = 18


@axis_map(*UNARY)
def unary(ctx: AxesContext) -> AxisMap:
    """Further inputs are numbers: bounds, or only a type."""
    return same_order(ctx)


@axis_map(*BROADCASTING)
def broadcasting(ctx: AxesContext) -> AxisMap | None:
    return broadcast_order(ctx) if ctx.opset >= BROADCASTS_SINCE else None


# --- along an axis ----------------------------------------------------------------------------------------------------


@axis_map("Hardmax", "LogSoftmax", "Softmax")
def along_axis(ctx: AxesContext) -> AxisMap | None:
    if ctx.opset < AXIS_IS_ONE_SINCE:
        return None  # from the axis on, all are one
    return same_order(ctx, _axis(ctx, -1))


@axis_map("LpNormalization")
def normalization(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, _axis(ctx, -1))


@axis_map("TopK")
def largest(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, _axis(ctx, -1))


@axis_map("CumProd", "CumSum")
def cumulate(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, AxisNames(1, (normalize_axis(ctx.ints(1)[0], len(ctx.shape(0))),)))


def _axis(ctx: AxesContext, default: int) -> AxisNames:
    return AxisNames("axis", (normalize_axis(ctx.attr("axis", default), len(ctx.shape(0))),))


@axis_map(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
def reduce(ctx: AxesContext) -> AxisMap:
    rank = len(ctx.shape(0))
    axes = reduction_axes(ctx, rank)
    is_input = ctx.opset >= AXES_ARE_AN_INPUT_SINCE.get(ctx.node.op_type, REDUCTION_INPUT)
    given = ctx.has(1) and ctx.ints(1) if is_input else ctx.attr("axes")
    edits = (AxisNames(1 if is_input else "axes", axes, plural=True),) if given else ()
    outputs = singles(rank) if ctx.attr("keepdims", 1) else without(rank, axes)
    return AxisMap(rank, {0: singles(rank)}, {0: outputs}, edits=edits)


@axis_map("ArgMax", "ArgMin")
def arg_reduce(ctx: AxesContext) -> AxisMap:
    rank, named = len(ctx.shape(0)), _axis(ctx, 0)
    outputs = singles(rank) if ctx.attr("keepdims", 1) else without(rank, named.axes)
    return AxisMap(rank, {0: singles(rank)}, {0: outputs}, edits=(named,))


# --- normalization ----------------------------------------------------------------------------------------------------


@axis_map("BatchNormalization")
def batch_normalization(ctx: AxesContext) -> AxisMap | None:
    if ctx.outputs != (0,) or ctx.attr("training_mode", 0) or not ctx.attr("spatial", 1) or len(ctx.shape(0)) < 2:
        return None
    return same_order(ctx, pinned={1})


@axis_map("GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization")
def of_channels(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, pinned={0, 1})


@axis_map("LRN")
def local_response(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, pinned={1})


@axis_map("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(ctx: AxesContext) -> AxisMap | None:
    rank = len(ctx.shape(0))
    first = normalize_axis(ctx.attr("axis", -1), rank)
    if any(ctx.has(index) and len(ctx.shape(index)) > rank - first for index in (1, 2)):
        return None
    return same_order(ctx, pinned=range(first, rank))


# --- quantization -----------------------------------------------------------------------------------------------------


@axis_map("DequantizeLinear", "QuantizeLinear")
def quantize(ctx: AxesContext) -> AxisMap | None:
    if is_single(ctx, 1):
        return same_order(ctx)
    if ctx.attr("block_size", 0) or len(ctx.shape(1)) != 1:
        return None
    return same_order(ctx, _axis(ctx, 1))


# --- products ---------------------------------------------------------------------------------------------------------


CONVOLUTIONS = range(4, 6)
"""Ranks of products that may be convolutions of images or volumes: of sequences, matrices are as good."""


@axis_map("MatMul")
def product(ctx: AxesContext) -> AxisMap | None:
    """What is multiplied stays last; rows of a product with one matrix may be in any order."""
    rank, other = len(ctx.shape(0)), len(ctx.shape(1))
    if rank > 2 and other == 2:
        return _rows(ctx, "Conv", is_convolution=ctx.dtype(0) in (DType.FLOAT32, DType.FLOAT16))
    if min(rank, other) < 2:
        return None
    return broadcast_order(ctx, pinned={len(ctx.result()) - 2, len(ctx.result()) - 1})


@axis_map("MatMulInteger")
def integer_product(ctx: AxesContext) -> AxisMap | None:
    """As `product`; zero points are numbers, or such of columns."""
    rank, other = len(ctx.shape(0)), len(ctx.shape(1))
    has_numbers = all(not ctx.has(index) or ctx.shape(index) == () for index in (2, 3))
    if rank > 2 and other == 2 and is_single(ctx, 2) and (not ctx.has(3) or len(ctx.shape(3)) < 2):
        return _rows(ctx, "ConvInteger", is_convolution=has_numbers)
    if min(rank, other) < 2 or not has_numbers:
        return None
    return broadcast_order(ctx, pinned={len(ctx.result()) - 2, len(ctx.result()) - 1})


def _rows(ctx: AxesContext, operator: str, *, is_convolution: bool) -> AxisMap:
    """Of rows times one matrix; with channels second it is a convolution, if the matrix is known before the run."""
    last = len(ctx.shape(0)) - 1
    if is_convolution and last + 1 in CONVOLUTIONS and _is_known(ctx.node.inputs[1]):
        return same_order(ctx, AsConvolution(operator), pinned={last}, movable={last: 1})
    return same_order(ctx, pinned={last})


def _is_known(value: Value | None) -> bool:
    """Whether a value is a constant, or one whose elements are moved or converted."""
    while value is not None and value.constant is None:
        node = value.producer
        if node is None or node.domain or node.op_type not in ("Cast", "Identity", "Reshape", "Transpose"):
            return False
        value = node.input(0)
    return value is not None
