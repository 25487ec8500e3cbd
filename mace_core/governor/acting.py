"""Bringing a mode about: the thread pools of the process, its sessions and its pacers."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from mace_core import activity
from mace_core.errors import MaceError, UsageError
from mace_core.governor.ladder import Mode
from mace_core.governor.pacing import set_frame_rate
from mace_core.governor.state import set_governed
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

    def tell(self, text: str) -> None:
        """What the mode is, in words, for those who ask what they are held to; "": nothing."""
        set_governed(text)

    def sessions(self) -> Iterable[object]:
        """Those that it moves."""
        return (owner for owner in activity.owners() if getattr(owner, "governor", None) is None)

    def move_sessions(self, mode: Mode) -> None:
        """Let every open session run on the mode's devices; those that cannot stay where they are.  May take as long
        as opening them there."""
        staying = []
        for owner in self.sessions():
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


class SessionsActor(Actor):
    """What a mode changes for some sessions alone: where they run, and the frame rate of their streams."""

    def __init__(self) -> None:
        super().__init__()
        self.frame_rate: float | None = None
        self.text = ""
        self._sessions: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, session: object) -> None:
        """Move ``session`` too from now on."""
        self._sessions.add(session)

    def apply(self, mode: Mode) -> None:
        self.frame_rate = mode.frame_rate

    def tell(self, text: str) -> None:
        self.text = text

    def sessions(self) -> Iterable[object]:
        return list(self._sessions)


def check_for_sessions(modes: Iterable[Mode]) -> None:
    """
    Raises:
        UsageError: for a mode that cannot be for some sessions of a process alone.
    """
    for mode in modes:
        if mode.threads is not None or mode.affinity != "none":
            raise UsageError(
                f"the mode '{mode.name}' limits threads or processors, which belong to the whole process: use "
                "mace_core.governor.start for that; a governor of sessions names devices and frame rates"
            )
