"""Operators whose outputs follow input 0 or the broadcast of all inputs."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError, broadcast, dtype_of_code, normalise_axis
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, TensorType, ValueType


@shape_function(
    *("Abs", "Acos", "Acosh", "Affine", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos"),
    *("Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
    *("Identity", "LRN", "LeakyRelu", "Log", "MeanVarianceNormalization", "Mish"),
    *(
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "ReverseSequence",
        "Round",
        "Scatter",
        "ScatterElements",
        "ScatterND",
        "Selu",
    ),
    *("Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh"),
    *("TensorScatter", "ThresholdedRelu", "Trilu"),
)
def same_as_first(ctx: NodeContext) -> Sequence[ValueType]:
    return [ctx.type(0)]


@shape_function("Hardmax", "LogSoftmax", "Softmax", "LpNormalization")
def along_axis(ctx: NodeContext) -> Sequence[ValueType]:
    axis, rank = ctx.attr("axis", -1), len(ctx.shape(0))
    behind_last = ctx.opset < 13 and axis == rank  # then axes from `axis` on count, which may be none
    if rank and not behind_last:
        normalise_axis(axis, rank)
    return [ctx.type(0)]


@shape_function("CumProd", "CumSum")
def cumulate(ctx: NodeContext) -> Sequence[ValueType]:
    axis = ctx.content(1)
    if axis is not None and axis.size == 1:
        normalise_axis(int(axis.reshape(-1)[0]), len(ctx.shape(0)))
    return [ctx.type(0)]


def broadcast_inputs(ctx: NodeContext) -> tuple[int, ...]:
    """The broadcast shape of all inputs."""
    return broadcast(*(ctx.shape(i) for i in range(ctx.input_count)))


@shape_function("Add", "Sub", "Mul", "Div", "Pow")
def arithmetic(ctx: NodeContext) -> Sequence[ValueType]:
    first, second = ctx.tensor(0), ctx.tensor(1)
    if ctx.opset < 7 or second.shape == first.shape or second.shape == ():
        return [first]  # before opset 7 only input 1 was ever broadcast
    return [TensorType(first.dtype, broadcast(ctx.shape(0), ctx.shape(1)))]


@shape_function("Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Max", "Min", "Mean", "Sum")
def variadic(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(0), broadcast_inputs(ctx))]


def _boolean(ctx: NodeContext) -> Sequence[DType]:
    return [DType.BOOL]


@shape_function(
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    dtypes=_boolean,
)
def predicate(ctx: NodeContext) -> Sequence[ValueType]:
    if ctx.opset < 7:
        return [TensorType(DType.BOOL, ctx.shape(0))]
    return [TensorType(DType.BOOL, broadcast_inputs(ctx))]


@shape_function("IsNaN", "IsInf", dtypes=_boolean)
def classify(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(DType.BOOL, ctx.shape(0))]


@shape_function("Where", dtypes=lambda ctx: [ctx.dtype(1)])
def where(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(1), broadcast_inputs(ctx))]


@shape_function("PRelu")
def prelu(ctx: NodeContext) -> Sequence[ValueType]:
    shape, slope = ctx.shape(0), ctx.shape(1)
    if ctx.opset >= 7 and broadcast(shape, slope) != shape:
        raise ShapeMismatchError(f"the slope {list(slope)} must broadcast to the input {list(shape)}")
    return [ctx.type(0)]


@shape_function("Cast", dtypes=lambda ctx: [_cast_target(ctx)])
def cast(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(_cast_target(ctx), ctx.shape(0))]


def _cast_target(ctx: NodeContext) -> DType:
    target = ctx.attr("to")
    if target is None:
        raise ShapeMismatchError("the attribute 'to' is required")
    if isinstance(target, str):  # opset 1 to 5 name the type
        names = {"FLOAT": "FLOAT32", "DOUBLE": "FLOAT64"}
        name = names.get(target.upper(), target.upper())
        if name not in DType.__members__:
            raise ShapeMismatchError(f"there is no element type '{target}'")
        return DType[name]
    return dtype_of_code(target)


@shape_function("CastLike", dtypes=lambda ctx: [ctx.dtype(1)])
def cast_like(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(1), ctx.shape(0))]


@shape_function("BitCast", dtypes=lambda ctx: [dtype_of_code(ctx.attr("to", 0))])
def bit_cast(ctx: NodeContext) -> Sequence[ValueType]:
    target, own = dtype_of_code(ctx.attr("to", 0)), ctx.dtype(0)
    if target.bits != own.bits:
        raise ShapeMismatchError(f"{own.label} and {target.label} differ in width")
    return [TensorType(target, ctx.shape(0))]


@shape_function("Dropout")
def dropout(ctx: NodeContext) -> Sequence[ValueType]:
    mask = DType.BOOL if ctx.opset >= 10 else ctx.dtype(0)
    return [ctx.type(0), TensorType(mask, ctx.shape(0))]
