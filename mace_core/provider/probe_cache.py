"""Probe results kept between processes, so that starting a session loads only the providers it uses."""

from __future__ import annotations

from mace_core.provider.device import ProbeResult
from mace_core.provider.registry import Registry


class ProbeCache:
    """Results of this process, per registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def get(self, name: str) -> ProbeResult | None:
        """A result that is still true, or None."""
        return None

    def put(self, name: str, result: ProbeResult) -> None:
        """Keep a result."""
