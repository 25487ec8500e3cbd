"""Bringing a mode about: the thread pools of the process, its sessions and its pacers."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

from mace_core import activity
from mace_core.errors import MaceError
from mace_core.governor.ladder import Mode
from mace_core.governor.pacing import set_frame_rate
from mace_core.host.processors import choose_processors

_log = logging.getLogger("mace")


@runtime_checkable
class Movable(Protocol):
    """A session, as far as this is concerned with it."""

    def run_on(self, devices: tuple[str, ...] | None) -> None:
        """Run on these devices from now on; None: on those it was opened with."""


class Actor:
    """What a mode changes, and what it changed."""

    def __init__(self) -> None:
        self._missing: list[str] = []
        self._staying: list[str] = []
        self._noted: set[str] = set()

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the mode cannot be had here."""
        return (*self._missing, *self._staying)

    def apply(self, mode: Mode) -> None:
        """Run as ``mode`` says from the next run on.  What cannot be had here is noted."""
        from mace_core.native.pool import confine, set_thread_limit

        set_thread_limit(mode.threads)
        choice = choose_processors(mode.affinity)
        confine(choice.processors)
        set_frame_rate(mode.frame_rate)
        self._missing = self._tell(mode, [choice.note] if choice.note else [])

    def move_sessions(self, mode: Mode) -> None:
        """Let every open session run on the mode's devices; those that cannot stay where they are.  May take as long
        as opening them there."""
        staying = []
        for owner in activity.owners():
            if isinstance(owner, Movable):
                try:
                    owner.run_on(mode.devices)
                except MaceError as error:
                    staying.append(f"a session stays where it is: {error}")
        self._staying = self._tell(mode, staying)

    def _tell(self, mode: Mode, notes: list[str]) -> list[str]:
        """Say what was not said before."""
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                _log.warning("the governor's mode '%s' is not all that it names: %s", mode.name, note)
        return notes
