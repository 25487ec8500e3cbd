"""Contents of small tensors: shapes of others, constants, and rearrangement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph.shapes.context import Array, NodeContext
from mace_core.graph.shapes.creation import shape_content
from mace_core.graph.shapes.movement import pad_amounts, slice_ranges, split_sizes
from mace_core.graph.shapes.registry import evaluator
from mace_core.tensor import DType, Tensor, TensorType

Contents = list[Array | None]


def _first(arrays: Contents) -> Array:
    found = arrays[0]
    assert found is not None  # the shape function has required it
    return found


def _second(arrays: Contents) -> Array:
    found = arrays[1]
    assert found is not None
    return found


def _output_shape(ctx: NodeContext, index: int = 0) -> tuple[int, ...] | None:
    value = ctx.node.output(index)
    found = ctx.resolver.types[value] if value is not None else None
    return found.concrete_shape if isinstance(found, TensorType) else None


@evaluator("Shape")
def shape(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.array(shape_content(ctx), np.int64)]


@evaluator("Size")
def size(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.array(np.prod(ctx.shape(0), dtype=np.int64))]


@evaluator("Constant")
def constant(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    value = ctx.attr("value")
    if isinstance(value, Tensor):
        return None if value.dtype is DType.STRING else [value.numpy()]
    for name, dtype in (("value_int", np.int64), ("value_float", np.float32)):
        for found in (ctx.attr(name), ctx.attr(name + "s")):
            if found is not None:
                return [np.array(found, dtype)]
    return None


@evaluator("ConstantOfShape")
def constant_of_shape(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    value = ctx.attr("value")
    if isinstance(value, Tensor):
        return None if value.dtype is DType.STRING else [np.full(ctx.ints(0), value.numpy().reshape(-1)[0])]
    return [np.zeros(ctx.ints(0), np.float32)]


@evaluator("Range")
def range_(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    start, delta = _first(arrays).reshape(-1)[0], arrays[2]
    wanted = _output_shape(ctx)
    if delta is None or wanted is None:
        return None
    steps = np.arange(wanted[0], dtype=np.float64 if start.dtype.kind == "f" else np.int64)
    return [(start + steps * delta.reshape(-1)[0]).astype(start.dtype)]


@evaluator("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    wanted = _output_shape(ctx)
    return None if wanted is None else [_first(arrays).reshape(wanted)]


@evaluator("Expand")
def expand(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    wanted = _output_shape(ctx)
    return None if wanted is None else [np.array(np.broadcast_to(_first(arrays), wanted))]


@evaluator("Transpose")
def transpose(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.transpose(_first(arrays), ctx.attr("perm"))]


@evaluator("Concat")
def concat(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.concatenate([a for a in arrays if a is not None], axis=ctx.attr("axis", 1))]


@evaluator("Slice")
def slice_(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = _first(arrays)
    ranges = slice_ranges(ctx, data.shape)
    return [data[tuple(ranges.get(axis, slice(None)) for axis in range(data.ndim))]]


@evaluator("Split")
def split(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = _first(arrays)
    axis = ctx.attr("axis", 0)
    return np.split(data, np.cumsum(split_sizes(ctx, data.shape[axis]))[:-1], axis)


@evaluator("Gather")
def gather(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, indices = _first(arrays), _second(arrays)
    axis = ctx.attr("axis", 0)
    if indices.size and not -data.shape[axis] <= indices.min() <= indices.max() < data.shape[axis]:
        return None
    return [np.take(data, indices, axis)]


@evaluator("GatherElements")
def gather_elements(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, indices = _first(arrays), _second(arrays)
    axis = ctx.attr("axis", 0)
    if indices.size and not -data.shape[axis] <= indices.min() <= indices.max() < data.shape[axis]:
        return None
    return [np.take_along_axis(data, indices, axis)] if data.shape == indices.shape else None


@evaluator("Tile")
def tile(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return None if ctx.opset < 6 else [np.tile(_first(arrays), ctx.ints(1))]


@evaluator("Pad")
def pad(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = _first(arrays)
    amounts = pad_amounts(ctx, data.ndim)
    if ctx.attr("mode", "constant") != "constant" or any(min(pair) < 0 for pair in amounts):
        return None
    fill = arrays[2] if len(arrays) > 2 else None
    value = ctx.attr("value", 0.0) if fill is None else fill.reshape(-1)[0]
    return [np.pad(data, amounts, constant_values=value)]


@evaluator("NonZero")
def non_zero(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.array(np.nonzero(np.atleast_1d(_first(arrays))), np.int64)]


@evaluator("ScatterND")
def scatter(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, indices, updates = np.array(_first(arrays)), _second(arrays), arrays[2]
    if updates is None or ctx.attr("reduction", "none") != "none":
        return None
    positions = np.moveaxis(indices, -1, 0)
    limits = np.array(data.shape[: positions.shape[0]]).reshape((-1,) + (1,) * (positions.ndim - 1))
    if ((positions < -limits) | (positions >= limits)).any():
        return None
    data[tuple(positions)] = updates
    return [data]
