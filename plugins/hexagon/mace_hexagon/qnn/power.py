"""How the HTP is clocked: votes through the backend's performance infrastructure.

The settings of each vote are those of Qualcomm's own performance profiles (burst, high performance, sustained high
performance, power saver), as onnxruntime's QNN provider and LiteRT's have them.
"""

from __future__ import annotations

import ctypes as c
import logging
import threading
import time
from typing import NamedTuple

from mace_hexagon.qnn.interface import SUCCESS, Interface
from mace_hexagon.qnn.types import (
    INFRASTRUCTURE_PERFORMANCE,
    POWER_DCVS_V3,
    POWER_RPC_LATENCY,
    POWER_RPC_POLLING,
    Handle,
    Infrastructure,
    PowerConfig,
)

_log = logging.getLogger("mace.hexagon")

_ADJUST_UP_DOWN, _POWER_SAVER, _PERFORMANCE = 0x1, 0x4, 0x10
_NO_CORNER, _SVS, _TURBO, _HIGHEST = 0x10, 0x40, 0x80, 0xA0

IDLE_SECONDS = 0.3
"""How long after a run its vote stands: the next run of a stream of them finds the clocks high."""


class Vote(NamedTuple):
    """What is asked of clocks and voltages.

    Attributes:
        mode: how the HTP's governor (DCVS) behaves.
        governed: whether the governor may change clocks.
        sleep_latency: microseconds that waking up may take.
        corner: voltage of core and bus.
        rpc_latency: microseconds that the processor's side may sleep in a call.
        polling: microseconds that a call is polled for before it sleeps.
    """

    mode: int
    governed: bool
    sleep_latency: int
    corner: int
    rpc_latency: int = 0
    polling: int = 0


_RELEASED = Vote(_ADJUST_UP_DOWN, True, 2000, _NO_CORNER)

_VOTES = {
    "latency": (Vote(_PERFORMANCE, False, 100, _TURBO, rpc_latency=100), _RELEASED),
    "boost": (Vote(_PERFORMANCE, False, 40, _HIGHEST, rpc_latency=100, polling=9999), _RELEASED),
    "sustained": (Vote(_PERFORMANCE, False, 100, _TURBO, rpc_latency=100), None),
    "low_power": (Vote(_POWER_SAVER, True, 1000, _SVS), None),
}
"""What is voted while a graph runs, and once none has run for `IDLE_SECONDS`; None: the vote stands."""


class PowerVotes:
    """The votes of one open device.  What the library refuses is noted; nothing fails because of it.

    Attributes:
        refusals: what the library did not take, in its words.
    """

    def __init__(self, interface: Interface, performance: str) -> None:
        """Votes at once, to learn whether the library takes it."""
        self.refusals: list[str] = []
        self._interface = interface
        self._running, self._idle = _VOTES[performance]
        self._lock = threading.Lock()
        self._id: int | None = None
        self._is_up = False
        self._runs = 0
        self._last_run = 0.0
        self._timer: threading.Timer | None = None
        self._functions = self._find()
        if self._functions is not None:
            number = c.c_uint32()
            if self._took("a client of the performance settings", self._functions.create(0, 0, c.byref(number))):
                self._id = number.value
                self._apply(self._running)
                if self._idle is not None:
                    self._apply(self._idle)

    def begin(self) -> None:
        """A graph is about to run."""
        if self._idle is None or self._id is None:
            return
        with self._lock:
            self._runs += 1
            if not self._is_up:
                self._is_up = True
                self._apply(self._running)

    def end(self) -> None:
        """It has run."""
        if self._idle is None or self._id is None:
            return
        with self._lock:
            self._runs -= 1
            self._last_run = time.monotonic()
            if self._timer is None or not self._timer.is_alive():  # a forked process has no timer of its parent's
                self._start_timer(IDLE_SECONDS)

    def close(self) -> None:
        """Withdraw the votes.  Idempotent."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            number, self._id = self._id, None
            if number is not None and self._functions is not None:
                with self._interface.lock:
                    self._functions.destroy(number)

    def _start_timer(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._release)
        self._timer.daemon = True
        self._timer.name = "hexagon clocks"
        self._timer.start()

    def _release(self) -> None:
        with self._lock:
            if self._id is None or self._idle is None:
                return
            left = IDLE_SECONDS - (time.monotonic() - self._last_run)
            if self._runs or left > 0:
                self._start_timer(max(left, IDLE_SECONDS / 4))
                return
            self._is_up = False
            self._apply(self._idle)

    def _find(self) -> Infrastructure | None:
        found = Handle()
        if not self._interface.has("deviceGetInfrastructure"):
            self.refusals.append("the library has no performance settings")
            return None
        with self._interface.lock:
            code = self._interface.code("deviceGetInfrastructure", c.byref(found))
        if not self._took("its performance settings", code) or not found:
            return None
        infrastructure = Infrastructure.from_address(found.value or 0)
        if infrastructure.kind != INFRASTRUCTURE_PERFORMANCE:
            self.refusals.append(f"the library has performance settings of an unknown kind ({infrastructure.kind})")
            return None
        return infrastructure

    def _apply(self, vote: Vote) -> None:
        number = self._id or 0
        corners = (vote.corner,) * 3
        clocks = (number, 1, int(vote.governed), vote.mode, 1, vote.sleep_latency, 0, 0, 1, *corners, 1, *corners)
        settings: tuple[tuple[int, tuple[int, ...]], ...] = (
            (POWER_DCVS_V3, clocks),
            (POWER_RPC_LATENCY, (vote.rpc_latency,)),
            (POWER_RPC_POLLING, (vote.polling,)),
        )
        assert self._functions is not None
        for option, words in settings:
            config = PowerConfig(option)
            config.words[: len(words)] = words
            configs = (c.c_void_p * 2)(c.addressof(config), None)
            with self._interface.lock:
                self._took(f"power setting {option}", self._functions.set(number, configs))

    def _took(self, what: str, code: int) -> bool:
        if code == SUCCESS:
            return True
        refusal = f"the library refuses {what}: {self._interface.message(code)}"
        if refusal not in self.refusals:
            self.refusals.append(refusal)
            _log.info("QNN: %s", refusal)
        return False
