"""The devices of this machine as a list that shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from mace_core.presentation import Column, Table, fold, prose
from mace_core.provider.device import Device, Missing
from mace_core.provider.inventory import Inventory, inventory
from mace_core.provider.plugin_status import PluginStatus

_TYPES_SHOWN = 12

_NAME = 44
"""Columns of a name that are shown before other columns are: it says what stands in for what."""

_TITLES = {
    "real": "units of this machine:",
    "virtual": "stand-ins, emulations and simulations; used only if named, and their speed means nothing:",
    "target": "targets to compile for; nothing runs on them here:",
}
"""By what a device is, in the order in which they are listed."""


class DeviceList(Sequence[Device]):
    """The devices in order of preference, virtual ones and compile-only targets included.

    Printed, it is a table for each of real units, virtual ones and targets; in a notebook, tables of HTML.

    Attributes:
        missing: by provider, what it looked for in vain, why that cannot be used, and what to do.
        failures: plugins that could not be loaded, with the reason.
    """

    def __init__(self, found: Inventory) -> None:
        self._devices = found.devices
        self.missing: Mapping[str, tuple[Missing, ...]] = found.missing
        self.failures: tuple[PluginStatus, ...] = found.failures

    @overload
    def __getitem__(self, index: int) -> Device: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Device]: ...
    def __getitem__(self, index: int | slice) -> Device | Sequence[Device]:
        return self._devices[index]

    def __len__(self) -> int:
        return len(self._devices)

    def __repr__(self) -> str:
        from mace_core.presentation.terminal import terminal_width

        return self.text(terminal_width())

    def text(self, width: int | None = None) -> str:
        """The table, and what is missing, in lines of at most ``width`` columns (None: any)."""
        lines = "\n\n".join(table.text(width) for table in self.tables()).split("\n")
        if self.missing or self.failures:
            lines.append("")
        for line in self._missing_lines():
            lines += fold(line, width, indent="    ")
        return "\n".join(lines)

    def tables(self) -> list[Table]:
        """Real units, virtual ones, and targets to compile for, apart; one row for each device."""
        columns = (
            Column("device"),
            Column("is"),
            Column("kind", 2),
            prose("name", 1, least=_NAME),
            Column("vendor", 4),
            prose("element types", 6),
            prose("notes", 5),
        )
        groups = {what: [_row(device) for device in self if _what(device) == what] for what in _TITLES}
        return [Table(columns, rows, _TITLES[what]) for what, rows in groups.items() if rows]

    def held(self) -> dict[str, str]:
        """By provider, its devices: ``2 virtual (npu:a, npu:b)``; "" where it has none."""
        found = dict.fromkeys([*self.missing, *(device.provider for device in self)], "")
        for provider in found:
            parts = []
            for what, words in (("real", "real"), ("virtual", "virtual"), ("target", "to compile for")):
                names = [d.qualified_name for d in self if d.provider == provider and _what(d) == what]
                if names:
                    parts.append(f"{len(names)} {words} ({', '.join(names)})")
            found[provider] = "; ".join(parts)
        return found

    def as_data(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "devices": [_device_data(device) for device in self],
            "missing": {
                provider: [{"what": m.what, "reason": m.reason, "hint": m.hint} for m in items]
                for provider, items in self.missing.items()
            },
            "failures": [
                {"name": f.name, "distribution": f.distribution, "version": f.version, "reason": f.reason}
                for f in self.failures
            ],
        }

    def _missing_lines(self) -> Iterator[str]:
        for provider, items in self.missing.items():
            yield f"{provider}: not everything is there"
            for item in items:
                yield f"  - {item.what}: {item.reason}"
                if item.hint:
                    yield f"    {item.hint}"
        for failure in self.failures:
            yield f"{failure.name} ({failure.distribution} {failure.version}): {failure.reason}"

    def _repr_html_(self) -> str:
        from mace_core.presentation.html import page

        rows = [(provider, m.what, m.reason, m.hint) for provider, items in self.missing.items() for m in items]
        rows += [(f.name, f"{f.distribution} {f.version}", f.reason, "") for f in self.failures]
        absent = Table((Column("provider"), Column("not there"), prose("why"), prose("what to do")), rows)
        return page([*(table.html() for table in self.tables()), absent.html() if rows else ""])


def devices(*, refresh: bool = False) -> DeviceList:
    """The devices of this machine and, for what is not there, why not.  Never raises for a bad plugin.

    Args:
        refresh: look again instead of using what is stored.
    """
    return DeviceList(inventory(refresh=refresh))


def _what(device: Device) -> str:
    if not device.can_execute:
        return "target"
    return "virtual" if device.is_virtual else "real"


def _row(device: Device) -> tuple[str, ...]:
    from mace_core.presentation.sizes import format_bytes

    notes = []
    if device.memory_bytes:
        notes.append(f"{format_bytes(device.memory_bytes)} of memory")
    if device.default_threads:
        notes.append(f"{device.default_threads} threads")
    notes += [f"{key}: {value}" for key, value in device.properties.items()]
    types = " ".join(sorted(dtype.label for dtype in device.dtypes))
    if len(device.dtypes) > _TYPES_SHOWN:
        types = f"{len(device.dtypes)} types"
    first = device.qualified_name, _what(device), device.kind.value, device.name, device.vendor
    return *first, types, "; ".join(notes)


def _device_data(device: Device) -> dict[str, Any]:
    return {
        "device": device.qualified_name,
        "provider": device.provider,
        "kind": device.kind.value,
        "name": device.name,
        "vendor": device.vendor,
        "memory_bytes": device.memory_bytes,
        "dtypes": sorted(dtype.label for dtype in device.dtypes),
        "is_virtual": device.is_virtual,
        "can_execute": device.can_execute,
        "default_threads": device.default_threads,
        "properties": dict(device.properties),
    }
