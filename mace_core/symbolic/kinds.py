"""Telling sizes that are not decided from numbers; all that code needs which handles both."""

from __future__ import annotations

from typing import Any, TypeVar, cast


class Symbolic:
    """What depends on the symbols of a trace."""

    __slots__ = ()

    @property
    def hint(self) -> Any:
        """The value for the shapes that the trace was made with."""
        raise NotImplementedError


def is_symbolic(value: object) -> bool:
    """Whether ``value`` depends on symbols."""
    return issubclass(type(value), Symbolic)


N = TypeVar("N", int, float)


def hint(number: N) -> N:
    """The number for the shapes at hand, without a guard: for choices any outcome of which is right."""
    return cast("Any", number).hint if is_symbolic(number) else number
