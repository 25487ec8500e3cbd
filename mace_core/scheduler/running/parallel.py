"""Runs a stage plan whose devices work at the same time: each track of steps by a thread of its own."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Sequence
from typing import NamedTuple

from mace_core.scheduler.context import RunContext
from mace_core.scheduler.planning.concurrency import Tracks
from mace_core.scheduler.planning.plan import StagePlan, Step
from mace_core.scheduler.running.executor import StageInstance
from mace_core.scheduler.running.helpers import start

_log = logging.getLogger("mace")


class _TrackStep(NamedTuple):
    """A step with what it waits for and what waits for it.

    A lock stands for an edge.  It is held until the step before it is over, and from when the step behind it has begun
    on, so that it is ready for the next run.
    """

    number: int
    step: Step
    waits: tuple[threading.Lock, ...]
    tells: tuple[threading.Lock, ...]


class ParallelInstance(StageInstance):
    """The calling thread runs the first track and waits for the others.

    A device's queue belongs to the thread of its track: what other tracks read is done when they are told of it.
    """

    _running: tuple[threading.Lock, ...] = ()  # of the tracks that other threads are at

    def __init__(self, plan: StagePlan, tracks: Tracks) -> None:
        super().__init__(plan)
        locks = {edge: threading.Lock() for edge in tracks.edges}
        for lock in locks.values():
            lock.acquire()
        self._devices = tracks.devices
        self._tracks = [
            [
                _TrackStep(
                    number,
                    plan.steps[number],
                    tuple(lock for edge, lock in locks.items() if edge.target == number),
                    tuple(lock for edge, lock in locks.items() if edge.source == number),
                )
                for number in steps
            ]
            for steps in tracks.steps
        ]
        self._ended = [threading.Lock() for _ in tracks.steps[1:]]
        for lock in self._ended:
            lock.acquire()
        self._failures: list[BaseException] = []
        self._is_parallel = False

    def _run_steps(self, context: RunContext) -> None:
        if self.plan.numerics is not None:  # each result is looked at before the next step
            super()._run_steps(context)
            return
        self._failures.clear()
        self._is_parallel = True
        try:
            self._start_others(context)
            self._run_track(0, context)
        finally:
            self._join()
            self._is_parallel = False
        if self._failures:
            interrupts = [error for error in self._failures if isinstance(error, KeyboardInterrupt)]
            raise (interrupts or self._failures)[0]

    def _start_others(self, context: RunContext) -> None:
        """Let other threads run the tracks but the first."""
        for track, ended in enumerate(self._ended, 1):
            try:
                start(functools.partial(self._help, track, context, ended))
            except BaseException as error:  # there can be no further thread
                self._failures.append(error)
                for left in self._tracks[track:]:
                    _tell(left)
                return
            self._running += (ended,)

    def _help(self, track: int, context: RunContext, ended: threading.Lock) -> None:
        try:
            self._run_track(track, context)
        finally:
            ended.release()

    def _run_track(self, track: int, context: RunContext) -> None:
        """Run the steps of a track, until one of any track fails."""
        steps, device = self._tracks[track], self._devices[track]
        done = 0
        try:
            for number, step, waits, tells in steps:
                for lock in waits:
                    lock.acquire()
                if self._failures:
                    return
                self._execute(number, step, context)
                if tells:
                    self._wait(device)
                    for lock in tells:
                        lock.release()
                done += 1
            self._wait(device)
        except BaseException as error:  # raised by the calling thread
            self._failures.append(error)
        finally:
            _tell(steps[done:])

    def _join(self) -> None:
        """Wait for the other threads; whoever wants to leave earlier has to interrupt twice."""
        while self._running:
            try:
                self._running[0].acquire()
            except KeyboardInterrupt as interrupt:
                self._failures.append(interrupt)
                self._running[0].acquire()
            self._running = self._running[1:]

    def _settle(self) -> None:
        if not self._running:
            super()._settle()

    def _wait_for_host_memory(self, *, but: str = "") -> None:
        if not self._is_parallel:  # else edges say what has to be waited for
            super()._wait_for_host_memory(but=but)

    def _wait_all(self) -> None:
        if not self._is_parallel:
            super()._wait_all()

    def close(self) -> None:
        if self._running:
            _log.warning(
                "%s: a run was interrupted while a device was at work; its memory is not freed", self.plan.placed.model
            )
            return
        super().close()


def _tell(steps: Sequence[_TrackStep]) -> None:
    """After a failure: nobody is to wait for these steps any more."""
    for step in steps:
        for lock in step.tells:
            if lock.locked():
                lock.release()
