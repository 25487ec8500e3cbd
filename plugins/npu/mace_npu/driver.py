"""What a driver of the npu provider is: one vendor's SDK.  Drivers are found through entry points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from mace_core.provider import Backend, Device, ProbeResult


class NpuDriver(ABC):
    """The NPUs of one vendor, registered under the entry-point group ``mace.npu_drivers``.

    The npu provider makes one instance, without arguments.  Importing its module must be cheap: SDKs are imported in
    :meth:`open`.

    Attributes:
        name: equal to the entry point's name; the ids of its devices begin with it and a hyphen.
        options: names of the options it understands, without its own name in front, each with a one-line description.
            Users write them with it: ``performance`` of ``openvino`` is ``openvino_performance``.
        probe_options: those of them that change which devices are found.
        policy_options: name of a session's policy -> what options are under it, unless the user gives others.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}
    probe_options: ClassVar[frozenset[str]] = frozenset()
    policy_options: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    @abstractmethod
    def probe(self, options: Mapping[str, object]) -> ProbeResult:
        """Which NPUs are there and, for what is not, why not; of ``options``, only probe options are given.

        Cheap, and it never raises for missing hardware.  A unit that is no NPU (a processor, a simulator) is
        ``is_virtual`` and says so in its name.
        """

    @abstractmethod
    def check(self, options: Mapping[str, object]) -> None:
        """Look at options, also where another driver's device is opened; ``options`` holds none that it does not know.

        Raises:
            UsageError: for a value it cannot take.
        """

    @abstractmethod
    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        """Open one of the devices that :meth:`probe` reported; ``options`` have been checked.

        Raises:
            UsageError: for an option that does not fit the device.
            ProviderError: if the device cannot be opened now.
        """
