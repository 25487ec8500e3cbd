"""Operators that make tensors: constants, ranges, random numbers, and the shape of others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph.shapes.context import Ints, NodeContext, ShapeMismatchError, dtype_of_code
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, Tensor, TensorType, ValueType


@shape_function("Constant")
def constant(ctx: NodeContext) -> Sequence[ValueType]:
    for name, attribute in ctx.node.attributes.items():
        value = attribute.value
        if name == "value" and isinstance(value, Tensor):
            return [TensorType(value.dtype, value.shape)]
        if name == "sparse_value":
            return [TensorType(value[0].dtype, tuple(value[2]))]
        if name in _CONSTANT_KINDS:
            shape = (len(value),) if name.endswith("s") else ()
            return [TensorType(_CONSTANT_KINDS[name], shape)]
    raise ShapeMismatchError("one of the attributes value, value_int(s), value_float(s), value_string(s) is required")


_CONSTANT_KINDS = {
    "value_int": DType.INT64,
    "value_ints": DType.INT64,
    "value_float": DType.FLOAT32,
    "value_floats": DType.FLOAT32,
    "value_string": DType.STRING,
    "value_strings": DType.STRING,
}


def _fill_dtype(ctx: NodeContext) -> DType:
    value = ctx.attr("value")
    return value.dtype if isinstance(value, Tensor) else DType.FLOAT32


@shape_function("ConstantOfShape", dtypes=lambda ctx: [_fill_dtype(ctx)])
def constant_of_shape(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.ints(0)
    if any(dim < 0 for dim in shape):
        raise ShapeMismatchError(f"the shape {list(shape)} has a negative dimension")
    return [TensorType(_fill_dtype(ctx), shape)]


@shape_function("Shape", dtypes=lambda ctx: [DType.INT64])
def shape_(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(DType.INT64, (len(shape_content(ctx)),))]


def shape_content(ctx: NodeContext) -> Ints:
    """The dimensions that a Shape node returns."""
    return ctx.shape(0)[ctx.attr("start", 0) : ctx.attr("end")]


@shape_function("Size", dtypes=lambda ctx: [DType.INT64])
def size(ctx: NodeContext) -> Sequence[ValueType]:
    ctx.tensor(0)
    return [TensorType(DType.INT64, ())]


@shape_function("Range")
def range_(ctx: NodeContext) -> Sequence[ValueType]:
    ctx.require_contents(0, 1, 2)
    start, limit, delta = (ctx.array(i).reshape(-1)[0].item() for i in range(3))
    if delta == 0:
        raise ShapeMismatchError("the step of a Range cannot be 0")
    if not all(map(math.isfinite, (start, limit, delta))):
        raise ShapeMismatchError(f"a Range from {start} to {limit} by {delta} has no number of elements")
    exact = isinstance(delta, int)
    count = -((start - limit) // delta) if exact else math.ceil((limit - start) / delta)
    return [TensorType(ctx.dtype(0), (max(count, 0),))]


def _chosen_dtype(ctx: NodeContext) -> DType:
    """The ``dtype`` attribute, else the element type of input 0, else float32."""
    chosen = ctx.attr("dtype")
    if chosen:
        return dtype_of_code(chosen)
    return ctx.dtype(0) if ctx.has(0) else DType.FLOAT32


@shape_function("RandomNormal", "RandomUniform")
def random(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(_chosen_dtype(ctx), tuple(ctx.attr("shape", ())))]


@shape_function("Multinomial", dtypes=lambda ctx: [dtype_of_code(ctx.attr("dtype", DType.INT32.value))])
def multinomial(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if len(shape) != 2:
        raise ShapeMismatchError("the logarithms must be (batch, classes)")
    return [TensorType(dtype_of_code(ctx.attr("dtype", DType.INT32.value)), (shape[0], ctx.attr("sample_size", 1)))]


@shape_function("RandomNormalLike", "RandomUniformLike", "Bernoulli", "EyeLike")
def like_first(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(_chosen_dtype(ctx), ctx.shape(0))]
