"""Reading and writing by index, and finding indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source


def _indices(source: Source, shape: tuple[int, ...], size: int, dtype: Any = np.int64, negative: bool = True) -> Array:
    return source.array(shape, dtype, -size if negative and source.flag() else 0, size - 1)


@draws("Gather")
def gather(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 4, empty=False)
    axis = source.axis(len(shape))
    kind = source.pick([np.int64, np.int32])
    indices = _indices(source, source.shape(0, 2), shape[axis], kind, negative=opset >= 11)
    x = source.array(shape, source.dtype(op, opset))
    return OpCase(op, opset, (x, indices), {"axis": axis} if source.flag() or axis not in (0, -len(shape)) else {})


@draws("GatherElements")
def gather_elements(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 4, empty=False)
    axis = source.axis(len(shape))
    taken = tuple(source.integer(1, dim) for dim in shape)
    taken = (*taken[: axis % len(shape)], source.dim(), *taken[axis % len(shape) + 1 :])
    indices = _indices(source, taken, shape[axis], source.pick([np.int64, np.int32]))
    return OpCase(op, opset, (source.array(shape, source.dtype(op, opset)), indices), {"axis": axis})


def _tuples(source: Source, sizes: tuple[int, ...], lead: tuple[int, ...]) -> Array:
    """Index tuples into dimensions of these sizes: (*lead, len(sizes))."""
    columns = [_indices(source, lead, size) for size in sizes]
    return np.stack(columns, axis=-1).astype(np.int64)


@draws("GatherND")
def gather_nd(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 4, empty=False)
    batch = source.integer(0, len(shape) - 1) if opset >= 12 else 0
    depth = source.integer(1, len(shape) - batch)
    lead = (*shape[:batch], *source.shape(0, 2, empty=False))
    indices = _tuples(source, shape[batch : batch + depth], lead)
    attributes = {"batch_dims": batch} if batch or (opset >= 12 and source.flag()) else {}
    return OpCase(op, opset, (source.array(shape, source.dtype(op, opset)), indices), attributes)


REDUCTIONS = {11: ["none"], 16: ["none", "add", "mul"], 18: ["none", "add", "mul", "max", "min"]}


def _reduction(source: Source, opset: int, dtype: np.dtype[Any]) -> str:
    options = REDUCTIONS[max(version for version in REDUCTIONS if version <= max(opset, 11))]
    return source.pick(options if dtype.kind != "b" else options[:1])


def _update_range(reduction: str) -> tuple[int, int]:
    """Many factors at one place shall not leave the range of the narrowest type."""
    return (-1, 1) if reduction == "mul" else (-3, 3)


@draws("Scatter", "ScatterElements")
def scatter_elements(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(1, 4, empty=False)
    axis = source.integer(0, len(shape) - 1)
    reduction = _reduction(source, opset, dtype) if op == "ScatterElements" else "none"
    written = tuple(source.integer(1, dim) for dim in shape)
    if reduction == "none":
        # which of two writes to one place wins is not said, so every index along the axis is another
        rows = np.argsort(source.distinct(shape, np.float64), axis=axis)
        indices = rows[tuple(slice(0, size) for size in written)].astype(np.int64)
    else:
        indices = _indices(source, written, shape[axis])
    if opset >= 11 and source.flag():
        indices = np.where(
            np.arange(indices.size).reshape(indices.shape) % 2, indices, indices - shape[axis] * (indices >= 0)
        )
    x, updates = source.array(shape, dtype), source.array(written, dtype, *_update_range(reduction))
    attributes: dict[str, Any] = {"axis": axis - (len(shape) if opset >= 11 and source.flag() else 0)}
    if reduction != "none":
        attributes["reduction"] = reduction
    return OpCase(op, opset, (x, indices.astype(source.pick([np.int64, np.int32])), updates), attributes)


@draws("ScatterND")
def scatter_nd(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(1, 4, empty=False)
    depth = source.integer(1, len(shape))
    reduction = _reduction(source, opset, dtype)
    if reduction == "none":
        places = np.array(list(np.ndindex(*shape[:depth])), np.int64)
        random = source.random() or np.random.default_rng(0)
        indices = random.permutation(places)[: source.integer(1, len(places))]
    else:
        indices = _tuples(source, shape[:depth], source.shape(1, 2, empty=False))
    updates = source.array((*indices.shape[:-1], *shape[depth:]), dtype, *_update_range(reduction))
    attributes = {"reduction": reduction} if reduction != "none" else {}
    return OpCase(op, opset, (source.array(shape, dtype), indices, updates), attributes)


@draws("TensorScatter")
def tensor_scatter(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(2, 4, empty=False)
    axis = source.integer(1, len(shape) - 1)
    mode = source.pick(["linear", "circular"])
    length = source.integer(1, shape[axis])
    updates = source.array((*shape[:axis], length, *shape[axis + 1 :]), dtype)
    latest = shape[axis] - length if mode == "linear" else shape[axis] - 1
    starts = source.array((shape[0],), np.int64, 0, latest) if source.flag() else None
    inputs = (source.array(shape, dtype), updates) + (() if starts is None else (starts,))
    return OpCase(op, opset, inputs, {"axis": axis - (len(shape) if source.flag() else 0), "mode": mode})


@draws("Compress")
def compress(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 4, empty=False)
    axis = source.axis(len(shape)) if source.flag() else None
    if axis is not None and opset < 11:
        axis %= len(shape)
    size = int(np.prod(shape)) if axis is None else shape[axis]
    condition = source.array((source.integer(1, size),), bool)
    x = source.array(shape, source.dtype(op, opset))
    return OpCase(op, opset, (x, condition), {} if axis is None else {"axis": axis})


@draws("OneHot")
def one_hot(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    depth = source.integer(1, 6)
    shape = source.shape(0, 3)
    low = -depth if opset >= 11 else 0
    kind = source.dtype(op, opset, only=(np.int64, np.int32, np.float32))
    # an index out of range gives a row of the off value
    indices = source.array(shape, kind, low - 1 if opset >= 11 else 0, depth, 1)
    values = source.array((2,), source.dtype(op, opset, 2))
    axis = source.integer(-len(shape) - 1, len(shape)) if opset >= 11 else source.integer(-1, len(shape))
    count = np.array(depth, source.pick([np.int64, np.int32]))
    if source.flag():
        count = count.reshape(1)
    return OpCase(op, opset, (indices, count, values), {"axis": axis} if source.flag() else {})


@draws("NonZero")
def non_zero(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    return OpCase(op, opset, (source.array(source.shape(1), source.dtype(op, opset), -1, 1),))


@draws("TopK")
def top(source: Source, op: str) -> OpCase:
    """All values different: the order of equals is not said."""
    opset = source.opset(op)
    shape = source.shape(1, empty=False)
    axis = source.axis(len(shape)) if opset >= 11 else source.integer(0, len(shape) - 1)
    x = source.distinct(shape, source.dtype(op, opset))
    if len(np.unique(x)) < x.size:
        x = source.distinct(shape, np.float32)
    k = source.integer(0 if source.rarely(12) and opset >= 10 else 1, shape[axis])
    attributes: dict[str, Any] = {"axis": axis}
    if opset < 10:
        return OpCase(op, opset, (x,), {**attributes, "k": k}, (True, True))
    ordered = True
    if opset >= 11 and source.flag():
        attributes["largest"] = int(source.flag())
    if opset >= 11 and source.flag():
        attributes["sorted"] = int(ordered)
    return OpCase(op, opset, (x, np.array([k], np.int64)), attributes, (True, True))


@draws("Unique")
def unique(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    shape = source.shape(1, 3, largest=4, empty=False)
    x = source.array(shape, source.dtype(op, opset), -1, 2, 1)
    attributes: dict[str, Any] = {"axis": source.axis(len(shape))} if source.flag() else {}
    if source.flag():
        attributes["sorted"] = int(source.flag())
    outputs = (True, *(source.flag() for _ in range(3)))
    while not outputs[-1]:
        outputs = outputs[:-1]
    return OpCase(op, opset, (x,), attributes, outputs)


@draws("NonMaxSuppression")
def suppression(source: Source, op: str) -> OpCase:
    """Scores all differ, and boxes lie on a grid whose overlaps are not at the threshold."""
    opset = source.opset(op)
    batches, classes, boxes = source.dim(1, 2), source.dim(1, 3), source.dim(1, 8)
    center = int(source.flag())
    first = source.floats((batches, boxes, 2), np.float32, 0, 4)
    size = source.floats((batches, boxes, 2), np.float32, 0.5, 3)
    coordinates = np.concatenate([first, size if center else first + size], axis=-1)
    if not center and source.flag():
        # any two opposite corners may be given
        coordinates = np.concatenate([coordinates[..., 2:], coordinates[..., :2]], axis=-1)
    scores = (source.distinct((batches, classes, boxes), np.float32) / np.float32(16)).astype(np.float32)
    inputs: list[Array | None] = [coordinates, scores]
    if source.integer(0, 9):
        inputs.append(np.array([source.integer(0, 4)], np.int64))
        if source.flag():
            inputs.append(np.array([source.pick([0.3, 0.0, 0.7, 1.0])], np.float32))
            if source.flag():
                inputs.append(np.array([source.number(-1, 1) + 0.03], np.float32))
    return OpCase(op, opset, tuple(inputs), {"center_point_box": center} if source.flag() or center else {})


@draws("EyeLike")
def eye(source: Source, op: str) -> OpCase:
    import onnx.helper

    opset = source.opset(op)
    attributes: dict[str, Any] = {"k": source.integer(-4, 4)} if source.flag() else {}
    if source.flag():
        dtype = np.dtype(source.pick(schema.dtypes(op, opset, output=True)))
        attributes["dtype"] = int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
    return OpCase(op, opset, (source.array(source.shape(2, 2), source.dtype(op, opset)),), attributes)
