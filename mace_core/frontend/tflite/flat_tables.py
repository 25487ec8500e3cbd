"""Flatbuffers whose schema no light package publishes: fields by their number in the schema, damage told as absence."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import flatbuffers
import numpy as np
from flatbuffers import number_types

_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError)
MOST_ENTRIES = 10_000
"""Of all lists of a flatbuffer, each counted as often as it is asked for; more are left out."""

MOST_TEXT = 1 << 20
"""Bytes of all its texts, likewise."""


@dataclass(slots=True)
class _Left:
    """What a flatbuffer may still give: offsets let a few bytes of it stand for any number of tables."""

    entries: int = MOST_ENTRIES
    text: int = MOST_TEXT

    def takes(self, entries: int) -> bool:
        """Whether a list of so many entries may be read."""
        if entries > self.entries:
            return False
        self.entries -= entries
        return True


class FlatTable:
    """One table.  Its numbers, texts, lists and tables are asked for by the number of the field, from 0."""

    def __init__(self, content: bytes, position: int, left: _Left | None = None) -> None:
        self._table = flatbuffers.table.Table(content, position)
        self._left = left or _Left()

    @classmethod
    def root(cls, content: bytes) -> FlatTable | None:
        """The table that a flatbuffer begins with; None where there is none."""
        if len(content) < 8:
            return None
        position = int.from_bytes(content[:4], "little")
        return cls(content, position) if position < len(content) else None

    def text(self, field: int) -> str:
        """A text; "" where there is none."""
        try:
            place = self._table.Offset(4 + 2 * field)
            found: bytes = self._table.String(place + self._table.Pos) if place else b""
        except _DAMAGE:
            return ""
        if len(found) > self._left.text:
            return ""
        self._left.text -= len(found)
        return found.decode("utf-8", "replace")

    def kind(self, field: int) -> int:
        """A number of 8 bits, as kinds of unions are."""
        try:
            place = self._table.Offset(4 + 2 * field)
            return int(self._table.Get(number_types.Uint8Flags, place + self._table.Pos)) if place else 0
        except _DAMAGE:
            return 0

    def table(self, field: int) -> FlatTable | None:
        """A table; None where there is none."""
        try:
            place = self._table.Offset(4 + 2 * field)
            found = self._table.Indirect(place + self._table.Pos) if place else -1
        except _DAMAGE:
            return None
        return FlatTable(self._table.Bytes, found, self._left) if found >= 0 else None

    def tables(self, field: int) -> list[FlatTable]:
        """A list of tables; [] where there is none."""
        try:
            place = self._table.Offset(4 + 2 * field)
            if not place:
                return []
            count, start = self._table.VectorLen(place), self._table.Vector(place)
            if not self._left.takes(count):
                return []
            places = [self._table.Indirect(start + 4 * index) for index in range(count)]
            return [FlatTable(self._table.Bytes, place, self._left) for place in places]
        except _DAMAGE:
            return []

    def floats(self, field: int) -> list[float]:
        """A list of 32 bit floats; [] where there is none."""
        try:
            place = self._table.Offset(4 + 2 * field)
            if not place or not self._left.takes(self._table.VectorLen(place)):
                return []
            numbers = self._table.GetVectorAsNumpy(number_types.Float32Flags, place)
        except _DAMAGE:
            return []
        return [float(number) for number in np.asarray(numbers)]
