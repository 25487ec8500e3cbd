"""In which order the dimensions of a value lie in an operand, and which of them are left out.

An order lists axes of the value: ``dimension i of the operand = axis order[i] of the value``.  Axes that are not listed
have length 1, so that values of more dimensions than Neuron knows can be held where enough of them are 1.
"""

from __future__ import annotations

from collections.abc import Sequence

Order = tuple[int, ...]
Shape = tuple[int, ...]

MAX_RANK = 4

NHWC: Order = (0, 2, 3, 1)
NLC: Order = (0, 2, 1)


def natural(shape: Sequence[int]) -> Order | None:
    """The axes as they are, without the first ones of length 1 where there are too many; None if that is not enough."""
    surplus = len(shape) - MAX_RANK
    order = []
    for axis, size in enumerate(shape):
        if surplus > 0 and size == 1:
            surplus -= 1
        else:
            order.append(axis)
    return tuple(order) if surplus <= 0 else None


def laid(shape: Sequence[int], order: Order) -> Shape:
    """The dimensions of an operand that holds a value of ``shape``; Neuron has no tensors without dimensions."""
    return tuple(shape[axis] for axis in order) or (1,)


def long_axes(shape: Sequence[int], order: Order) -> Order:
    """The axes longer than 1 in their order: what decides where numbers lie in memory."""
    return tuple(axis for axis in order if shape[axis] != 1)
