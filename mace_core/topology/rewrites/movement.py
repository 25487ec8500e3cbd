"""Operators that move elements, in the forms that more devices have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import given, kept, made
from mace_core.topology.axes import TURN, grouped_axes, order_of, turns
from mace_core.topology.rule import RuleBuilder, rule

_MOST_PIECES = 64


@rule("Reshape to the shape itself", "Reshape", "Flatten", "Squeeze", "Unsqueeze", exact=True)
def static_reshape(b: RuleBuilder, node: Node) -> bool:
    """-1 and 0 are decided by the shapes given; what only changes the shape is a Reshape."""
    shape = b.shape(made(node))
    if node.op_type == "Reshape":
        asked = node.attr("shape") or b.content(node.input(1))
        if asked is not None and [int(size) for size in asked] == list(shape):
            return False
    b.reshaped(given(node, 0), shape, into=made(node))
    return True


@rule("Transpose of fewer axes", "Transpose", exact=True)
def fewer_axes(b: RuleBuilder, node: Node) -> bool:
    """Axes of size one are left out, and axes that stay neighbors are one."""
    x, shape = given(node, 0), b.shape(given(node, 0))
    sizes, moves = grouped_axes(shape, order_of(node, len(shape)))
    if len(sizes) >= len(shape):
        return False
    merged = x if len(sizes) < 2 else b.turned(b.reshaped(x, sizes), moves)
    b.reshaped(merged, b.shape(made(node)), into=made(node))
    return True


@rule("Transpose of many axes, one axis after the other", "Transpose", exact=True)
def one_by_one(b: RuleBuilder, node: Node) -> bool:
    """Each turn brings one axis to its place: a Transpose of at most four groups of axes."""
    value, shape = given(node, 0), b.shape(given(node, 0))
    if len(shape) < 5 or len(shape) > 12:
        return False
    shapes = list(turns(shape, order_of(node, len(shape))))
    if not shapes:
        return False
    for grouped in shapes:
        value = b.turned(b.reshaped(value, grouped), TURN)
    b.reshaped(value, b.shape(made(node)), into=made(node))
    return True


@rule("Slice backwards as Gather", "Slice", exact=True)
def backwards(b: RuleBuilder, node: Node) -> bool:
    x, shape = given(node, 0), b.shape(given(node, 0))
    starts = list(node.attr("starts") or b.ints(1))
    stops = list(node.attr("ends") or b.ints(2))
    axes = list(node.attr("axes") or b.ints(3) or range(len(starts)))
    steps = b.ints(4) or [1] * len(starts)
    if not any(step < 0 for step in steps):
        return False
    value = x
    pieces = list(zip(starts, stops, axes, steps, strict=True))
    for index, (start, stop, axis, step) in enumerate(pieces):
        axis %= len(shape)
        places = np.arange(shape[axis])[slice(*_bounds(start, stop, step, shape[axis]))]
        into = made(node) if index == len(pieces) - 1 else None
        value = b.op("Gather", [value, b.constant(places.astype(np.int64))], {"axis": axis}, into=into)
    return True


def _bounds(start: int, stop: int, step: int, size: int) -> tuple[int | None, int | None, int]:
    """As Python's slices have them: ONNX means before the first element by a very small number."""
    if step < 0:
        last = stop + size if stop < 0 else stop
        first = min(start + size if start < 0 else start, size - 1)
        return first, None if last < 0 else last, step
    return start, stop, step


@rule("Split as slices", "Split", exact=True)
def split_as_slices(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    axis = int(node.attr("axis", 0)) % len(b.shape(x))
    if len(node.outputs) > _MOST_PIECES or any(output is None for output in node.outputs):
        return False
    start = 0
    for output in node.outputs:
        assert output is not None
        stop = start + b.shape(output)[axis]
        b.sliced(x, axis, start, stop, into=output)
        start = stop
    return True


@rule("Gather with indices from zero on", "Gather", exact=True)
def from_zero(b: RuleBuilder, node: Node) -> bool:
    x, places = given(node, 0), b.content(given(node, 1))
    axis = int(node.attr("axis", 0)) % len(b.shape(x))
    if places is None or not (places < 0).any():
        return False
    whole = np.where(places < 0, places + b.shape(x)[axis], places)
    b.op("Gather", [x, b.constant(whole)], {"axis": axis}, into=made(node))
    return True


@rule("Gather with a list of indices", "Gather", exact=True)
def listed_indices(b: RuleBuilder, node: Node) -> bool:
    x, places = given(node, 0), given(node, 1)
    shape = b.shape(places)
    if len(shape) == 1:
        return False
    axis = int(node.attr("axis", 0)) % len(b.shape(x))
    content = b.content(places)
    flat = b.reshaped(places, (math.prod(shape),)) if content is None else b.constant(content.reshape(-1))
    taken = b.op("Gather", [x, flat], {"axis": axis})
    b.reshaped(taken, b.shape(made(node)), into=made(node))
    return True


@rule("Gather with indices of 32 bits", "Gather", "GatherElements", exact=True)
def narrow_indices(b: RuleBuilder, node: Node) -> bool:
    x, places = given(node, 0), given(node, 1)
    if b.dtype(places).label != "int64" or max(b.shape(x), default=0) > 1 << 30:
        return False
    content = b.content(places)
    narrow = b.op("Cast", [places], {"to": 6}) if content is None else b.constant(content.astype(np.int32))
    b.op(node.op_type, [x, narrow], kept(node), into=made(node))
    return True


@rule("GatherElements along one axis as Gather of all elements", "GatherElements", exact=True)
def flat_gather(b: RuleBuilder, node: Node) -> bool:
    """With constant indices, the place of each element in memory is known."""
    x, places = given(node, 0), b.content(given(node, 1))
    shape = b.shape(x)
    if places is None or places.size > 1 << 22:
        return False
    axis = int(node.attr("axis", 0)) % len(shape)
    index = list(np.indices(places.shape))
    index[axis] = np.where(places < 0, places + shape[axis], places)
    flat = np.ravel_multi_index(tuple(index), shape).reshape(-1).astype(np.int64)
    taken = b.op("Gather", [b.reshaped(x, (math.prod(shape),)), b.constant(flat)], {"axis": 0})
    b.reshaped(taken, places.shape, into=made(node))
    return True


@rule("GatherND as Gather of blocks", "GatherND", exact=True)
def flat_gather_nd(b: RuleBuilder, node: Node) -> bool:
    x, places = given(node, 0), b.content(given(node, 1))
    shape = b.shape(x)
    if places is None or int(node.attr("batch_dims", 0)):
        return False
    depth = places.shape[-1]
    whole = np.where(places < 0, places + np.array(shape[:depth]), places)
    flat = np.ravel_multi_index(tuple(np.moveaxis(whole, -1, 0)), shape[:depth]).reshape(-1).astype(np.int64)
    rows = b.reshaped(x, (math.prod(shape[:depth]), *shape[depth:]))
    taken = b.op("Gather", [rows, b.constant(flat)], {"axis": 0})
    b.reshaped(taken, b.shape(made(node)), into=made(node))
    return True


@rule("DepthToSpace and SpaceToDepth as Transpose", "DepthToSpace", "SpaceToDepth", exact=True)
def blocks_turned(b: RuleBuilder, node: Node) -> bool:
    x, size = given(node, 0), int(node.attr("blocksize"))
    n, c, h, w = b.shape(x)
    if node.op_type == "SpaceToDepth":
        blocks = b.turned(b.reshaped(x, (n, c, h // size, size, w // size, size)), (0, 3, 5, 1, 2, 4))
    elif node.attr("mode", "DCR") in ("CRD", b"CRD"):
        blocks = b.turned(b.reshaped(x, (n, c // size**2, size, size, h, w)), (0, 1, 4, 2, 5, 3))
    else:
        blocks = b.turned(b.reshaped(x, (n, size, size, c // size**2, h, w)), (0, 3, 4, 1, 5, 2))
    b.reshaped(blocks, b.shape(made(node)), into=made(node))
    return True


@rule("Expand as a product with ones", "Expand", exact=True)
def expanded(b: RuleBuilder, node: Node) -> bool:
    """Of finite numbers; infinities and NaN stay what they are too."""
    x = given(node, 0)
    if not b.dtype(x).is_float:
        return False
    ones = np.ones(b.shape(made(node)), b.dtype(x).numpy)
    b.op("Mul", [x, b.constant(ones)], into=made(node))
    return True


@rule("Expand as Tile", "Expand", exact=True)
def tiled(b: RuleBuilder, node: Node) -> bool:
    x, out = given(node, 0), b.shape(made(node))
    shape = (1,) * (len(out) - len(b.shape(x))) + tuple(b.shape(x))
    repeats = [whole // size if size else 1 for whole, size in zip(out, shape, strict=True)]
    value = x if len(shape) == len(b.shape(x)) else b.reshaped(x, shape)
    b.op("Tile", [value, b.constant(repeats, "int64")], into=made(node))
    return True


@rule("OneHot as a comparison", "OneHot", exact=True)
def one_hot(b: RuleBuilder, node: Node) -> bool:
    indices, out, values = given(node, 0), b.shape(made(node)), b.content(given(node, 2))
    if values is None:
        return False
    axis = int(node.attr("axis", -1)) % len(out)
    depth = out[axis]
    kind = b.dtype(indices)
    if kind.label not in ("int32", "int64"):
        return False
    column = [*b.shape(indices)]
    column.insert(axis, 1)
    shape = [1] * len(out)
    shape[axis] = depth
    asked = b.reshaped(indices, column)
    numbers = np.arange(depth, dtype=kind.numpy).reshape(shape)
    hit = b.op("Equal", [asked, b.constant(numbers)])
    from_the_end = b.op("Equal", [asked, b.constant(numbers - np.asarray(depth, kind.numpy))])
    either = b.op("Or", [hit, from_the_end])
    b.op("Where", [either, b.constant(values[1]), b.constant(values[0])], into=made(node))
    return True


@rule("Trilu as a choice", "Trilu", exact=True)
def triangle(b: RuleBuilder, node: Node) -> bool:
    x, shape = given(node, 0), b.shape(given(node, 0))
    k = (b.ints(1) or [0])[0]
    mask = np.ones(shape[-2:], bool)
    mask = np.triu(mask, k) if int(node.attr("upper", 1)) else np.tril(mask, k)
    b.op("Where", [b.constant(mask), x, b.scalar_like(0, x)], into=made(node))
    return True


@rule("Concat of many as concats of few", "Concat", exact=True)
def few_at_a_time(b: RuleBuilder, node: Node) -> bool:
    values: list[Value] = [value for value in node.inputs if value is not None]
    if len(values) <= 4:
        return False
    attributes: dict[str, Any] = {**kept(node)}
    while len(values) > 4:
        values = [
            b.op("Concat", values[i : i + 4], attributes) if len(values[i : i + 4]) > 1 else values[i]
            for i in range(0, len(values), 4)
        ]
    b.op("Concat", values, attributes, into=made(node))
    return True


@rule("ScatterND with constant indices as a choice of rows", "ScatterND", exact=True)
def placed_rows(b: RuleBuilder, node: Node) -> bool:
    """The last update of a row counts; a Gather puts the updates where they go, and a Where chooses."""
    x, places, updates = given(node, 0), b.content(given(node, 1)), given(node, 2)
    shape = b.shape(x)
    if places is None or node.attr("reduction", "none") not in ("none", b"none"):
        return False
    depth = places.shape[-1]
    rows, rest = math.prod(shape[:depth]), shape[depth:]
    whole = np.where(places < 0, places + np.array(shape[:depth]), places)
    flat = np.ravel_multi_index(tuple(np.moveaxis(whole, -1, 0)), shape[:depth]).reshape(-1)
    if not flat.size or rows > 1 << 20 or len(set(flat.tolist())) != flat.size:
        return False
    source = np.zeros(rows, np.int64)
    source[flat] = np.arange(flat.size)
    is_new = np.zeros(rows, bool)
    is_new[flat] = True
    lines = b.reshaped(updates, (flat.size, *rest))
    spread = b.op("Gather", [lines, b.constant(source)], {"axis": 0})
    mask = b.constant(is_new.reshape(rows, *[1] * len(rest)))
    chosen = b.op("Where", [mask, spread, b.reshaped(x, (rows, *rest))])
    b.reshaped(chosen, shape, into=made(node))
    return True
