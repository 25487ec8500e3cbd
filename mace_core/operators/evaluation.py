"""What evaluators share: contents of inputs, some of which are left out."""

from __future__ import annotations

from mace_core.operators.context import Array, NodeContext
from mace_core.tensor import TensorType

Contents = list[Array | None]


def first_content(arrays: Contents) -> Array:
    found = arrays[0]
    assert found is not None  # the shape function has required it
    return found


def second_content(arrays: Contents) -> Array:
    found = arrays[1]
    assert found is not None
    return found


def output_shape(ctx: NodeContext, index: int = 0) -> tuple[int, ...] | None:
    value = ctx.node.output(index)
    found = ctx.resolver.types[value] if value is not None else None
    return found.concrete_shape if isinstance(found, TensorType) else None


def given_contents(arrays: Contents) -> list[Array]:
    return [array for array in arrays if array is not None]
