"""The class a plugin registers under the entry-point group ``mace.execution_providers``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from mace_core.provider.api import ApiVersion
from mace_core.provider.backend import Backend
from mace_core.provider.device import Device, ProbeResult


class ExecutionProvider(ABC):
    """Describes devices and opens them; does no work itself.

    The core makes one instance per process, without arguments.  Importing its module must be cheap: vendor SDKs and
    compilers are imported in :meth:`open`, not before.

    Attributes:
        name: what users write (``opencl``); equal to the entry point's name.
        vendor: who publishes the provider.
        version: the version of its distribution.
        api_version: the contract it was written for, as literal numbers (not the installed core's constant).
        options: names of the options it understands, each with a one-line description.
        probe_options: those of them that change which devices are found (the folder of a vendor's library).
        policy_options: name of a session's policy -> options that devices are opened with under it, unless the user
            gives others (since api 1.2).
        key_covers_options: `Backend.compatibility_key` tells all options apart that a stored form depends on, so that
            one in a package is used under other options where the key allows it (since api 1.2).
    """

    name: ClassVar[str]
    vendor: ClassVar[str]
    version: ClassVar[str]
    api_version: ClassVar[ApiVersion]
    options: ClassVar[Mapping[str, str]] = {}
    probe_options: ClassVar[frozenset[str]] = frozenset()
    policy_options: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    key_covers_options: ClassVar[bool] = False

    @abstractmethod
    def probe(self) -> ProbeResult:
        """Which devices are there and, for what is not, why not.

        Cheap (no SDK import, no compilation), and it never raises for missing hardware.
        """

    @abstractmethod
    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        """Open ``device``, one of those :meth:`probe` reported.

        Raises:
            UsageError: for an option it does not know or a value it cannot take.
            ProviderError: if the device cannot be opened now.
        """

    def probe_with(self, options: Mapping[str, object]) -> ProbeResult:
        """What :meth:`probe` finds once ``options`` hold: called, and not cached, where some of them are given that
        ``probe_options`` names.

        Raises:
            UsageError: for a value it cannot take.
        """
        return self.probe()
