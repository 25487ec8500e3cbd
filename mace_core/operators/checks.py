"""What the shapes of a node's inputs must have in common, beyond what decides the shapes of its outputs.

Kernels read as far as one input's shape tells them and rely on the others for it: indices that belong to updates,
biases to filters, states to directions.  Whoever breaks that reads what is not theirs, so it is refused here, for every
device, before anyone is asked for a kernel.  Rules look at shapes, and at contents only where these are known already.
"""

from __future__ import annotations

from mace_core.operators.context import Ints, NodeContext, ShapeMismatchError, same_shape
from mace_core.operators.registry import Agreement


def expect(ctx: NodeContext, index: int, *shapes: Ints, what: str) -> None:
    """Refuse an input, where given, that has none of these shapes."""
    if ctx.has(index) and not any(same_shape(ctx.shape(index), shape) for shape in shapes):
        wanted = " or ".join(dict.fromkeys(str(list(shape)) for shape in shapes))
        raise ShapeMismatchError(f"{what} must be {wanted}, not {list(ctx.shape(index))}")


def expect_rank(ctx: NodeContext, index: int, rank: int, what: str) -> Ints:
    """The shape of an input, refused if it has another number of axes."""
    shape = ctx.shape(index)
    if len(shape) != rank:
        raise ShapeMismatchError(f"{what} must have {rank} ax{'i' if rank == 1 else 'e'}s, not {len(shape)}")
    return shape


def expect_one(ctx: NodeContext, index: int, what: str) -> None:
    """Refuse an input, where given, that is not a single element."""
    expect(ctx, index, (), (1,), what=what)


def expect_fit(ctx: NodeContext, index: int, target: Ints, what: str) -> None:
    """Refuse an input, where given, that does not broadcast to ``target``."""
    if ctx.has(index):
        given = ctx.shape(index)
        fits = len(given) <= len(target) and all(
            own in (1, other) for own, other in zip(reversed(given), reversed(target), strict=False)
        )
        require(fits, f"{what} {list(given)} does not broadcast to {list(target)}")


def require(condition: bool, message: str) -> None:
    """Refuse the node with ``message`` where ``condition`` does not hold."""
    if not condition:
        raise ShapeMismatchError(message)


def singles(**named: int) -> Agreement:
    """A rule: these inputs, by what they are, are single elements."""

    def rule(ctx: NodeContext) -> None:
        for what, index in named.items():
            expect_one(ctx, index, f"the {what}")

    return rule


def lists(*indices: int) -> Agreement:
    """A rule: these inputs are lists."""

    def rule(ctx: NodeContext) -> None:
        for index in indices:
            if ctx.has(index):
                expect_rank(ctx, index, 1, f"input {index}, a list,")

    return rule
