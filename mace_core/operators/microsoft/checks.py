"""What agreement rules of this domain share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.operators.checks import expect_one, require
from mace_core.operators.context import Ints, NodeContext


def expect_size(ctx: NodeContext, index: int, size: int, what: str) -> None:
    """Refuse an input, where given, that has another number of elements."""
    if ctx.has(index):
        found = math.prod(ctx.shape(index))
        require(found == size, f"{what} must have {size} elements, not {found}: {list(ctx.shape(index))}")


def expect_fit(ctx: NodeContext, index: int, target: Ints, what: str) -> None:
    """Refuse an input, where given, that does not broadcast to ``target``."""
    if ctx.has(index):
        given = ctx.shape(index)
        fits = len(given) <= len(target) and all(
            own in (1, other) for own, other in zip(reversed(given), reversed(target), strict=False)
        )
        require(fits, f"{what} {list(given)} does not broadcast to {list(target)}")


def expect_ones(ctx: NodeContext, indices: Sequence[int]) -> None:
    for index in indices:
        expect_one(ctx, index, f"input {index}, a scale or a zero point,")
