"""The governor of a process: one thread that decides and acts, one for what may hang, and one for what takes long.

Sensors, plugins and observers are asked on a thread of their own.  If one of them hangs, readings stop coming, and the
thread that decides goes to the coolest mode after ``lost_after`` seconds.  Sessions go to other devices on a third
thread, which is there only if a mode names some: opening a session may take longer than heat allows to wait.
"""

from __future__ import annotations

import atexit
import fnmatch
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_core.errors import UsageError
from mace_core.governor.acting import Actor, SessionsActor, check_for_sessions
from mace_core.governor.ladder import Ladder, Mode, Rung, default_rungs
from mace_core.governor.pacing import Pacer, set_frame_rate
from mace_core.governor.state import set_governed
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.host.sensors import read_sensors
from mace_core.provider.events import GovernorEvent, GovernorState
from mace_core.provider.hooks import emit_governor, select_mode

_log = logging.getLogger("mace")

Sensor = Callable[[], "float | None"]
"""Degrees Celsius; None where there is no reading at this moment."""


@dataclass(frozen=True, slots=True)
class _Reading:
    time: float
    celsius: float
    wish: str | None


class Governor:
    """Watches the temperature and keeps the process in a mode that suits it; made by `start`.

    Use it as a context manager, or call `stop`: either ends its threads and brings ``full`` back.
    """

    def __init__(
        self, ladder: Ladder, sensor: Sensor, period: float, lost_after: float, actor: Actor | None = None
    ) -> None:
        self._ladder = ladder
        self._sensor = sensor
        self._period = period
        self._lost_after = lost_after
        self._actor = actor or Actor()
        self._stopped = threading.Event()
        self._reading: _Reading | None = None
        self._fresh = threading.Event()
        self._events: queue.SimpleQueue[GovernorEvent] = queue.SimpleQueue()
        self._mode = ladder.mode
        self._since = time.monotonic()
        self._changes = 0
        self._is_stopped = False
        self._told_fault = ""
        self._moves = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="mace sensors", daemon=True),
            threading.Thread(target=self._govern, name="mace governor", daemon=True),
        ]
        if any(mode.devices is not None for mode in ladder.modes):
            self._threads.append(threading.Thread(target=self._move, name="mace governor moves", daemon=True))

    @property
    def mode(self) -> Mode:
        """The mode now."""
        return self._mode

    @property
    def celsius(self) -> float | None:
        """The latest reading; None before the first."""
        reading = self._reading
        return None if reading is None else reading.celsius

    @property
    def changes(self) -> int:
        """How often the mode changed."""
        return self._changes

    def status_data(self) -> dict[str, Any]:
        """Mode, temperature and what could not be had, as plain values."""
        return {
            "mode": self._mode.name,
            "does": self._mode.describe(),
            "celsius": self.celsius,
            "seconds_in_mode": time.monotonic() - self._since,
            "changes": self._changes,
            "notes": list(self._actor.notes),
        }

    def stop(self) -> None:
        """End its threads and let sessions run as they were opened.  Idempotent.

        A sensor that hangs keeps its thread until it answers; that thread then ends.
        """
        global _current
        self._stopped.set()
        self._fresh.set()
        self._moves.set()
        for thread in reversed(self._threads):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(2 * self._period, 1.0))
        with _lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            if _current is self:
                _current = None
        self._change_to(self._ladder.modes[0], "the governor was stopped", tell=False)
        if any(mode.devices is not None for mode in self._ladder.modes):
            self._actor.move_sessions(self._mode)
        self._actor.tell("")

    @property
    def text(self) -> str:
        """What it holds its sessions to, in words; "" once it is stopped, and for a governor of the whole process."""
        return self._actor.text if isinstance(self._actor, SessionsActor) else ""

    def join(self, session: object) -> None:
        """Govern ``session`` from now on; `mace_core.Session` calls it for its argument ``governor``.

        Raises:
            UsageError: if it was stopped.
        """
        if self._is_stopped:
            raise UsageError("the governor was stopped: start another one for this session")
        if isinstance(self._actor, SessionsActor):
            self._actor.add(session)
            self._moves.set()

    def pace(self, frame_rate: float | None = None) -> Pacer:
        """As `mace_core.governor.pace`, for streams of its sessions: the lowest of all rates holds."""
        actor = self._actor
        return Pacer(frame_rate, lambda: actor.frame_rate if isinstance(actor, SessionsActor) else None)

    def __enter__(self) -> Governor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Governor(mode={self._mode.name!r}, celsius={self.celsius})"

    # --- the thread that decides ----------------------------------------------------------------------------------

    def _govern(self) -> None:
        ladder, latest, lost = self._ladder, time.monotonic(), False
        while not self._stopped.is_set():
            self._fresh.wait(self._period)
            self._fresh.clear()
            if self._stopped.is_set():
                return
            now, reading = time.monotonic(), self._reading
            if reading is not None and now - reading.time <= self._lost_after:
                latest, lost = reading.time, False
                try:
                    mode = ladder.update(now, reading.celsius, reading.wish)
                except UsageError as error:  # a wish that is no mode
                    self._tell_fault(str(error))
                    mode = ladder.update(now, reading.celsius)
                reason = f"{reading.celsius:.1f} degrees"
            elif now - latest > self._lost_after:
                if lost:
                    continue
                lost, mode = True, ladder.lose(now)
                reason = f"no temperature for {self._lost_after:g} s"
            else:
                continue
            self._change_to(mode, reason)
            if mode.devices is not None:
                self._moves.set()  # also those that were opened since

    def _change_to(self, mode: Mode, reason: str, *, tell: bool = True) -> None:
        before, self._mode, self._since = self._mode, mode, time.monotonic()
        if before is mode:
            return
        self._changes += 1
        self._actor.apply(mode)
        self._moves.set()
        self._actor.tell(f"governor: mode '{mode.name}' ({mode.describe()})")
        is_cooler = self._ladder.modes.index(mode) > self._ladder.modes.index(before)
        text = "governor: from mode '%s' to '%s' (%s): %s"
        _log.log(logging.WARNING if is_cooler else logging.INFO, text, before.name, mode.name, reason, mode.describe())
        event = GovernorEvent(before.name, mode.name, reason, self.celsius, mode.describe())
        if tell:
            self._events.put(event)
        else:
            emit_governor(event)

    # --- the thread for what takes long ---------------------------------------------------------------------------

    def _move(self) -> None:
        while True:
            self._moves.wait()
            self._moves.clear()
            if self._stopped.is_set():
                return
            self._actor.move_sessions(self._mode)

    # --- the thread for what may hang -----------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._read()
            if self._stopped.wait(self._period):
                return

    def _read(self) -> None:
        names = tuple(mode.name for mode in self._ladder.modes)
        try:
            while not self._events.empty():
                emit_governor(self._events.get_nowait())
            celsius = self._sensor()
            if celsius is None or not -273.15 <= celsius < 1000:
                return
            wish = select_mode(GovernorState(self._mode.name, names, float(celsius), time.monotonic() - self._since))
        except Exception as error:  # whatever a sensor or a plugin may raise: no reading, which the other thread sees
            self._tell_fault(f"{type(error).__name__}: {error}")
            return
        self._reading = _Reading(time.monotonic(), float(celsius), wish)
        self._fresh.set()

    def _tell_fault(self, fault: str) -> None:
        if fault != self._told_fault:
            self._told_fault = fault
            _log.warning("the governor cannot use what it was told: %s", fault)


_current: Governor | None = None
_lock = fork_safe_lock()


def start(
    rungs: Sequence[Rung] | None = None,
    *,
    sensor: Sensor | None = None,
    zones: Sequence[str] = ("*",),
    root: Path | None = None,
    period: float = 1.0,
    dwell: float = 10.0,
    lost_after: float = 10.0,
) -> Governor:
    """Govern this process from now on: all its sessions, those opened later included.

    Args:
        rungs: the cooler modes and their thresholds; by default `default_rungs`.
        sensor: answers degrees Celsius, or None where there is no reading; by default the hottest thermal zone.
        zones: which zones count, by name (``*`` and ``?`` allowed).
        root: of the sysfs to read, see `mace_core.host.sensors`.
        period: seconds between two readings.
        dwell: seconds that the temperature has to be low before the next warmer mode.
        lost_after: seconds without a reading after which the coolest mode is taken.

    Raises:
        UsageError: if a governor runs already, if thresholds are not in order, or if there is no such sensor.
    """
    global _current
    ladder, sensor = _checked(
        default_rungs() if rungs is None else rungs, sensor, zones, root, period, dwell, lost_after
    )
    with _lock:
        if _current is not None:
            raise UsageError("a governor runs in this process already: stop it first")
        governor = _current = Governor(ladder, sensor, period, lost_after)
    return _begun(governor)


def for_sessions(
    rungs: Sequence[Rung],
    *,
    sensor: Sensor | None = None,
    zones: Sequence[str] = ("*",),
    root: Path | None = None,
    period: float = 1.0,
    dwell: float = 10.0,
    lost_after: float = 10.0,
) -> Governor:
    """A governor for those sessions alone that are opened with it, ``Session(model, governor=…)``; any number may run.

    A governor of the whole process leaves these sessions where they are, and limits their threads like all others.

    Args:
        rungs: as of `start`, with modes that name devices and frame rates alone.
        sensor, zones, root, period, dwell, lost_after: as of `start`.

    Raises:
        UsageError: as `start`, and for modes that limit threads or processors, which belong to the process.
    """
    ladder, sensor = _checked(rungs, sensor, zones, root, period, dwell, lost_after)
    check_for_sessions(ladder.modes)
    return _begun(Governor(ladder, sensor, period, lost_after, SessionsActor()))


def _checked(
    rungs: Sequence[Rung],
    sensor: Sensor | None,
    zones: Sequence[str],
    root: Path | None,
    period: float,
    dwell: float,
    lost_after: float,
) -> tuple[Ladder, Sensor]:
    if not 0.001 <= period <= 60 or not lost_after > period:
        raise UsageError(
            f"a governor reads every 0.001 to 60 seconds and waits longer than that for a reading, not period={period} "
            f"and lost_after={lost_after}"
        )
    ladder = Ladder(rungs, dwell)
    if sensor is None:
        sensor = _hottest(zones, root)
        _check_there(zones, root)
    return ladder, sensor


def _begun(governor: Governor) -> Governor:
    governor._actor.tell(f"governor: mode '{governor.mode.name}' ({governor.mode.describe()})")
    try:
        for thread in governor._threads:
            thread.start()
    except RuntimeError as error:  # the process has no room for another thread
        governor.stop()
        raise UsageError(f"a governor needs threads of its own, and none can be started: {error}") from error
    return governor


def current() -> Governor | None:
    """The governor that runs in this process."""
    return _current


def status_data() -> dict[str, Any]:
    """What the governor does, as plain values; empty where none runs."""
    governor = _current
    return {} if governor is None else governor.status_data()


def _hottest(zones: Sequence[str], root: Path | None) -> Sensor:
    def read() -> float | None:
        found = [each.celsius for each in read_sensors(root).temperatures if _is_among(each.name, zones)]
        return max(found, default=None)

    return read


def _is_among(name: str, zones: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in zones)


def _check_there(zones: Sequence[str], root: Path | None) -> None:
    readings = read_sensors(root)
    if not readings.temperatures:
        raise UsageError(f"there is nothing to govern by ({readings.absent[0]}): give a sensor, or MACE_SYSFS_ROOT")
    names = [each.name for each in readings.temperatures]
    if not any(_is_among(name, zones) for name in names):
        raise UsageError(f"no thermal zone is called {', '.join(zones)}: there are {', '.join(sorted(set(names)))}")


def _stop_at_exit() -> None:
    if _current is not None:
        _current.stop()


def _forget() -> None:
    """In the child of a fork nothing governs, and thread pools have forgotten their limits."""
    global _current
    _current = None
    set_frame_rate(None)
    set_governed("")


atexit.register(_stop_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
