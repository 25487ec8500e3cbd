"""What QNN tells of a run: its profile events, read into plain data."""

from __future__ import annotations

import ctypes as c
from typing import TYPE_CHECKING, NamedTuple

from mace_hexagon.qnn.types import Handle, ProfileEventData

if TYPE_CHECKING:
    from mace_hexagon.qnn.handles import QnnDevice

LEVELS = {"detailed": 2, "basic": 1}
"""QNN's numbers of how much is told: times of the operations too, or only of the run."""

_DEEPEST = 8


class ProfileEvent(NamedTuple):
    """One thing that was measured.

    Attributes:
        kind: QNN's or the HTP's number of what it is.
        unit: QNN's number of what ``value`` counts.
        name: of the operation, or words for people.
        parts: of what it consists.
    """

    kind: int
    unit: int
    value: int
    name: str
    parts: tuple[ProfileEvent, ...]


class QnnProfile:
    """Collects the events of the run that it is given to."""

    def __init__(self, device: QnnDevice, level: str) -> None:
        """``level`` is one of `LEVELS`.

        Raises:
            ProviderError: if the library refuses.
        """
        self.handle = Handle()
        self._device = device
        device.call("profile a run", "profileCreate", device.backend, LEVELS[level], c.byref(self.handle))

    def events(self) -> tuple[ProfileEvent, ...]:
        """What was measured.

        Raises:
            ProviderError: if the library refuses.
        """
        return self._read("profileGetEvents", self.handle, _DEEPEST)

    def close(self) -> None:
        """Free the collection.  Idempotent."""
        handle, self.handle = self.handle, Handle()
        if handle:
            self._device.call("free a profile", "profileFree", handle)

    def _read(self, function: str, owner: object, deepest: int) -> tuple[ProfileEvent, ...]:
        numbers, count = c.POINTER(c.c_uint64)(), c.c_uint32()
        self._device.call("read a profile", function, owner, c.byref(numbers), c.byref(count))
        return tuple(self._event(numbers[index], deepest) for index in range(count.value))

    def _event(self, number: int, deepest: int) -> ProfileEvent:
        data = ProfileEventData()
        self._device.call("read a profile", "profileGetEventData", number, c.byref(data))
        name = (data.name or b"").decode("utf-8", "replace")
        parts = self._read("profileGetSubEvents", number, deepest - 1) if deepest else ()
        return ProfileEvent(data.kind, data.unit, data.value, name, parts)
