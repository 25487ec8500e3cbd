"""Orders of axes.

An order of a value's axes says how it lies in memory: axis ``i`` of what is stored is axis ``order[i]`` of the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from mace_core.operators.axis_maps import Groups

Order: TypeAlias = "tuple[int, ...]"


def identity(count: int) -> Order:
    """As it is."""
    return tuple(range(count))


def compose(outer: Sequence[int], inner: Iterable[int]) -> Order:
    """The order of ``x`` in which ``inner`` of ``Transpose(x, outer)`` is stored."""
    return tuple(outer[axis] for axis in inner)


def inverse(order: Sequence[int]) -> Order:
    """The order that undoes ``order``."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def between(given: Sequence[int], wanted: Iterable[int]) -> Order:
    """The ``perm`` of the Transpose that makes what is stored as ``wanted`` of what is stored as ``given``."""
    place = inverse(given)
    return tuple(place[axis] for axis in wanted)


def of_port(groups: Groups, order: Iterable[int]) -> Order:
    """The order of an input's or output's axes when the iteration space has ``order``."""
    return tuple(axis for place in order for axis in groups[place])


def of_space(groups: Groups, order: Sequence[int]) -> Order | None:
    """An order of the iteration space in which an input or output with these axes has ``order``.

    Axes that it lacks follow those that they follow now.  None where axes that belong together are apart.
    """
    at = inverse(order)
    own: list[tuple[int, int]] = []
    for axis, group in enumerate(groups):
        if group:
            if any(at[other] != at[group[0]] + offset for offset, other in enumerate(group)):
                return None
            own.append((at[group[0]], axis))
    found = [axis for _, axis in sorted(own)]
    for axis, group in enumerate(groups):
        if not group:
            found.insert(found.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(found)
