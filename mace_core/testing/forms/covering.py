"""Combinations of choices in which every two choices meet, in far fewer rows than there are combinations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]


def covering(
    choices: Mapping[str, Sequence[Any]],
    *,
    alone: Collection[str] = (),
    allowed: Callable[[Row], bool] = lambda row: True,
) -> Iterator[Row]:
    """Rows of one value for each choice, always in the same order.

    First the plain row of all first values, and each other value alone in it; then the busy row, of second values, and
    each other value alone in that; then every two values of two choices in the plain row.  No value needs a rare one of
    another choice beside it, so that who declines the rare one is still tried with the others.

    Args:
        choices: name -> values, the usual one first.
        alone: choices whose values stand in the plain and in the busy row only, and which the busy row leaves alone.
        allowed: whether a row makes sense; rows that do not are left out.
    """
    plain = {name: values[0] for name, values in choices.items()}
    seen: list[Row] = []

    def emit(row: Row) -> Iterator[Row]:
        if allowed(row) and row not in seen:
            seen.append(row)
            yield dict(row)

    yield from _each_alone(plain, choices, emit)
    yield from _each_alone(_busy(plain, choices, alone, allowed), choices, emit)
    meeting = [name for name in choices if name not in alone]
    for one, other in combinations(meeting, 2):
        for first, second in product(choices[one][1:], choices[other][1:]):
            yield from emit({**plain, one: first, other: second})


def _each_alone(base: Row, choices: Mapping[str, Sequence[Any]], emit: Callable[[Row], Iterator[Row]]) -> Iterator[Row]:
    """A row, and every row that differs from it in one value."""
    yield from emit(base)
    for name, values in choices.items():
        for value in values:
            yield from emit({**base, name: value})


def _busy(
    plain: Row, choices: Mapping[str, Sequence[Any]], alone: Collection[str], allowed: Callable[[Row], bool]
) -> Row:
    """As many second values in one row as go together."""
    row = dict(plain)
    for name, values in choices.items():
        changed = {**row, name: values[min(1, len(values) - 1)]}
        if name not in alone and allowed(changed):
            row = changed
    return row
