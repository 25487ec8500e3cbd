"""`mace devices`: what this machine has to run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mace_core.provider import Device, Inventory

TYPES_SHOWN = 12


def devices(
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Look again instead of using the stored inventory.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the devices of this machine and, for what is missing, why.

    A device is named by its first column wherever one is asked for (--device); the part before the colon means the
    provider's first real device. Virtual devices (simulators) are used only when named in full.
    """
    from mace_core.cli import output
    from mace_core.cli.quiet import plugin_log_quiet
    from mace_core.provider.inventory import inventory

    with plugin_log_quiet(), output.progress("Looking for devices"):
        found = inventory(refresh=refresh)
    if as_json:
        output.print_json(_as_data(found))
        return
    columns = ("device", "kind", "name", "vendor", "memory", "element types", "notes")
    output.print_table("", columns, [_row(device) for device in found.devices])
    for provider, items in found.missing.items():
        output.print_line(f"{provider}: not everything is there")
        for item in items:
            output.print_line(f"  - {item.what}: {item.reason}")
            if item.hint:
                output.print_line(f"    {item.hint}")
    for failure in found.failures:
        output.print_line(f"{failure.name} ({failure.distribution} {failure.version}): {failure.reason}")


def _row(device: Device) -> tuple[str, ...]:
    from mace_core.cli.output import format_bytes

    notes = []
    if device.is_virtual:
        notes.append("virtual: only by name")
    if not device.can_execute:
        notes.append("compile only")
    if device.default_threads:
        notes.append(f"{device.default_threads} threads")
    notes += [f"{key}: {value}" for key, value in device.properties.items()]
    memory = format_bytes(device.memory_bytes) if device.memory_bytes else "-"
    types = " ".join(sorted(dtype.label for dtype in device.dtypes))
    if len(device.dtypes) > TYPES_SHOWN:
        types = f"{len(device.dtypes)} types (listed by --json)"
    return device.qualified_name, device.kind.value, device.name, device.vendor, memory, types, "; ".join(notes)


def _as_data(found: Inventory) -> dict[str, Any]:
    return {
        "devices": [
            {
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
            for device in found.devices
        ],
        "missing": {
            provider: [{"what": m.what, "reason": m.reason, "hint": m.hint} for m in items]
            for provider, items in found.missing.items()
        },
        "failures": [
            {"name": f.name, "distribution": f.distribution, "version": f.version, "reason": f.reason}
            for f in found.failures
        ],
    }
