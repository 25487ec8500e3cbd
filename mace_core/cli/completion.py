"""What a shell offers after Tab for values that only this machine knows."""

from __future__ import annotations


def complete_device(incomplete: str) -> list[tuple[str, str]]:
    """Devices whose name begins like ``incomplete``, with what they are."""
    from mace_core.cli.quiet import plugin_log_quiet
    from mace_core.provider.inventory import inventory

    with plugin_log_quiet():
        devices = inventory().devices
    return [(d.qualified_name, d.name) for d in devices if d.qualified_name.startswith(incomplete)]


def complete_option(incomplete: str) -> list[tuple[str, str]]:
    """``provider.option=`` for every option that the installed providers have."""
    from mace_core.cli.quiet import plugin_log_quiet
    from mace_core.provider.plugin_status import PluginState
    from mace_core.provider.registry import default_registry

    with plugin_log_quiet():
        registry = default_registry()
        rows = [row.name for row in registry.plugins(load_all=True) if row.state is PluginState.OK]
        found = [(f"{name}.{key}=", text) for name in rows for key, text in registry.provider(name).options.items()]
    return [pair for pair in found if pair[0].startswith(incomplete)]
