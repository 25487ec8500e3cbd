"""Conditions on many numbers at once, looked at without a loop in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

Numbers: TypeAlias = "Sequence[int]"


def picker(positions: Sequence[int]) -> Callable[[Numbers], tuple[int, ...]]:
    """A function that takes the numbers at some positions."""
    if len(positions) > 1:
        found: Callable[[Any], Any] = itemgetter(*positions)
        return found
    return lambda numbers: tuple([numbers[position] for position in positions])


class Pattern:
    """Which numbers are given, and which are equal."""

    __slots__ = ("_expected", "_fixed", "_left", "_right")

    def __init__(self, fixed: Iterable[tuple[int, int]], equal: Iterable[tuple[int, int]]) -> None:
        """``fixed``: (position, number); ``equal``: pairs of positions."""
        fixed, equal = tuple(fixed), tuple(equal)
        self._fixed = picker([position for position, _ in fixed])
        self._expected = tuple(number for _, number in fixed)
        self._left = picker([first for first, _ in equal])
        self._right = picker([second for _, second in equal])

    def holds(self, numbers: Numbers) -> bool:
        return self._fixed(numbers) == self._expected and self._left(numbers) == self._right(numbers)
