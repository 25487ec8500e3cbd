"""Operators that make tensors: constants, ranges, and the shape of others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_core.operators.checks import expect_rank, lists, singles
from mace_core.operators.context import Array, Ints, NodeContext, ShapeMismatchError
from mace_core.operators.evaluation import Contents, first_content, output_shape
from mace_core.operators.registry import agreement, evaluator, shape_function, symbolic_evaluator
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import as_objects

# --- shapes -----------------------------------------------------------------------------------------------------------


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
    start, limit, delta = (ctx.array(i).reshape(-1).tolist()[0] for i in range(3))
    if delta == 0:
        raise ShapeMismatchError("the step of a Range cannot be 0")
    exact = isinstance(delta, int)
    if not exact and not all(map(math.isfinite, (start, limit, delta))):
        raise ShapeMismatchError(f"a Range from {start} to {limit} by {delta} has no number of elements")
    count = -((start - limit) // delta) if exact else math.ceil((limit - start) / delta)
    return [TensorType(ctx.dtype(0), (max(count, 0),))]


# --- agreement --------------------------------------------------------------------------------------------------------

agreement("ConstantOfShape")(lists(0))

agreement("Range")(singles(start=0, limit=1, step=2))


@agreement("EyeLike")
def check_eye_like(ctx: NodeContext) -> None:
    expect_rank(ctx, 0, 2, "the data")


# --- evaluation -------------------------------------------------------------------------------------------------------


@evaluator("Shape", reads_contents=False)
def evaluate_shape(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.array(shape_content(ctx), np.int64)]


@evaluator("Size", reads_contents=False)
def evaluate_size(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.array(np.prod(ctx.shape(0), dtype=np.int64))]


@symbolic_evaluator("Shape")
def evaluate_symbolic_shape(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    sizes = shape_content(ctx)
    return [as_objects(list(sizes), (len(sizes),))]


@symbolic_evaluator("Size")
def evaluate_symbolic_size(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [as_objects([math.prod(ctx.shape(0))], ())]


@evaluator("Constant")
def evaluate_constant(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    value = ctx.attr("value")
    if isinstance(value, Tensor):
        return None if value.dtype is DType.STRING else [value.numpy()]
    for name, dtype in (("value_int", np.int64), ("value_float", np.float32)):
        for found in (ctx.attr(name), ctx.attr(name + "s")):
            if found is not None:
                return [np.array(found, dtype)]
    return None


@evaluator("ConstantOfShape")
def evaluate_constant_of_shape(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    value = ctx.attr("value")
    if isinstance(value, Tensor):
        return None if value.dtype is DType.STRING else [np.full(ctx.ints(0), value.numpy().reshape(-1)[0])]
    return [np.zeros(ctx.ints(0), np.float32)]


@evaluator("Range")
def evaluate_range(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    start, delta = first_content(arrays).reshape(-1)[0], arrays[2]
    wanted = output_shape(ctx)
    if delta is None or wanted is None:
        return None
    steps = np.arange(wanted[0], dtype=np.float64 if start.dtype.kind == "f" else np.int64)
    return [(start + steps * delta.reshape(-1)[0]).astype(start.dtype)]


@symbolic_evaluator("Range")
def evaluate_symbolic_range(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    start, delta = first_content(arrays).reshape(-1).tolist()[0], arrays[2]
    wanted = output_shape(ctx)
    if delta is None or wanted is None or ctx.dtype(0).is_float:
        return None
    step = delta.reshape(-1).tolist()[0]
    return [as_objects([start + index * step for index in range(wanted[0])], wanted)]
