"""Telling sizes that are not decided from numbers; all that code needs which handles both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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


def settled(size: int) -> int:
    """The number, where the guards so far leave only one."""
    return cast("Any", size).settled if is_symbolic(size) else size


def is_same(first: int, second: int) -> bool:
    """Whether two sizes are known to be equal; asks nothing: for what may be joined, and need not be."""
    if is_symbolic(first):
        return bool(cast("Any", first).is_same(second))
    return bool(cast("Any", second).is_same(first)) if is_symbolic(second) else first == second


_for_people: ContextVar[bool] = ContextVar("for_people", default=False)


@contextmanager
def writing_for_people() -> Iterator[None]:
    """Inside, text with a size in it is for people alone: it shows the expression, and decides nothing."""
    token = _for_people.set(True)
    try:
        yield
    finally:
        _for_people.reset(token)


def is_for_people() -> bool:
    """Whether text that is written now is for people alone."""
    return _for_people.get()
