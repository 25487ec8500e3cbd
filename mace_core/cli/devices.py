"""`mace devices`: what this machine has to run on."""

from __future__ import annotations

from typing import Annotated

import typer

from mace_core.cli.shared_options import OutputOptions, shared_options


@shared_options
def devices(
    *,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Probe again instead of using the stored inventory.")
    ] = False,
    output: OutputOptions,
) -> None:
    """List the devices of this machine, and the reason for each that is missing.

    The first column is the name for --device; the part before the colon means the first real device of that provider.
    Virtual devices (stand-ins, emulations, simulators) are listed apart and used only if you name them in full; so are
    targets, for which models are compiled and which run nothing here.
    """
    from mace_core.cli.output import print_line, progress
    from mace_core.cli.quiet import plugin_log_quiet
    from mace_core.presentation.terminal import terminal_width
    from mace_core.provider.listing import devices as list_devices

    with plugin_log_quiet(), progress("Looking for devices"):
        found = list_devices(refresh=refresh)
    output.deliver("devices", found.as_data(), lambda: print_line(found.text(terminal_width())))
