"""A Transpose through fewer axes: those that stay neighbors are one, and one of many axes is several of four."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mace_core.graph import Node

TURN = (0, 2, 1, 3)
"""The order of axes of each of the `turns`."""


def order_of(node: Node, rank: int) -> list[int]:
    """The axes of a Transpose's input in the order in which its result has them."""
    return [int(axis) for axis in node.attr("perm") or reversed(range(rank))]


def grouped_axes(shape: Sequence[int], perm: Sequence[int]) -> tuple[list[int], list[int]]:
    """The shape and the order of a Transpose without axes of size one, whose neighbors that stay together are one axis.

    Args:
        shape: of the input.
        perm: the order of its axes in the result.
    """
    groups: list[list[int]] = []
    for axis in (axis for axis in perm if shape[axis] != 1):
        last = groups[-1][-1] if groups else axis
        if axis > last and all(shape[between] == 1 for between in range(last + 1, axis)):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    places = sorted(range(len(groups)), key=lambda index: groups[index][0])
    sizes = [math.prod(shape[axis] for axis in groups[index]) for index in places]
    return sizes, [places.index(index) for index in range(len(groups))]


def turns(shape: Sequence[int], perm: Sequence[int]) -> Iterator[list[int]]:
    """The shapes of four axes, one after the other, whose `TURN` brings one axis more to its place."""
    current = list(range(len(shape)))
    for place, axis in enumerate(perm):
        at = current.index(axis)
        if at != place:
            now = [shape[a] for a in current]
            yield [math.prod(now[:place]), math.prod(now[place:at]), now[at], math.prod(now[at + 1 :])]
            current.insert(place, current.pop(at))
