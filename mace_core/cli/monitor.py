"""`mace monitor`: what the sessions of this user's processes do, live."""

from __future__ import annotations

from typing import Annotated

import typer

from mace_core.cli.shared_options import OutputOptions, shared_options


@shared_options
def monitor(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print what there is now, and end.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, max=3600, help="Time between two looks.")
    ] = 1.0,
    output: OutputOptions,
) -> None:
    """Watch running sessions: devices, queues, rates, temperatures; Ctrl-C ends it.

    A process shows its sessions if it was started with MACE_MONITOR=1 in its environment, or called
    mace_core.monitoring.publish(); `mace run` and `mace benchmark` show theirs by themselves. Only processes of this
    user that use the same cache folder are seen.

    Rates need two looks; with --once they come from two that are --interval apart, and with --json as well.

    Examples:

      mace monitor

      mace monitor --once --json
    """
    import sys
    import time

    from mace_core.cli.output import print_line
    from mace_core.monitoring.view import View, look
    from mace_core.presentation.terminal import terminal_width

    first = look()
    if once or output.as_json or output.json_file is not None or not sys.stdout.isatty():
        if first.processes:
            time.sleep(interval)
        view = View.of(look(), first)
        output.deliver("monitor", view.as_data(), lambda: print_line(view.text(terminal_width())))
        return
    _watch(interval)


def _watch(interval: float) -> None:
    import time

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from mace_core.monitoring.view import View, look

    console = Console()
    earlier = look()
    view = View.of(earlier, None)
    with Live(Text(view.text(console.width)), console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                now = look()
                view = View.of(now, earlier)
                earlier = now
                live.update(Text(view.text(console.width), no_wrap=True), refresh=True)
        except KeyboardInterrupt:
            return
