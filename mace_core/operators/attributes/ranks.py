"""Attributes against the rank of the data: lengths of lists, axes that exist, none named twice.

The other half of ``mace_core.operators.attributes``, which has seen kinds and ranges already.  Here are the forms that
many operators share; what holds for one operator stands in its family (`mace_core.operators.rank_check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mace_core.operators.context import NodeContext, ShapeMismatchError
from mace_core.operators.registry import RankCheck

_ONE_PER_SPATIAL_AXIS = ("kernel_shape", "strides", "dilations", "output_padding")


def check_window(ctx: NodeContext) -> None:
    """A rank check: a window slides over all axes of input 0 but two."""
    spatial = len(ctx.shape(0)) - 2
    for name in _ONE_PER_SPATIAL_AXIS:
        check_length(ctx, name, spatial)
    check_length(ctx, "pads", 2 * spatial)
    check_length(ctx, "output_shape", spatial, spatial + 2)


def axis_of_data(*names: str, least_rank: int = 0) -> RankCheck:
    """A rank check: these attributes name axes of input 0; -1 counts from behind.

    Args:
        names: of the attributes.
        least_rank: 1 for operators that take a number without axes for one with an axis of size 1.
    """

    def check(ctx: NodeContext) -> None:
        for name in names:
            axis = ctx.attr(name)
            if axis is not None and ctx.has(0):
                check_axis(name, axis, max(len(ctx.shape(0)), least_rank))

    return check


def check_axes_of_data(ctx: NodeContext) -> None:
    """A rank check: the attribute ``axes``, where given, names axes of input 0, each once."""
    axes = ctx.attr("axes")
    if axes is None:
        return
    rank = len(ctx.shape(0))
    for axis in axes:
        check_axis("axes", axis, rank)
    if len({axis % rank for axis in axes}) != len(axes):
        raise ShapeMismatchError(f"the attribute 'axes' names one axis twice: {shown(axes)}")


def check_axis(name: str, axis: int, rank: int) -> None:
    """Refuse an axis that data of this rank does not have."""
    if not -rank <= axis < rank:
        dimensions = f"{rank} dimension{'' if rank == 1 else 's'}"
        raise ShapeMismatchError(f"axis {axis} does not exist in {dimensions} (attribute '{name}')")


def check_length(ctx: NodeContext, name: str, *lengths: int) -> None:
    """Refuse a list, where given, that has none of these lengths."""
    given = ctx.attr(name)
    if given is not None and len(given) not in lengths:
        wanted = " or ".join(str(max(length, 0)) for length in lengths)
        raise ShapeMismatchError(
            f"the attribute '{name}' must have {wanted} elements, not {len(given)}: {shown(given)}"
        )


def shown(given: Sequence[Any]) -> str:
    """A list as messages show it, cut where it is long."""
    text = str(list(given[:9]))
    return text if len(given) <= 9 else f"{text[:-1]}, …]"
