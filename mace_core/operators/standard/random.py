"""Random numbers and draws."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import LARGEST_NUMBER, Empty, numbers
from mace_core.operators.context import NodeContext, ShapeMismatchError, chosen_dtype, dtype_of_code
from mace_core.operators.registry import declare_random, shape_function
from mace_core.tensor import DType, TensorType, ValueType

declare_random("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")

attribute_rules("RandomNormal", "RandomUniform", rules={"shape": numbers(0, LARGEST_NUMBER, Empty.ALLOWED)})


@shape_function("RandomNormal", "RandomUniform")
def random(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(chosen_dtype(ctx), tuple(ctx.attr("shape", ())))]


@shape_function("Multinomial", dtypes=lambda ctx: [dtype_of_code(ctx.attr("dtype", DType.INT32.value))])
def multinomial(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if len(shape) != 2:
        raise ShapeMismatchError("the logarithms must be (batch, classes)")
    return [TensorType(dtype_of_code(ctx.attr("dtype", DType.INT32.value)), (shape[0], ctx.attr("sample_size", 1)))]


@shape_function("RandomNormalLike", "RandomUniformLike", "Bernoulli", "EyeLike")
def like_first(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(chosen_dtype(ctx), ctx.shape(0))]
