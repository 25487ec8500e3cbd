"""What one attribute may be: its kind, its range, and what an empty list of it means."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mace_core.graph.attribute import AttributeKind
from mace_core.tensor import DType
from mace_core.tensor.types import MAX_RANK

LARGEST_NUMBER = (1 << 31) - 1
"""Of counts, sizes, strides and paddings: products of two of them and a dimension stay within 63 bits."""

_INT64 = (-(1 << 63), (1 << 63) - 1)

K = AttributeKind


class Empty(enum.Enum):
    """What a list without elements is."""

    ABSENT = "absent"  # as if the attribute were not there
    ALLOWED = "allowed"  # a value of its own: no axes, the shape of a scalar
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Rule:
    """One attribute of one or more operators.

    Attributes:
        kinds: what it may be written as; more than one where opsets differ.
        low, high: bounds of a whole number, or of each one in a list.
        choices: what texts, or whole numbers, are allowed; spelling -> the spelling that everything behind reads.
        ignores_case: texts are looked up in `choices` in lower case.
        is_text: texts must be UTF-8, which the name of something always is.
        empty: what a list without elements means.
        least: of floats; where it is set they must be finite.
        required: whether it must be there; only for operators that no schema of onnx tells about.
    """

    kinds: frozenset[AttributeKind]
    low: int = _INT64[0]
    high: int = _INT64[1]
    choices: Mapping[Any, Any] = field(default_factory=dict)
    ignores_case: bool = False
    is_text: bool = False
    empty: Empty = Empty.ABSENT
    required: bool = False
    least: float = -math.inf

    def problem(self, value: Any) -> str:
        """What is wrong with a value of one of the right kinds, "" where nothing is."""
        items = value if isinstance(value, tuple | list) else (value,)
        if isinstance(value, tuple | list) and not items and self.empty is Empty.REFUSED:
            return "must not be empty"
        for item in items:
            wrong = self._item_problem(item)
            if wrong:
                return wrong
        return ""

    def _item_problem(self, item: Any) -> str:
        if self.choices:
            key = item.lower() if self.ignores_case and isinstance(item, str) else item
            if key not in self.choices:
                shown = ", ".join(repr(choice) for choice in dict.fromkeys(self.choices.values()))
                return f"must be one of {shown}"
        elif self.is_text and not isinstance(item, str):
            if not isinstance(item, bytes):
                return ""
            return "must be text in UTF-8"
        elif isinstance(item, float):
            if self.least > -math.inf and not self.least <= item < math.inf:
                return f"must be a number from {self.least:g}"
        elif isinstance(item, int) and not self.low <= item <= self.high:
            if self.high == _INT64[1]:
                return f"must be at least {self.low}"
            return f"must be from {self.low} to {self.high}"
        return ""

    def canonical(self, value: Any) -> Any:
        """The value as everything behind reads it."""
        if not self.choices:
            return value
        if isinstance(value, tuple | list):
            return tuple(self._spelled(item) for item in value)
        return self._spelled(value)

    def _spelled(self, item: Any) -> Any:
        return self.choices[item.lower() if self.ignores_case and isinstance(item, str) else item]


def number(low: int = _INT64[0], high: int = _INT64[1], *, required: bool = False) -> Rule:
    """A whole number; without bounds, data."""
    return Rule(frozenset({K.INT}), low, high, required=required)


def count(*, required: bool = False) -> Rule:
    """How many there are of something: at least one."""
    return number(1, LARGEST_NUMBER, required=required)


def size() -> Rule:
    """How many there are of something, where none is an answer."""
    return number(0, LARGEST_NUMBER)


def axis() -> Rule:
    """An axis, also counted from behind; whether the data has it is settled with its shape."""
    return number(-MAX_RANK, MAX_RANK)


def flag() -> Rule:
    """0 or 1."""
    return number(0, 1)


def numbers(low: int = _INT64[0], high: int = _INT64[1], empty: Empty = Empty.ABSENT) -> Rule:
    """A list of whole numbers; without bounds, data."""
    return Rule(frozenset({K.INTS}), low, high, empty=empty)


def axes(empty: Empty = Empty.ABSENT) -> Rule:
    """A list of axes."""
    return numbers(-MAX_RANK, MAX_RANK, empty)


def one_of(*choices: str, ignores_case: bool = False, also: Mapping[str, str] | None = None) -> Rule:
    """A text out of a few; ``also`` are other spellings."""
    spelled = {(choice.lower() if ignores_case else choice): choice for choice in choices} | dict(also or {})
    return Rule(frozenset({K.STRING}), choices=spelled, ignores_case=ignores_case)


def list_of(*choices: str, ignores_case: bool = False) -> Rule:
    """A list of texts, each out of a few."""
    spelled = {(choice.lower() if ignores_case else choice): choice for choice in choices}
    return Rule(frozenset({K.STRINGS}), choices=spelled, ignores_case=ignores_case)


def code(*choices: int) -> Rule:
    """A whole number that stands for one of a few things."""
    return Rule(frozenset({K.INT}), choices={choice: choice for choice in choices})


def element_type(*, zero: bool = False) -> Rule:
    """The number of an element type; ``zero``: none at all, which leaves the choice open."""
    return code(*((0,) if zero else ()), *(dtype.value for dtype in DType))


def text() -> Rule:
    """Any text."""
    return Rule(frozenset({K.STRING}), is_text=True)


def texts(empty: Empty = Empty.ABSENT) -> Rule:
    """A list of any texts."""
    return Rule(frozenset({K.STRINGS}), is_text=True, empty=empty)


def of_kind(*kinds: AttributeKind, empty: Empty = Empty.ABSENT) -> Rule:
    """Any value of these kinds."""
    return Rule(frozenset(kinds), empty=empty)


def real() -> Rule:
    """Any float."""
    return of_kind(K.FLOAT)


def real_from(least: float) -> Rule:
    """A finite float with a lower bound."""
    return Rule(frozenset({K.FLOAT}), least=least)


def reals(empty: Empty = Empty.ABSENT) -> Rule:
    """A list of floats."""
    return of_kind(K.FLOATS, empty=empty)
