"""What agreement rules of this domain share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.operators.checks import expect_one, require
from mace_core.operators.context import NodeContext


def expect_size(ctx: NodeContext, index: int, size: int, what: str) -> None:
    """Refuse an input, where given, that has another number of elements."""
    if ctx.has(index):
        found = math.prod(ctx.shape(index))
        require(found == size, f"{what} must have {size} elements, not {found}: {list(ctx.shape(index))}")


def expect_ones(ctx: NodeContext, indices: Sequence[int]) -> None:
    for index in indices:
        expect_one(ctx, index, f"input {index}, a scale or a zero point,")
