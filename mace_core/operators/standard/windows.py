"""Sliding windows: strides, dilations, pads and the sizes that follow, shared by convolutions and pools."""

from __future__ import annotations

from mace_core.graph import stated_pads
from mace_core.operators.context import Ints, NodeContext, ShapeMismatchError


def window_attributes(ctx: NodeContext, rank: int) -> tuple[Ints, Ints, Ints]:
    """Strides, dilations and pads (begins, then ends) of a sliding window over ``rank`` axes, defaults filled in."""
    strides = tuple(ctx.attr("strides") or (1,) * rank)
    dilations = tuple(ctx.attr("dilations") or (1,) * rank)
    pads = tuple(ctx.attr("pads") or (0,) * (2 * rank))
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise ShapeMismatchError(f"strides, dilations and pads must fit {rank} spatial axes")
    if any(stride < 1 for stride in strides) or any(dilation < 1 for dilation in dilations):
        raise ShapeMismatchError(f"strides {list(strides)} and dilations {list(dilations)} must be positive")
    return strides, dilations, pads


def window_outputs(ctx: NodeContext, spatial: Ints, kernel: Ints, *, ceil_mode: bool = False) -> Ints:
    """Output size of a sliding window along each spatial axis."""
    rank = len(spatial)
    if any(size < 1 for size in kernel):
        raise ShapeMismatchError(f"the kernel {list(kernel)} must be positive")
    if len(kernel) != rank:
        raise ShapeMismatchError(f"a kernel of {len(kernel)} axes does not fit {rank} spatial axes")
    strides, dilations, _ = window_attributes(ctx, rank)
    stated = stated_pads(ctx.node, rank)
    if stated is None:
        return tuple(-(-size // stride) for size, stride in zip(spatial, strides, strict=True))
    result: list[int] = []
    for axis in range(rank):
        stride = strides[axis]
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        before, after = stated[0][axis], stated[1][axis]
        steps = spatial[axis] + before + after - extent
        if spatial[axis] == 0 and steps // stride == -1:
            result.append(0)  # a window of one element finds no place in nothing
            continue
        if steps < 0 and not (ceil_mode and steps > -stride):  # ceil_mode lets one window hang over the end
            raise ShapeMismatchError(
                f"the window of {extent} does not fit spatial axis {axis} of {spatial[axis]} padded by {before}+{after}"
            )
        size = (-(-steps // stride) if ceil_mode else steps // stride) + 1
        if ceil_mode and (size - 1) * stride >= spatial[axis] + before:
            size -= 1  # a last window that starts in the padding behind the data does not count
        result.append(size)
    return tuple(result)
