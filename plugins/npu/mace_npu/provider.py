"""The provider class: the NPUs that the installed drivers know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mace_core.errors import UsageError
from mace_core.provider import ApiVersion, Backend, Device, ExecutionProvider, Missing, ProbeResult
from mace_npu.drivers import installed_drivers
from mace_npu.version import VERSION

_DRIVERS = installed_drivers()


def _policy_options() -> dict[str, dict[str, object]]:
    """What the drivers want under each policy, under the names that users write."""
    found: dict[str, dict[str, object]] = {}
    for name, driver in _DRIVERS.usable.items():
        for policy, options in driver.policy_options.items():
            found.setdefault(policy, {}).update({f"{name}_{option}": value for option, value in options.items()})
    return found


class NpuProvider(ExecutionProvider):
    """NPUs of several vendors, each through a driver."""

    name: ClassVar[str] = "npu"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 2)
    options: ClassVar[Mapping[str, str]] = {
        f"{name}_{option}": line
        for name, driver in _DRIVERS.usable.items()
        for option, line in driver.options.items()
    }  # fmt: skip
    probe_options: ClassVar[frozenset[str]] = frozenset(
        f"{name}_{option}" for name, driver in _DRIVERS.usable.items() for option in driver.probe_options
    )

    policy_options: ClassVar[Mapping[str, Mapping[str, object]]] = _policy_options()

    def probe(self) -> ProbeResult:
        return self.probe_with({})

    def probe_with(self, options: Mapping[str, object]) -> ProbeResult:
        devices: list[Device] = []
        missing: list[Missing] = []
        watched: dict[str, None] = {}
        environment: dict[str, None] = {}
        for name, driver in _DRIVERS.usable.items():
            given = {key: value for key, value in _own(name, options).items() if key in driver.probe_options}
            found = driver.probe(given)
            devices += found.devices
            missing += found.missing
            watched |= dict.fromkeys(found.depends_on)
            environment |= dict.fromkeys(found.environment)
        return ProbeResult(tuple(devices), (*missing, *_DRIVERS.faults), tuple(watched), tuple(environment))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(f"the npu provider has no option '{unknown[0]}'; it knows {', '.join(self.options)}")
        for name, each in _DRIVERS.usable.items():
            each.check(_own(name, options))
        name = device.id.partition("-")[0]
        driver = _DRIVERS.usable.get(name)
        if driver is None:
            raise UsageError(f"the npu provider knows no device '{device.id}': no driver '{name}' is installed")
        return driver.open(device, _own(name, options))


def _own(driver: str, options: Mapping[str, object]) -> dict[str, object]:
    """The options of one driver, as it calls them."""
    start = f"{driver}_"
    return {key.removeprefix(start): value for key, value in options.items() if key.startswith(start)}
