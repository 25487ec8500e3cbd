"""`mace plugins`: what is installed, and what of it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mace_core.provider import PluginStatus

_KINDS = {
    "mace.execution_providers": "provider",
    "mace.hooks": "hooks",
    "mace.frontends": "frontend",
    "mace.custom_ops": "operators",
}


def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the plugins installed: version, distribution, contract version, status and, where one fails, why.

    MACE_PLUGINS=cpu,opencl allows only those; MACE_DISABLE_PLUGINS=opencl switches some off; MACE_TRACE_PLUGINS=1 tells
    on stderr how each is found and loaded.
    """
    from mace_core.cli import output
    from mace_core.cli.quiet import plugin_log_quiet
    from mace_core.provider.hooks import default_hooks
    from mace_core.provider.registry import default_registry

    with plugin_log_quiet(), output.progress("Loading plugins"):
        rows = [
            *default_registry().plugins(load_all=True),
            *default_hooks().plugins(),
            *_imported("mace.frontends"),
            *_imported("mace.custom_ops"),
        ]
    if as_json:
        output.print_json(
            [
                {
                    "name": row.name,
                    "kind": _KINDS[row.group],
                    "version": row.version,
                    "distribution": row.distribution,
                    "api_version": row.api_version,
                    "status": row.state.value,
                    "reason": row.reason,
                }
                for row in rows
            ]
        )
        return
    columns = ("name", "kind", "version", "distribution", "api", "status", "reason")
    cells = [
        (r.name, _KINDS[r.group], r.version, r.distribution, r.api_version or "-", r.state.value, r.reason)
        for r in rows
    ]
    output.print_table("", columns, cells)


def _imported(group: str) -> list[PluginStatus]:
    """Importers of model files, and operators that packages publish; they have no contract version of their own."""
    from mace_core.provider.entry_points import describe, discover, load
    from mace_core.provider.registry import PluginState, PluginStatus

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
