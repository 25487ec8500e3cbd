"""Runs that outlast their devices: what fails on one is computed by the others, and a device that keeps failing rests.

A run is a function of what it is fed: nothing of it is handed out before its end, and what it wrote over is put back.
So a run that a device failed begins again, without that device.  The plans with the device and those without are both
kept: once they are made, going from one to the other costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from mace_core.errors import (
    DataError,
    DeviceLostError,
    MaceError,
    OutOfMemoryError,
    ProviderError,
    StrictPlacementError,
    TransientError,
)
from mace_core.faults import FaultLimits
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.host.waiting import GivenUpError
from mace_core.provider.border import reason_of
from mace_core.provider.registry import CUSTOM
from mace_core.scheduler.planning import notify
from mace_core.scheduler.planning.partition import UnplacedNodesError
from mace_core.scheduler.running.breakers import Breaker
from mace_core.scheduler.running.pressure import relieved
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import MemoryKind

if TYPE_CHECKING:
    from mace_core.activity import Activity
    from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
    from mace_core.scheduler.running.session_runners import SessionRunners

_log = logging.getLogger("mace")

Run: TypeAlias = "Callable[[SessionRunners], list[RuntimeValue]]"
"""Runs on the devices of those runners."""


class Failover:
    """The runs of one session.

    Attributes:
        limits: when devices rest.
        breakers: of the devices that have failed at some time, by name.
        is_calm: nothing is held against any device: runs need not come by here.
    """

    def __init__(
        self, runners: SessionRunners, pool: DevicePool, limits: FaultLimits, *, label: str, strict: bool
    ) -> None:
        """``label``: how messages call the model; ``strict``: errors are raised, but that they end a run."""
        self.limits = limits
        self.breakers: dict[str, Breaker] = {}
        self.is_calm = True
        self.activity: Activity | None = None
        self.runners = runners
        self.pool = pool
        self.label = label
        self.raises = strict or not limits.move
        self._strict = strict
        self._lock = fork_safe_lock()
        pool.on_lost = self._lost_while_planning

    @property
    def resting(self) -> dict[str, str]:
        """The devices that rest, and why."""
        if self.is_calm:
            return {}
        return {name: told for name, breaker in list(self.breakers.items()) if (told := breaker.told())}

    def run(self, run: Run, error: BaseException | None = None) -> list[RuntimeValue]:
        """The results of ``run``, called with the runners to use.

        Args:
            error: what a first attempt with the session's own runners ended with.

        Raises:
            MaceError: what it raises, where no other devices can do it.
        """
        if error is None and self.is_calm:
            try:
                return run(self.runners)
            except (ProviderError, MemoryError) as failure:
                error = failure
        return _Attempt(self).go_on(run, error)

    def reopen(self, name: str) -> None:
        """Open a device that was lost anew; plans that did without it are made again.

        Raises:
            Exception: what opening it raises.
        """
        with self.runners.planning:
            self.pool.renew(name)
            device = self.pool.find(name)
            assert device is not None
            try:
                device.backend  # noqa: B018 - opening is the point
            except Exception as error:
                device.refused = f"it could not be opened again: {reason_of(error)}"
                raise
            self.runners.drop_plans()

    def _lost_while_planning(self, name: str, error: DeviceLostError) -> None:
        breaker = self.breaker(name)
        breaker.failed(reason_of(error), is_gone=True, hangs=isinstance(error, GivenUpError))
        self.is_calm = False
        self.count("rested", name, error)

    def blamed(self, error: ProviderError) -> SessionDevice | None:
        """The device that others may stand in for; None where the error is to be raised."""
        device = self.pool.find(error.device or "")
        if device is None or not device.is_open or isinstance(error, DataError):
            return None  # what cannot be opened never worked here
        if device.is_reference or device.device.provider == CUSTOM:
            return None
        if isinstance(error, OutOfMemoryError) and _works_on_host(device):
            return None  # elsewhere it is the same memory
        return device

    def breaker(self, device: str) -> Breaker:
        with self._lock:
            return self.breakers.setdefault(device, Breaker(self.limits))

    def count(self, deed: str, device: str, error: BaseException | None) -> None:
        """Tell those who watch: a run was ``retried`` or ``moved``, a device ``rested`` or ``resumed``."""
        if self.activity is not None and deed != "resumed":
            setattr(self.activity, deed, getattr(self.activity, deed) + 1)
        notify.failed(self.label, device, deed, "" if error is None else reason_of(error))

    def look(self) -> None:
        """See whether all is calm again."""
        for name, breaker in list(self.breakers.items()):
            if breaker.is_calm:
                self.pool.failures.pop(name, None)
        self.is_calm = all(breaker.is_calm for breaker in list(self.breakers.values()))


def _works_on_host(device: SessionDevice) -> bool:
    try:
        return device.memory is MemoryKind.HOST
    except ProviderError:
        return False


class _Attempt:
    """One run, on whatever devices it takes."""

    def __init__(self, owner: Failover) -> None:
        self._owner = owner
        self._without: dict[str, str] = {}  # devices that it does without, and why
        self._trials: set[str] = set()  # devices that it tries after their rest
        self._failed: list[tuple[str, ProviderError]] = []

    def go_on(self, run: Run, error: BaseException | None = None) -> list[RuntimeValue]:
        """The results; ``error``: what a first attempt on all devices ended with."""
        owner = self._owner
        try:
            if error is None:
                self._admit()
            while True:
                runners = owner.runners.without(self._without) if self._without else owner.runners
                try:
                    results = self._tried(run, runners, error)
                except DataError:
                    for name, _ in self._failed:  # it was not the device's fault
                        owner.breaker(name).taken_back()
                    raise
                except ProviderError as failure:
                    self._move(failure)
                except (UnplacedNodesError, StrictPlacementError) as nowhere:
                    self._stay(nowhere)
                else:
                    self._ended()
                    return results
                error = None
        finally:
            for name in self._trials:
                owner.breaker(name).untried()
            owner.look()

    def _admit(self) -> None:
        """Which devices to do without, and which to try."""
        for name, breaker in list(self._owner.breakers.items()):
            admitted = breaker.admits()
            if admitted is None and breaker.is_gone and not self._reopened(name, breaker):
                admitted = False
            elif admitted is None:
                self._trials.add(name)
            if admitted is False:
                self._without[name] = breaker.told()

    def _reopened(self, name: str, breaker: Breaker) -> bool:
        try:
            self._owner.reopen(name)
        except Exception as error:  # whatever it is, there are other devices
            breaker.failed(reason_of(error), is_gone=True, is_trial=True)
            _log.warning("%s: %s cannot be opened again: %s", self._owner.label, name, breaker.told())
            return False
        return True

    def _tried(self, run: Run, runners: SessionRunners, error: BaseException | None) -> list[RuntimeValue]:
        """The results, with what helps against a failure that may pass."""
        if error is None:
            try:
                return run(runners)
            except (TransientError, MemoryError) as passing:
                error = passing
        if isinstance(error, TransientError):
            _log.warning("a run of %s failed and is tried once more: %s", self._owner.label, error)
            self._owner.count("retried", error.device or "", error)
            return run(runners)
        if isinstance(error, MemoryError):
            return relieved(owner=self._owner.runners, error=error, run=lambda: run(runners))
        raise error

    def _move(self, error: ProviderError) -> None:
        """Do without the device that failed from now on.

        Raises:
            ProviderError: ``error``, where it has to be raised.
        """
        owner = self._owner
        device = owner.blamed(error)
        if device is None or device.name in self._without:
            raise self._failed[0][1] if self._failed else error
        name, is_gone = device.name, isinstance(error, DeviceLostError)
        if is_gone or not owner.raises:
            breaker = owner.breaker(name)
            rests = breaker.failed(reason_of(error), is_gone=is_gone, is_trial=name in self._trials)
            owner.is_calm = False
            owner.pool.failures[name] = breaker.history()
            self._trials.discard(name)
            if isinstance(error, DeviceLostError):
                owner.pool.mark_lost(name, error)
                owner.runners.drop_plans(name)
            if rests:
                _log.warning("%s; it is left alone: %s", error, breaker.told())
                owner.count("rested", name, error)
            elif breaker.failed_runs == 1:
                _log.warning("%s; the run goes on without %s", error, name)
        if owner.raises:
            raise error
        self._failed.append((name, error))
        self._without[name] = f"it failed in this run: {reason_of(error)}"
        owner.count("moved", name, error)

    def _stay(self, nowhere: MaceError) -> None:
        """There is no place but the devices that this run does without: those that only rest may be used.

        Raises:
            MaceError: ``nowhere``, or what the devices failed with.
        """
        if self._failed:
            raise self._failed[0][1] from nowhere
        kept = {name: why for name, why in self._without.items() if self._owner.breaker(name).is_gone}
        if len(kept) == len(self._without):
            raise nowhere
        self._without = kept

    def _ended(self) -> None:
        """The run ended well."""
        owner = self._owner
        for name, breaker in list(owner.breakers.items()):
            if name in self._without:
                continue
            if breaker.succeeded(is_trial=name in self._trials):
                self._trials.discard(name)
                _log.warning("%s: %s works again and is used", owner.label, name)
                owner.count("resumed", name, None)
