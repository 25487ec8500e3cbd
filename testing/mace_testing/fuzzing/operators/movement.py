"""Operators that move elements and compute nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source


def _data(source: Source, op: str, opset: int, shape: tuple[int, ...]) -> Array:
    return (
        source.distinct(shape, source.dtype(op, opset))
        if source.flag()
        else source.array(shape, source.dtype(op, opset))
    )


def _factors(source: Source, count: int) -> list[int]:
    """Dimensions whose product is ``count``."""
    found = [1] * source.integer(1, 4)
    for prime in (2, 3, 5, 7, 11, 13):
        while count and count % prime == 0:
            found[source.integer(0, len(found) - 1)] *= prime
            count //= prime
    found[-1] *= count
    return found


@draws("Reshape")
def reshape(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(0, 4)
    x = _data(source, op, opset, shape)
    target = _factors(source, math.prod(shape))
    attributes: dict[str, Any] = {}
    if opset >= 14 and source.flag():
        attributes["allowzero"] = int(source.flag())
    if 0 in shape:
        # 0 copies the dimension at the same place unless allowzero is set
        target = list(shape)
        if source.flag() and not attributes.get("allowzero"):
            target = [0 if dim == 0 else dim for dim in shape]
    elif source.flag():
        target[source.integer(0, len(target) - 1)] = -1
    elif not attributes.get("allowzero"):
        target = [0 if i < len(shape) and shape[i] == dim and source.flag() else dim for i, dim in enumerate(target)]
    return OpCase(op, opset, (x, np.array(target, np.int64)), attributes)


@draws("Flatten")
def flatten(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1 if opset < 9 else 0)
    axis = source.integer(0 if opset < 11 else -len(shape), len(shape))
    attributes = {"axis": axis} if source.flag() or not shape else {}
    return OpCase(op, opset, (_data(source, op, opset, shape),), attributes)


@draws("Squeeze")
def squeeze(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = tuple(1 if source.flag() else dim for dim in source.shape())
    x = _data(source, op, opset, shape)
    ones = [axis for axis, dim in enumerate(shape) if dim == 1]
    axes = [ones[i] - (len(shape) if opset >= 11 and source.flag() else 0) for i in source.subset(len(ones))]
    return _with_axes(source, op, opset, x, axes, optional=True)


@draws("Unsqueeze")
def unsqueeze(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(0, 3)
    rank = len(shape) + source.integer(1, 2)
    axes = source.subset(rank)[: rank - len(shape)]
    while len(axes) < rank - len(shape):
        axes.append(next(axis for axis in range(rank) if axis not in axes))
    if opset >= 11:
        axes = [axis - rank if source.flag() else axis for axis in axes]
    else:
        axes.sort()
    return _with_axes(source, op, opset, _data(source, op, opset, shape), axes, optional=False)


def _with_axes(source: Source, op: str, opset: int, x: Array, axes: list[int], *, optional: bool) -> OpCase:
    """Axes as an attribute before opset 13, as an input since."""
    if optional and (not axes or source.rarely()):
        return OpCase(op, opset, (x,))
    if opset < 13:
        return OpCase(op, opset, (x,), {"axes": axes})
    return OpCase(op, opset, (x, np.array(axes, np.int64)))


@draws("Transpose")
def transpose(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(0, 5, largest=5)
    order = source.subset(len(shape), least=len(shape))
    return OpCase(op, opset, (_data(source, op, opset, shape),), {"perm": order} if shape and source.flag() else {})


@draws("Expand")
def expand(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape()
    x = _data(source, op, opset, source.broadcast(shape))
    target = source.broadcast(shape)
    return OpCase(op, opset, (x, np.array(target, np.int64)))


@draws("Tile")
def tile(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 4, largest=5)
    repeats = [0 if source.rarely(12) else source.integer(1, 3) for _ in shape]
    return OpCase(op, opset, (_data(source, op, opset, shape), np.array(repeats, np.int64)))


@draws("Concat")
def concat(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = list(source.shape(1))
    dtype = source.dtype(op, opset)
    axis = source.integer(0, len(shape) - 1)
    parts = []
    for _ in range(source.integer(1, 4)):
        shape[axis] = source.integer(0 if source.rarely() else 1, 5)
        parts.append(source.array(shape, dtype))
    return OpCase(op, opset, tuple(parts), {"axis": axis - (len(shape) if opset >= 11 and source.flag() else 0)})


@draws("Split")
def split(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = list(source.shape(1))
    axis = source.integer(0, len(shape) - 1)
    parts = source.integer(1, 4)
    attributes: dict[str, Any] = {"axis": axis - (len(shape) if opset >= 11 and source.flag() else 0)}
    if source.flag():
        sizes = [source.integer(0, 4) for _ in range(parts)]
        shape[axis] = sum(sizes)
        x = _data(source, op, opset, tuple(shape))
        if opset < 13:
            return OpCase(op, opset, (x,), {**attributes, "split": sizes}, (True,) * parts)
        return OpCase(op, opset, (x, np.array(sizes, np.int64)), attributes, (True,) * parts)
    if opset >= 18:
        # the last part is smaller where it does not come out even
        attributes["num_outputs"] = parts
        each = source.integer(1, 4)
        shape[axis] = each * (parts - 1) + source.integer(1, each)
    else:
        shape[axis] = parts * source.integer(1, 4)
    return OpCase(op, opset, (_data(source, op, opset, tuple(shape)),), attributes, (True,) * parts)


FAR = (2**31 - 1, -(2**31), 2**63 - 1, -(2**63) + 1)


@draws("Slice")
def slices(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1)
    axes = source.subset(len(shape), least=1)
    steps = [source.pick([1, -1, 2, -2, 3]) if opset >= 10 else 1 for _ in axes]
    starts = [_bound(source, shape[axis]) for axis in axes]
    ends = [_bound(source, shape[axis], far=True) for axis in axes]
    x = _data(source, op, opset, shape)
    given = [axis - (len(shape) if opset >= 10 and source.flag() else 0) for axis in axes]
    if opset < 10:
        return OpCase(op, opset, (x,), {"starts": starts, "ends": ends, "axes": given})
    kind = source.pick([np.int64, np.int32]) if all(abs(i) < 2**31 for i in (*starts, *ends)) else np.int64
    rows = [np.array(row, kind) for row in (starts, ends, given, steps)]
    if axes == list(range(len(shape))) and source.flag():
        # leaving the axes out means all in order
        return OpCase(op, opset, (x, rows[0], rows[1]) if set(steps) == {1} else (x, rows[0], rows[1], None, rows[3]))
    return OpCase(op, opset, (x, *rows[: 3 if set(steps) == {1} and source.flag() else 4]))


def _bound(source: Source, size: int, *, far: bool = False) -> int:
    if far and source.rarely(4):
        return source.pick(FAR)
    return source.integer(-size - 2, size + 2)


@draws("Pad")
def pad(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 4, empty=False)
    dtype = source.dtype(op, opset)
    modes = ["constant", "reflect", "edge"] + (["wrap"] if opset >= 19 else [])
    mode = source.pick(modes)
    axes = list(range(len(shape)))
    if opset >= 18 and source.flag():
        axes = source.subset(len(shape), least=1)
    before, after = [], []
    for axis in axes:
        # a reflection is at most as long as what it reflects
        most = {"reflect": shape[axis] - 1, "wrap": shape[axis]}.get(mode, 3)
        low = -(shape[axis] // 2) if mode == "constant" and source.rarely(4) else 0
        before.append(source.integer(low, min(3, most)))
        after.append(source.integer(low, min(3, most)))
    x = source.array(shape, dtype)
    attributes: dict[str, Any] = {"mode": mode} if mode != "constant" or source.flag() else {}
    if opset < 11:
        if source.flag():
            attributes["value"] = source.number(-2, 2)
        return OpCase(op, opset, (x,), {**attributes, "pads": before + after})
    value = source.array((), dtype, 0, 2) if source.flag() else None
    inputs: list[Array | None] = [x, np.array(before + after, np.int64)]
    if value is not None or axes != list(range(len(shape))):
        inputs.append(value)
    if axes != list(range(len(shape))):
        given = [axis - len(shape) if source.flag() else axis for axis in axes]
        inputs.append(np.array(given, source.pick([np.int64, np.int32])))
    return OpCase(op, opset, tuple(inputs), attributes)


@draws("DepthToSpace", "SpaceToDepth")
def depth_and_space(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    block, n, c, h, w = source.integer(1, 3), *(source.dim(1, 4) for _ in range(4))
    attributes: dict[str, Any] = {"blocksize": block}
    if op == "DepthToSpace":
        c *= block * block
        if opset >= 11 and source.flag():
            attributes["mode"] = source.pick(["DCR", "CRD"])
    else:
        h, w = h * block, w * block
    return OpCase(op, opset, (_data(source, op, opset, (n, c, h, w)),), attributes)


@draws("Shape")
def shape_of(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape()
    names = ("start", "end") if opset >= 15 else ()
    attributes = {name: source.integer(-len(shape) - 1, len(shape) + 1) for name in names if source.flag()}
    return OpCase(op, opset, (_data(source, op, opset, shape),), attributes)


@draws("Size")
def size_of(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    return OpCase(op, opset, (_data(source, op, opset, source.shape()),))


@draws("Trilu")
def triangle(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    x = _data(source, op, opset, source.shape(2, 4))
    attributes = {"upper": int(source.flag())} if source.flag() else {}
    if source.flag():
        return OpCase(op, opset, (x,), attributes)
    return OpCase(op, opset, (x, np.array(source.integer(-5, 5), np.int64)), attributes)


@draws("ReverseSequence")
def reverse(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(2, 4, empty=False)
    time = source.integer(0, 1)
    lengths = source.array((shape[1 - time],), np.int64, 1, shape[time])
    return OpCase(op, opset, (_data(source, op, opset, shape), lengths), {"time_axis": time, "batch_axis": 1 - time})


@draws("CenterCropPad")
def center(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 4, empty=False)
    x = _data(source, op, opset, shape)
    axes = list(range(len(shape)))
    attributes: dict[str, Any] = {}
    if source.flag():
        axes = source.subset(len(shape), least=1)
        attributes["axes"] = [axis - len(shape) if source.flag() else axis for axis in axes]
    return OpCase(op, opset, (x, np.array([source.dim(1, 8) for _ in axes], np.int64)), attributes)
