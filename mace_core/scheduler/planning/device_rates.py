"""The rates of a session's devices: from the cache, else measured once for this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from mace_core.errors import MaceError
from mace_core.host.fork_safe import fork_safe_rlock
from mace_core.host.power import PackageMeter, Reading, battery_watts
from mace_core.provider import DeviceKind
from mace_core.scheduler.costs.measuring import SECONDS_A_CASE, Meter, Open, measure_rates
from mace_core.scheduler.costs.rates import Rates, WorkKind
from mace_core.scheduler.placing.problem import Link
from mace_core.scheduler.planning.devices import SessionDevice
from mace_core.scheduler.planning.stored_rates import StoredRates
from mace_core.tensor import MemoryKind

_log = logging.getLogger("mace")

_lock: threading.RLock = fork_safe_rlock()
_known: dict[str, Rates | None] = {}


def rates_of(device: SessionDevice, open_graph: Open) -> Rates | None:
    """The rates of an open device; None for one that only takes what others leave over, or cannot be measured.

    Args:
        open_graph: opens a graph on the device alone.
    """
    if device.is_fallback or device.is_reference:
        return None
    key = _key(device)
    with _lock:
        if key not in _known:
            found = StoredRates().get(device)
            if found is None:
                _log.info("measuring what %s costs; `mace calibrate` does that ahead of time", device.name)
                try:
                    return measured(device, open_graph, brief=True)
                except MaceError as error:
                    _log.warning("%s cannot be measured, so that devices are taken in order: %s", device.name, error)
            _known[key] = found
        return _known[key]


def measured(
    device: SessionDevice,
    open_graph: Open,
    *,
    seconds: float = SECONDS_A_CASE,
    brief: bool = False,
    tell: Callable[[str], None] = lambda what: None,
) -> Rates:
    """Measure the device now, and keep the rates in place of earlier ones; arguments as of `measure_rates`.

    Raises:
        MaceError: if it does not run the simplest cases.
    """
    has_own_memory = device.memory is MemoryKind.DEVICE
    with _lock:
        try:
            rates = measure_rates(
                open_graph,
                has_own_memory=has_own_memory,
                meter=_meter_of(device),
                seconds=seconds,
                brief=brief,
                tell=tell,
            )
        except MaceError as error:
            stated = _from_peak(device)
            if stated is None:
                raise
            _log.info("%s refuses the cases of calibration (%s): its peak is taken", device.name, error)
            rates = stated
        StoredRates().put(device, rates)
        _known[_key(device)] = rates
    return rates


_ASSUMED_LAUNCH, _ASSUMED_BYTE = 5e-5, 1e-10


def _from_peak(device: SessionDevice) -> Rates | None:
    """Rates from what the provider says of the device's peak; None where it says nothing."""
    peak = device.measure_peak(SECONDS_A_CASE)
    if not peak or peak <= 0:
        return None
    border = Link(_ASSUMED_LAUNCH / 2, _ASSUMED_BYTE) if device.memory is MemoryKind.DEVICE else Link()
    mac: dict[WorkKind, float] = {kind: 1 / peak for kind in WorkKind if kind is not WorkKind.OTHER}
    source = "its provider's peak; launch, memory and borders are assumed"
    return Rates(_ASSUMED_LAUNCH, 0.0, _ASSUMED_BYTE, mac, border, border, source=source)


def _meter_of(device: SessionDevice) -> Meter | None:
    """What tells the power of a device: the processors' own counters for them, the battery for whatever works."""
    if device.device.kind is DeviceKind.CPU and PackageMeter().read() is not None:
        return _PackagePower()
    return _BatteryPower() if battery_watts() is not None else None


class _PackagePower:
    source = PackageMeter.source

    def __init__(self) -> None:
        self._meter = PackageMeter()
        self._before: Reading | None = None

    def start(self) -> None:
        self._before = self._meter.read()

    def watts(self) -> float | None:
        after = self._meter.read()
        return None if self._before is None or after is None else self._meter.watts(self._before, after)


class _BatteryPower:
    source = "battery"

    def start(self) -> None:
        """The battery says what it gives at a moment; the end of the work is as good as any."""

    def watts(self) -> float | None:
        return battery_watts()


def _key(device: SessionDevice) -> str:
    return f"{device.name} {device.provider_code} {device.options_key}"
