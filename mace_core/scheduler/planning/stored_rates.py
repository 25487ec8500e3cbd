"""Rates kept between processes, under all that they depend on: the device, its driver, the provider's code, options."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mace_core.caching.cache import CheckedCache
from mace_core.scheduler.costs.rates import Rates

if TYPE_CHECKING:
    from mace_core.scheduler.planning.devices import SessionDevice

_log = logging.getLogger("mace")

FORMAT = "2"
"""Changes whenever a number means something else than before."""


class StoredRates:
    """The rates of devices, in the cache folder."""

    def __init__(self, directory: Path | None = None) -> None:
        self._store = CheckedCache("rates", FORMAT, directory)

    def get(self, device: SessionDevice) -> Rates | None:
        """What was measured for the device as it is now; None where nothing was."""
        payload = self._store.get(device_key(device))
        if payload is None:
            return None
        try:
            return Rates.from_data(json.loads(payload))
        except (KeyError, TypeError, ValueError) as error:
            _log.info("stored rates of %s cannot be read (%s)", device.name, error)
            return None

    def put(self, device: SessionDevice, rates: Rates) -> None:
        """Keep what was measured."""
        self._store.put(device_key(device), json.dumps(rates.as_data()).encode())

    def remove(self, device: SessionDevice) -> None:
        """Forget what was measured."""
        self._store.remove(device_key(device))


def device_key(device: SessionDevice) -> str:
    """What measurements of a device depend on: the device, its driver, the provider's code, its options."""
    facts = device.device
    words = [facts.qualified_name, facts.name, facts.vendor, str(facts.default_threads)]
    properties = [f"{name}={text}" for name, text in sorted(facts.properties.items())]
    return json.dumps([*words, *properties, device.provider_code, device.options_key])
