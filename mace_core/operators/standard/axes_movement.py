"""How operators that move elements move themselves with the axes of their inputs."""

from __future__ import annotations

from mace_core.operators.axis_maps import (
    AxisMap,
    AxisNames,
    Edit,
    Groups,
    NewShape,
    PerAxis,
    SizesRead,
    same_order,
    singles,
    without,
)
from mace_core.operators.context import Ints, normalize_axis
from mace_core.operators.independence import AxesContext, is_single
from mace_core.operators.registry import axis_map
from mace_core.operators.standard.independent_movement import (
    AXIS_IS_REQUIRED_SINCE,
    REPEATS_ARE_PER_AXIS_SINCE,
    SHAPE_IS_INPUT_SINCE,
)
from mace_core.operators.standard.movement import axes_argument
from mace_core.symbolic import hint, is_same, is_symbolic

AXES_ARE_AN_INPUT_SINCE = {"Squeeze": 13, "Unsqueeze": 13, "Slice": 10, "Pad": 11}


def _one(ctx: AxesContext, default: int = 0, *, of: int | None = None) -> AxisNames:
    return AxisNames("axis", (normalize_axis(ctx.attr("axis", default), of or len(ctx.shape(0))),))


# --- the same elements in another shape -------------------------------------------------------------------------------


def joined_axes(before: Ints, after: Ints) -> tuple[Groups, Groups] | None:
    """The iteration space of a Reshape: what is joined and split is one axis of it, every size of 1 is by itself.

    None for tensors without elements, where sizes tell nothing.
    """
    if any(not is_symbolic(size) and size == 0 for size in (*before, *after)):
        return None
    own: list[tuple[int, ...]] = []
    other: list[tuple[int, ...]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before) and _is_one(before[i]):
            own.append((i,))
            other.append(())
            i += 1
        elif j < len(after) and _is_one(after[j]):
            own.append(())
            other.append((j,))
            j += 1
        elif i == len(before) or j == len(after):
            return None  # contradicts itself
        else:
            begin, start = i, j
            left, right = before[i], after[j]
            i, j = i + 1, j + 1
            while not is_same(left, right):
                if j < len(after) and (i == len(before) or hint(left) > hint(right)):
                    right, j = right * after[j], j + 1
                elif i < len(before):
                    left, i = left * before[i], i + 1
                else:
                    break  # what is left is the rest of both, however it is put
            own.append(tuple(range(begin, i)))
            other.append(tuple(range(start, j)))
    return tuple(own), tuple(other)


def _is_one(size: int) -> bool:
    return not is_symbolic(size) and size == 1


@axis_map("Reshape")
def reshape(ctx: AxesContext) -> AxisMap | None:
    if ctx.opset < SHAPE_IS_INPUT_SINCE:
        return None
    constant = ctx.node.inputs[1].constant if ctx.node.inputs[1] is not None else None
    stated: Ints | None = None if constant is None else tuple(int(size) for size in constant.numpy().reshape(-1))
    return _reshaped(ctx, stated)


@axis_map("Flatten")
def flatten(ctx: AxesContext) -> AxisMap | None:
    return _reshaped(ctx, (0,) * 2)


def _reshaped(ctx: AxesContext, stated: Ints | None) -> AxisMap | None:
    joined = joined_axes(ctx.shape(0), ctx.result())
    if joined is None:
        return None
    edit: Edit
    if stated is None:
        sizes = ctx.ints(1)  # computed from other shapes: a size of 0 would be that of an axis which may move
        if any(not is_symbolic(size) and size == 0 for size in sizes):
            return None
        edit = PerAxis(1, of="output")
    else:
        own = [size if size > 0 else None for size in stated]
        for axis, size in enumerate(ctx.result()):
            if own[axis] is None and not is_symbolic(size):
                own[axis] = size
        if own.count(None) > 1:
            return None
        edit = NewShape(tuple(-1 if size is None else size for size in own))
    return AxisMap(len(joined[0]), {0: joined[0]}, {0: joined[1]}, edits=(edit,))


@axis_map("Squeeze")
def squeeze(ctx: AxesContext) -> AxisMap | None:
    rank, given = len(ctx.shape(0)), axes_argument(ctx)
    if given is None:
        return None  # which axes are left depends on their sizes
    axes = tuple(normalize_axis(axis, rank) for axis in given)
    return AxisMap(rank, {0: singles(rank)}, {0: without(rank, axes)}, edits=(_named(ctx, 1, axes),))


@axis_map("Unsqueeze")
def unsqueeze(ctx: AxesContext) -> AxisMap:
    rank = len(ctx.result())
    axes = tuple(normalize_axis(axis, rank) for axis in axes_argument(ctx) or ())
    named = _named(ctx, 1, axes)
    edit = AxisNames(named.where, axes, of="output", plural=True)
    return AxisMap(rank, {0: without(rank, axes)}, {0: singles(rank)}, edits=(edit,))


def _named(ctx: AxesContext, index: int, axes: Ints) -> AxisNames:
    """Axes that are an attribute in old opsets, and an input in later ones."""
    is_input = ctx.opset >= AXES_ARE_AN_INPUT_SINCE[ctx.node.op_type]
    return AxisNames(index if is_input else "axes", axes, plural=True)


# --- joining, cutting, repeating --------------------------------------------------------------------------------------


@axis_map("Concat")
def concat(ctx: AxesContext) -> AxisMap:
    default = 1 if ctx.opset < AXIS_IS_REQUIRED_SINCE else 0
    named = _one(ctx, default)
    return same_order(ctx, named, inputs=range(ctx.input_count), along=named.axes[0])


@axis_map("Split")
def split(ctx: AxesContext) -> AxisMap:
    named = _one(ctx)
    return same_order(ctx, named, along=named.axes[0])


@axis_map("Slice")
def slice_(ctx: AxesContext) -> AxisMap:
    rank = len(ctx.shape(0))
    given: Ints | None
    if ctx.opset < AXES_ARE_AN_INPUT_SINCE["Slice"]:
        given, count = ctx.attr("axes"), len(ctx.attr("starts", ()))
    else:
        given, count = (ctx.ints(3) if ctx.has(3) else None), ctx.shape(1)[0]
    axes = tuple(range(count)) if given is None else tuple(normalize_axis(axis, rank) for axis in given)
    return same_order(ctx, _named(ctx, 3, axes), along=axes[0] if len(axes) == 1 else None)


@axis_map("Pad")
def pad(ctx: AxesContext) -> AxisMap | None:
    if ctx.opset >= AXES_ARE_AN_INPUT_SINCE["Pad"]:
        if not ctx.has(3):
            return same_order(ctx, PerAxis(1, parts=2))
        axes = tuple(normalize_axis(axis, len(ctx.shape(0))) for axis in ctx.ints(3))
        return same_order(ctx, AxisNames(3, axes, plural=True))
    return same_order(ctx, PerAxis("pads", parts=2)) if "pads" in ctx.node.attributes else None


@axis_map("Tile")
def tile(ctx: AxesContext) -> AxisMap | None:
    return same_order(ctx, PerAxis(1)) if ctx.opset >= REPEATS_ARE_PER_AXIS_SINCE else None


@axis_map("Expand")
def expand(ctx: AxesContext) -> AxisMap | None:
    rank, own = len(ctx.result()), len(ctx.shape(0))
    if ctx.shape(1) != (rank,):
        return None
    lead = rank - own
    groups = (*((),) * lead, *((axis,) for axis in range(lead, rank)))
    return AxisMap(rank, {0: groups}, {0: singles(rank)}, broadcast={0: lead}, edits=(PerAxis(1, of="output"),))


@axis_map("Resize")
def resize(ctx: AxesContext) -> AxisMap:
    given: Ints | None = ctx.attr("axes")
    rank = len(ctx.shape(0))
    if given:
        axes = tuple(normalize_axis(axis, rank) for axis in given)
        return same_order(ctx, AxisNames("axes", axes, plural=True))
    if ctx.opset < 11:
        return same_order(ctx, PerAxis(1))
    lists = [(index, parts) for index, parts in ((1, 2), (2, 1), (3, 1)) if ctx.has(index) and ctx.shape(index) != (0,)]
    return same_order(ctx, *(PerAxis(index, parts) for index, parts in lists))


@axis_map("Upsample")
def upsample(ctx: AxesContext) -> AxisMap | None:
    if ctx.opset < 7:
        return None
    return same_order(ctx, PerAxis(1 if ctx.opset >= 9 else "scales"))


# --- indexing ---------------------------------------------------------------------------------------------------------


@axis_map("Gather")
def gather(ctx: AxesContext) -> AxisMap:
    """The axes of the indices stand together where the axis was that they choose from."""
    rank, indices = len(ctx.shape(0)), len(ctx.shape(1))
    if rank == 1:  # a table that is read element by element
        return AxisMap(indices, {1: singles(indices)}, {0: singles(indices)})
    named = _one(ctx)
    (along,) = named.axes
    groups = tuple(
        tuple(range(along, along + indices))
        if axis == along
        else (axis if axis < along else axis - 1 + indices,)
        for axis in range(rank)
    )  # fmt: skip
    return AxisMap(rank, {0: singles(rank)}, {0: groups}, edits=(named,), along=along if is_single(ctx, 1) else None)


@axis_map("GatherElements")
def gather_elements(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, _one(ctx), inputs=(0, 1))


@axis_map("ScatterElements")
def scatter_elements(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, _one(ctx), inputs=(0, 1, 2))


@axis_map("OneHot")
def one_hot(ctx: AxesContext) -> AxisMap:
    rank = len(ctx.shape(0)) + 1
    named = _one(ctx, -1, of=rank)
    edit = AxisNames("axis", named.axes, of="output")
    return AxisMap(rank, {0: without(rank, named.axes)}, {0: singles(rank)}, edits=(edit,))


@axis_map("ReverseSequence")
def reverse_sequence(ctx: AxesContext) -> AxisMap:
    """Batch and time are the first two axes, in either order."""
    return same_order(ctx, pinned={0, 1})


# --- sizes ------------------------------------------------------------------------------------------------------------


@axis_map("Shape")
def sizes(ctx: AxesContext) -> AxisMap:
    rank = len(ctx.shape(0))
    axes = tuple(range(rank))[slice(ctx.attr("start", 0), ctx.attr("end", None))]
    return same_order(ctx, SizesRead(axes), outputs=())


@axis_map("Size")
def size(ctx: AxesContext) -> AxisMap:
    return same_order(ctx, outputs=())
