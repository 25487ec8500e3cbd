"""Shapes that a library is built for: numbers, and sizes that a program chooses at run time between two bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from mace_core.errors import UsageError

_SHAPE = re.compile(r"[0-9]{1,9}(\.\.[0-9]{1,9}(:[0-9]{1,9})?)?(x[0-9]{1,9}(\.\.[0-9]{1,9}(:[0-9]{1,9})?)?)*")


class SizeRange(NamedTuple):
    """A dimension that is chosen at run time.

    Attributes:
        smallest, largest: both included.
        step: only ``smallest``, ``smallest + step``, … are taken.
    """

    smallest: int
    largest: int
    step: int = 1

    def __str__(self) -> str:
        return f"{self.smallest}..{self.largest}" + (f":{self.step}" if self.step != 1 else "")


Size: TypeAlias = "int | SizeRange"
ShapeRange: TypeAlias = "tuple[Size, ...]"
Shapes: TypeAlias = "Mapping[str, Sequence[Size]]"
"""By the name of an input."""


def parse_shape(text: str) -> ShapeRange:
    """``1x3x48x320..640`` or, in steps, ``1x3x48x320..640:32``; ``scalar`` for no dimensions.

    Raises:
        UsageError: for anything else.
    """
    if text == "scalar":
        return ()
    if not _SHAPE.fullmatch(text):
        raise UsageError(f"'{text}' is not a shape; write it like 1x3x224x224, with 320..640 for a size in a range")
    return tuple(_size(part) for part in text.split("x"))


def checked_size(size: Size) -> Size:
    """A range of one size as that size.

    Raises:
        UsageError: for a range that has no sizes, and sizes that are not a whole number of steps.
    """
    if not isinstance(size, SizeRange):
        return size
    if size.smallest > size.largest or size.step < 1 or size.smallest < 1:
        raise UsageError(f"'{size}' is not a range of sizes: the smaller one comes first, and is at least 1")
    if size.smallest % size.step or size.largest % size.step:
        raise UsageError(f"'{size}': both bounds are multiples of the step, such as 32..640:32")
    return size.smallest if size.smallest == size.largest else size


def _size(part: str) -> Size:
    bounds, colon, step = part.partition(":")
    low, dots, high = bounds.partition("..")
    if not dots:
        return int(low)
    return checked_size(SizeRange(int(low), int(high), int(step) if colon else 1))


def shape_text(shape: Sequence[Size]) -> str:
    """As `parse_shape` reads it."""
    return "x".join(map(str, shape)) or "scalar"
