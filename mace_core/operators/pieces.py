"""Small steps that several bodies take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Value
from mace_core.operators.bodies import BodyBuilder
from mace_core.tensor import DType

ALLOWZERO_SINCE = 14


def cut(b: BodyBuilder, value: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Elements ``start`` until ``stop`` of an axis."""
    bounds = [b.constant([number], np.int64) for number in (start, stop, axis, step)]
    return b.op("Slice", [value, *bounds])


def shaped(b: BodyBuilder, value: Value, shape: Sequence[int], *, into: Value | None = None) -> Value:
    """The elements in another shape."""
    # a 0 stands for the input's own dimension unless Reshape is told otherwise
    attributes = {"allowzero": 1} if 0 in shape and b.opset >= ALLOWZERO_SINCE else {}
    return b.op("Reshape", [value, b.constant(list(shape), np.int64)], attributes, into=into)


def joined(b: BodyBuilder, parts: Sequence[Value], axis: int, *, into: Value | None = None) -> Value:
    """The parts one after the other along an axis."""
    return b.op("Concat", list(parts), {"axis": axis}, into=into)


def turned(b: BodyBuilder, value: Value, order: Sequence[int], *, into: Value | None = None) -> Value:
    """The axes in another order."""
    return b.op("Transpose", [value], {"perm": list(order)}, into=into)


def cast(b: BodyBuilder, value: Value, dtype: DType, *, into: Value | None = None) -> Value:
    """The elements in another type."""
    return b.op("Cast", [value], {"to": dtype.value}, into=into)


def dtype_of(b: BodyBuilder, value: Value) -> DType:
    """The element type of one of the node's inputs; float32 where it is not known."""
    found = b.view.tensor_type(value)
    return DType.FLOAT32 if found is None else found.dtype


def channels_first(rank: int) -> list[int]:
    """The order of axes that turns (B, ..., C) into (B, C, ...)."""
    return [0, rank - 1, *range(1, rank - 1)]


def channels_last(rank: int) -> list[int]:
    """The order of axes that turns (B, C, ...) into (B, ..., C)."""
    return [0, *range(2, rank), 1]


def scaled(b: BodyBuilder, number: float, value: Value) -> Value:
    """``number`` times the value."""
    return b.op("Mul", [b.scalar_like(number, value), value])


def cast_like(b: BodyBuilder, value: Value, other: Value) -> Value:
    """The value in the element type of another one of the node's."""
    return cast(b, value, dtype_of(b, other))
