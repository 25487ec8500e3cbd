"""`mace devices`: what this machine has to run on."""

from __future__ import annotations

from typing import Annotated

import typer


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
    from mace_core.presentation.terminal import terminal_width
    from mace_core.provider.listing import devices as list_devices

    with plugin_log_quiet(), output.progress("Looking for devices"):
        found = list_devices(refresh=refresh)
    if as_json:
        output.print_json(found.as_data())
        return
    output.print_line(found.text(terminal_width()))
