"""Parts of a tensor: slices, elements at indices, mirrored and padded axes."""

from __future__ import annotations

import numpy as np

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.graph import Value
from mace_core.tensor import DType

_END = (1 << 31) - 1
"""Behind every axis: sizes in files have 32 bits."""


@converter("SLICE")
def cut(op: Operation) -> None:
    """A size of -1 means up to the end."""
    begin, size = op.constant(1), op.constant(2)
    axes = op.number(list(range(op.rank(0))))
    if begin is not None and size is not None:
        starts = [int(number) for number in begin.reshape(-1)]
        ends = [
            _END if length == -1 else start + int(length)
            for start, length in zip(starts, size.reshape(-1), strict=True)
        ]
        op.keep(op.emit("Slice", [op.stored(0), op.number(starts), op.number(ends), axes]))
        return
    first, length = op.sizes(1), op.sizes(2)
    is_rest = op.emit("Equal", [length, op.number(-1)])
    last = op.emit("Where", [is_rest, op.number(_END), op.emit("Add", [first, length])])
    op.keep(op.emit("Slice", [op.stored(0), first, last, axes]))


@converter("STRIDED_SLICE", options="StridedSliceOptions")
def strided_slice(op: Operation) -> None:
    """numpy's indexing, its masks in bits: one bit for each entry of the lists."""
    masks = {name: op.option(f"{name}Mask") for name in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")}
    steps = op.whole(3, "the steps")
    if 0 in steps:
        raise op.error("has a step of 0")
    entries, rank = len(steps), op.rank(0)
    if op.option("Offset"):
        raise op.unsupported("has ends counted from the begins")
    # which axis each entry is about
    axes: list[int | None] = []
    added: list[int] = []  # places of new axes, in the result before axes are removed
    axis = out = 0
    behind = sum(
        1 for entry in range(entries) if entry > _first(masks["Ellipsis"]) >= 0 and not masks["NewAxis"] >> entry & 1
    )
    for entry in range(entries):
        if masks["Ellipsis"] >> entry & 1:
            skipped = max(rank - behind - axis, 0)
            axis, out = axis + skipped, out + skipped
            axes.append(None)
        elif masks["NewAxis"] >> entry & 1:
            added.append(out)
            out += 1
            axes.append(None)
        else:
            axes.append(axis)
            axis, out = axis + 1, out + 1
    if axis > rank:
        raise op.error(f"has {axis} indices for {rank} axes")
    x = _sliced(op, axes, masks, steps)
    removed = [place for entry, place in enumerate(axes) if place is not None and masks["ShrinkAxis"] >> entry & 1]
    if removed:
        x = op.emit("Squeeze", [x, op.number(removed)])
    if added:
        places = [place - sum(1 for gone in removed if gone < place) for place in added]
        x = op.emit("Unsqueeze", [x, op.number(places)])
    op.keep(x)


def _sliced(op: Operation, axes: list[int | None], masks: dict[str, int], steps: list[int]) -> Value:
    """The slices, without added and removed axes."""
    used = [entry for entry, axis in enumerate(axes) if axis is not None]
    if not used:
        return op.stored(0)
    begin, end = op.constant(1), op.constant(2)
    for found in (begin, end):
        if found is not None and found.size < len(axes):
            raise op.error(f"has {len(axes)} steps and {found.size} begins or ends")
    shrunk = [bool(masks["ShrinkAxis"] >> entry & 1) for entry in used]
    strides = [1 if one else steps[entry] for entry, one in zip(used, shrunk, strict=True)]
    low = [0 if step > 0 else _END for step in strides]
    high = [_END if step > 0 else -_END for step in strides]
    opened = [bool(masks["Begin"] >> entry & 1) and not one for entry, one in zip(used, shrunk, strict=True)]
    closed = [bool(masks["End"] >> entry & 1) and not one for entry, one in zip(used, shrunk, strict=True)]
    starts = _bounds(op, 1, begin, used, opened, low)
    if any(shrunk):  # the end does not count: one element from the begin on
        if begin is not None:
            numbers = [int(begin.reshape(-1)[entry]) for entry in used]
            after: Value | list[int] = [_END if number == -1 else number + 1 for number in numbers]
        else:
            following = op.emit("Add", [starts, op.number(1)])
            is_last = op.emit("Equal", [following, op.number(0)])
            after = op.emit("Where", [is_last, op.number(_END), following])
        if isinstance(after, list) and end is not None:
            plain = [int(end.reshape(-1)[entry]) for entry in used]
            ends = op.number(
                [
                    one_after if one else (limit if free else number)
                    for one_after, one, limit, free, number in zip(after, shrunk, high, closed, plain, strict=True)
                ]
            )
        else:
            last = _bounds(op, 2, end, used, closed, high)
            following = op.number(after) if isinstance(after, list) else after
            ends = op.emit("Where", [op.number(shrunk, np.bool_), following, last])
    else:
        ends = _bounds(op, 2, end, used, closed, high)
    return op.emit(
        "Slice",
        [op.stored(0), starts, ends, op.number([axis for axis in axes if axis is not None]), op.number(strides)],
    )


def _bounds(
    op: Operation,
    index: int,
    content: np.ndarray | None,
    used: list[int],
    free: list[bool],
    limits: list[int],
) -> Value:
    """Begins or ends: those of the input, and ``limits`` where the mask says that they do not count."""
    if content is not None:
        plain = [int(content.reshape(-1)[entry]) for entry in used]
        return op.number([limit if open_ else n for limit, open_, n in zip(limits, free, plain, strict=True)])
    given = op.sizes(index)
    if used != list(range(op.shape(index)[0] or 0)):
        given = op.emit("Gather", [given, op.number(used)])
    return op.emit("Where", [op.number(free, np.bool_), op.number(limits), given]) if any(free) else given


def _first(mask: int) -> int:
    """The lowest bit of a mask; -1 without one."""
    return (mask & -mask).bit_length() - 1


@converter("GATHER", options="GatherOptions")
def gather(op: Operation) -> None:
    rank, batch = op.rank(0), op.option("BatchDims")
    axis, batch = op.axis(op.option("Axis"), rank), batch + (op.rank(1) if batch < 0 else 0)
    x, indices = op.stored(0), op.stored(1)
    if batch == 0:
        op.keep(op.emit("Gather", [x, op.index_numbers(indices, op.dtype(1))], {"axis": axis}))
        return
    if not 0 < batch <= min(axis, op.rank(1)):
        raise op.error(f"has {batch} batch axes for axis {axis}")
    op.keep(_batched_gather(op, x, indices, axis, batch))


def _batched_gather(op: Operation, x: Value, indices: Value, axis: int, batch: int) -> Value:
    """Gather within each batch: GatherND reads the axis behind the batch axes, so the axis is moved there and back."""
    rank, count = op.rank(0), op.rank(1)
    order = [*range(batch), axis, *(other for other in range(batch, rank) if other != axis)]
    moved = op.emit("Transpose", [x], {"perm": order})
    places = op.emit("Unsqueeze", [op.cast(indices, DType.INT64), op.number([-1])])
    found = op.emit("GatherND", [moved, places], {"batch_dims": batch})
    # (batch, index axes, axes before `axis`, axes behind it): the index axes go where `axis` was
    before, own = axis - batch, count - batch
    whole = batch + own + (rank - batch - 1)
    order = [
        *range(batch),
        *range(batch + own, batch + own + before),
        *range(batch, batch + own),
        *range(batch + own + before, whole),
    ]
    return op.emit("Transpose", [found], {"perm": order})


@converter("GATHER_ND")
def gather_nd(op: Operation) -> None:
    op.keep(op.emit("GatherND", [op.stored(0), op.cast(op.stored(1), DType.INT64)]))


@converter("EMBEDDING_LOOKUP")
def embedding(op: Operation) -> None:
    """Rows of the second input."""
    op.finish(op.emit("Gather", [op.real(1), op.stored(0)], {"axis": 0}))


@converter("SCATTER_ND")
def scatter_nd(op: Operation) -> None:
    """Zeros with updates at indices; updates of the same place are added."""
    zero = op.number([0], op.dtype(1).numpy)
    start = op.emit("Expand", [zero, op.sizes(2)])
    op.keep(op.emit("ScatterND", [start, op.cast(op.stored(0), DType.INT64), op.stored(1)], {"reduction": "add"}))


@converter("SPARSE_TO_DENSE", options="SparseToDenseOptions")
def sparse_to_dense(op: Operation) -> None:
    """A default everywhere but at indices: (n, rank), (n) for one axis, or one index alone."""
    start = op.emit("Expand", [op.stored(3), op.sizes(1)])
    indices, rank = op.cast(op.stored(0), DType.INT64), op.rank(0)
    if rank == 0:
        indices = op.emit("Reshape", [indices, op.number([1, 1])])
    elif rank == 1:
        indices = op.emit("Unsqueeze", [indices, op.number([-1])])
    values = op.stored(2)
    if op.rank(2) == 0:
        count = op.emit("Shape", [indices], {"start": 0, "end": 1})
        values = op.emit("Expand", [values, count])
    op.keep(op.emit("ScatterND", [start, indices, values]))


@converter("DYNAMIC_UPDATE_SLICE")
def dynamic_update_slice(op: Operation) -> None:
    """A part of the operand replaced; where it would not fit, it is moved inside."""
    replace_part(op, op.sizes(2))


def replace_part(op: Operation, begins: Value) -> None:
    """As above, from ``begins`` on, a place for each axis."""
    x, update = op.stored(0), op.stored(1)
    rank = op.rank(0)
    sizes, part = op.emit("Shape", [x]), op.emit("Shape", [update])
    limits = op.emit("Sub", [sizes, part])
    starts = op.emit("Min", [op.emit("Max", [begins, op.number([0] * rank)]), limits])
    ends = op.emit("Add", [starts, part])
    # indices of the replaced part, one grid for each axis
    grids = []
    for axis in range(rank):
        first, last = (op.emit("Gather", [bound, op.number(axis)]) for bound in (starts, ends))
        numbers = op.emit("Range", [first, last, op.number(1)])
        shaped = op.emit("Reshape", [numbers, op.number([-1 if axis == other else 1 for other in range(rank)] + [1])])
        grids.append(op.emit("Expand", [shaped, op.emit("Concat", [part, op.number([1])], {"axis": 0})]))
    op.keep(op.emit("ScatterND", [x, op.emit("Concat", grids, {"axis": -1}), update]) if grids else update)


@converter("REVERSE_V2")
def reverse(op: Operation) -> None:
    axes = [op.axis(axis, op.rank(0)) for axis in op.whole(1, "the axes")]
    count = len(axes)
    bounds = [op.number([number] * count) for number in (-1, -_END)]
    op.keep(op.emit("Slice", [op.stored(0), *bounds, op.number(axes), op.number([-1] * count)]))


@converter("REVERSE_SEQUENCE", options="ReverseSequenceOptions")
def reverse_sequence(op: Operation) -> None:
    """ONNX's works on the first two axes: others are moved there and back."""
    rank = op.rank(0)
    time, batch = op.axis(op.option("SeqDim"), rank), op.axis(op.option("BatchDim"), rank)
    lengths = op.cast(op.stored(1), DType.INT64)
    order = [time, batch, *(axis for axis in range(rank) if axis not in (time, batch))]
    if len(order) != rank:
        raise op.error("has one axis for both time and batch")
    x = op.emit("Transpose", [op.stored(0)], {"perm": order})
    y = op.emit("ReverseSequence", [x, lengths], {"time_axis": 0, "batch_axis": 1})
    op.keep(op.emit("Transpose", [y], {"perm": [order.index(axis) for axis in range(rank)]}))


@converter("PAD")
@converter("PADV2")
def pad(op: Operation) -> None:
    """With zeros of the tensor's own meaning, or the third input."""
    value = op.stored(2) if op.has(2) else None
    if value is None:
        zero = op.tensor(0).quantization
        padding = int(zero.zero_point[0]) if zero is not None and op.is_quantized(op.tensor(0)) else 0
        value = op.number(padding, op.dtype(0).numpy)
    elif op.rank(2):
        value = op.emit("Reshape", [value, op.number([])])
    op.keep(op.emit("Pad", [op.stored(0), _pads(op), value]))


@converter("MIRROR_PAD", options="MirrorPadOptions")
def mirror_pad(op: Operation) -> None:
    """REFLECT leaves out the border, SYMMETRIC repeats it."""
    x = op.stored(0)
    if op.option("Mode") == 0:
        op.keep(op.emit("Pad", [x, _pads(op)], {"mode": "reflect"}))
        return
    pads = np.asarray(op.whole(1, "the padding"), np.int64).reshape(-1, 2)
    for axis, (before, after) in enumerate(pads):
        size = op.shape(0)[axis]
        if before == after == 0:
            continue
        parts = []
        if before:
            parts.append(_mirrored(op, x, axis, int(before) - 1, -_END))
        parts.append(x)
        if after:
            if size is not None and max(before, after) > size:
                raise op.error(f"mirrors {max(before, after)} elements of an axis of {size}")
            parts.append(_mirrored(op, x, axis, -1, -int(after) - 1))
        x = op.emit("Concat", parts, {"axis": axis})
    op.keep(x)


def _mirrored(op: Operation, x: Value, axis: int, first: int, last: int) -> Value:
    return op.emit("Slice", [x, *(op.number([number]) for number in (first, last, axis, -1))])


def _pads(op: Operation) -> Value:
    """(axes, 2) as ONNX's list: all before, then all behind."""
    content = op.constant(1)
    if content is not None:
        return op.number(content.astype(np.int64).reshape(-1, 2).T.reshape(-1))
    turned = op.emit("Transpose", [op.sizes(1)], {"perm": [1, 0]})
    return op.emit("Reshape", [turned, op.number([-1])])
