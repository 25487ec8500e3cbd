"""`mace plugins`: what is installed, and what of it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mace_core.cli.shared_options import OutputOptions, shared_options

if TYPE_CHECKING:
    from mace_core.provider import PluginStatus

_KINDS = {
    "mace.execution_providers": "provider",
    "mace.hooks": "hooks",
    "mace.frontends": "frontend",
    "mace.custom_ops": "operators",
}


@shared_options
def plugins(*, output: OutputOptions) -> None:
    """List installed plugins (version, distribution, contract version, status, reason for a failure) and the options of
    each provider.

    MACE_PLUGINS=cpu,opencl allows only those; MACE_DISABLE_PLUGINS=opencl disables some; MACE_TRACE_PLUGINS=1 prints to
    stderr how each is found and loaded.
    """
    from mace_core.cli.output import progress
    from mace_core.cli.quiet import plugin_log_quiet
    from mace_core.provider.hooks import default_hooks
    from mace_core.provider.registry import default_registry

    with plugin_log_quiet(), progress("Loading plugins"):
        rows = [
            *default_registry().plugins(load_all=True),
            *default_hooks().plugins(),
            *_imported("mace.frontends"),
            *_imported("mace.custom_ops"),
        ]
        options = {row.name: _options(row) for row in rows}
    output.deliver(
        "plugins", {"plugins": [_as_data(row, options[row.name]) for row in rows]}, lambda: _print(rows, options)
    )


def _as_data(row: PluginStatus, options: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": _KINDS[row.group],
        "version": row.version,
        "distribution": row.distribution,
        "api_version": row.api_version,
        "status": row.state.value,
        "reason": row.reason,
        "options": options,
    }


def _print(rows: Sequence[PluginStatus], options: Mapping[str, Mapping[str, str]]) -> None:
    from mace_core.cli.output import print_line, print_table
    from mace_core.presentation import Column, Table, prose

    columns = (
        Column("name"),
        Column("kind", 3),
        Column("version", 2),
        Column("distribution", 4),
        Column("api", 5),
        Column("status"),
        prose("reason", 1),
    )
    cells = [
        (r.name, _KINDS[r.group], r.version, r.distribution, r.api_version or "-", r.state.value, r.reason)
        for r in rows
    ]
    print_table(Table(columns, cells))
    described = [(f"{name}.{key}", text) for name, found in options.items() for key, text in found.items()]
    if described:
        print_line()
        title = "options, for --option NAME=VALUE or Session(options=...)"
        print_table(Table((Column("name"), prose("meaning", 1)), described, title))


def _options(row: PluginStatus) -> dict[str, str]:
    """Of a provider that works: what each option means."""
    from mace_core.provider.plugin_status import PluginState
    from mace_core.provider.registry import default_registry

    if row.group != "mace.execution_providers" or row.state is not PluginState.OK:
        return {}
    return dict(default_registry().provider(row.name).options)


def _imported(group: str) -> list[PluginStatus]:
    """Importers of model files, and operators that packages publish; they have no contract version of their own."""
    from mace_core.discovery.entry_points import describe, discover, load
    from mace_core.provider.plugin_status import PluginState, PluginStatus

    rows = []
    for entry in discover(group):
        state, reason = PluginState.OK, ""
        if entry.fault:
            state, reason = PluginState.FAILED, entry.fault
        else:
            try:
                load(entry)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                state, reason = PluginState.FAILED, f"importing {entry.value} failed: {describe(error)}"
        rows.append(PluginStatus(entry.name, entry.distribution, entry.version, "", state, reason, entry.group))
    return rows
