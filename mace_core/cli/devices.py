"""`mace devices`: what this machine has to run on."""

from __future__ import annotations

from typing import Annotated

import typer

from mace_core.cli.shared_options import OutputOptions, shared_options


@shared_options
def devices(
    *,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Look again instead of using the stored inventory.")
    ] = False,
    output: OutputOptions,
) -> None:
    """List the devices of this machine and, for what is missing, why.

    A device is named by its first column wherever one is asked for (--device); the part before the colon means the
    provider's first real device. Virtual devices (simulators) are used only when named in full.
    """
    from mace_core.cli.output import print_line, progress
    from mace_core.cli.quiet import plugin_log_quiet
    from mace_core.presentation.terminal import terminal_width
    from mace_core.provider.listing import devices as list_devices

    with plugin_log_quiet(), progress("Looking for devices"):
        found = list_devices(refresh=refresh)
    output.deliver("devices", found.as_data(), lambda: print_line(found.text(terminal_width())))
