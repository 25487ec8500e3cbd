"""Providers that find hardware and cannot run models on it yet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mace_core.errors import ProviderError
from mace_core.provider.backend import Backend
from mace_core.provider.device import Device, Missing, ProbeResult
from mace_core.provider.provider import ExecutionProvider


class DetectionProvider(ExecutionProvider):
    """A first version of a provider: it says what this machine has and lacks, and offers no devices.

    New in api 1.1.

    Attributes:
        limitation: what it finds and cannot do yet, as a clause that names the distribution and its version.
        environment: environment variables that the answer depends on.
    """

    limitation: ClassVar[str]
    environment: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def detect(self) -> tuple[Sequence[Missing], Sequence[Path]]:
        """What the hardware needs and this machine lacks, and the files and folders that the answer depends on."""

    def probe(self) -> ProbeResult:
        """No devices, and what is missing: execution support, and whatever `detect` names."""
        missing, watched = self.detect()
        support = Missing("execution support", self.limitation, "use another device until a later version")
        return ProbeResult(
            missing=(support, *missing), depends_on=tuple(map(str, watched)), environment=self.environment
        )

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        """Refuse.

        Raises:
            ProviderError: always.
        """
        name = device.qualified_name
        raise ProviderError(f"{name} cannot be opened: {self.limitation}", device=name)
