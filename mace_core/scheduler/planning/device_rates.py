"""The rates of a session's devices: from the cache, else measured once for this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from mace_core.errors import MaceError
from mace_core.host.fork_safe import fork_safe_rlock
from mace_core.scheduler.costs.measuring import SECONDS_A_CASE, Open, measure_rates
from mace_core.scheduler.costs.rates import Rates
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
                    return measured(device, open_graph)
                except MaceError as error:
                    _log.warning("%s cannot be measured, so that devices are taken in order: %s", device.name, error)
            _known[key] = found
        return _known[key]


def measured(
    device: SessionDevice,
    open_graph: Open,
    *,
    seconds: float = SECONDS_A_CASE,
    tell: Callable[[str], None] = lambda what: None,
) -> Rates:
    """Measure the device now, and keep the rates in place of earlier ones; arguments as of `measure_rates`.

    Raises:
        MaceError: if it does not run the simplest cases.
    """
    has_own_memory = device.memory is MemoryKind.DEVICE
    with _lock:
        rates = measure_rates(open_graph, has_own_memory=has_own_memory, seconds=seconds, tell=tell)
        StoredRates().put(device, rates)
        _known[_key(device)] = rates
    return rates


def _key(device: SessionDevice) -> str:
    return f"{device.name} {device.provider_code} {device.options_key}"
