"""The events of a session that plugins can take part in (pluggy; project name ``mace``).

A plugin implements any of them as functions of the same name and argument names (leaving arguments out is fine), marked
with `hookimpl`, in a module or class that it names under the entry-point group ``mace.hooks``.  A provider class may
carry them too: they take part from the moment the provider is loaded.  Observers (``mace_on_…``) are notified and
can change nothing; what they raise is logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from mace_core.provider.events import CompileEvent, FaultEvent, GovernorEvent, GovernorState, PartitionEvent, RunProfile

if TYPE_CHECKING:
    import typer

    from mace_core.graph import Graph
    from mace_core.optimizer import GraphPass
    from mace_core.provider.device import Device

PROJECT = "mace"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Decorator for a plugin's functions that receive session events; `HookSpecs` lists the events."""


class HookSpecs:
    """The specifications, by name."""

    @hookspec
    def mace_register_passes(self) -> Sequence[GraphPass]:  # type: ignore[empty-body]
        """Graph passes to run with the core's own, after them in each round."""

    @hookspec(firstresult=True)
    def mace_select_device(self, devices: Sequence[Device], graph: Graph) -> Sequence[Device] | None:
        """Choose among the real ``devices`` of this machine, best first, when the user named none; None to pass."""

    @hookspec
    def mace_register_policies(self) -> Sequence[object]:  # type: ignore[empty-body]
        """Policies (`mace_core.policies.Policy`) that sessions may be given by name."""

    @hookspec
    def mace_on_partition(self, event: PartitionEvent) -> None:
        """A model was split over devices for one input signature."""

    @hookspec
    def mace_on_compile(self, event: CompileEvent) -> None:
        """A device compiled a subgraph, or could not."""

    @hookspec
    def mace_on_fault(self, event: FaultEvent) -> None:
        """A device failed in a run, or works again after its rest (api 1.3)."""

    @hookspec
    def mace_on_run_profile(self, event: RunProfile) -> None:
        """A profiled run ended."""

    @hookspec(firstresult=True)
    def mace_select_mode(self, state: GovernorState) -> str | None:
        """The name of the mode that the governor shall go to; None to leave it to the thresholds.

        The governor goes to a cooler mode at once and to a warmer one step by step; at the last threshold it goes to
        the coolest mode whatever is said here.
        """

    @hookspec
    def mace_on_governor(self, event: GovernorEvent) -> None:
        """The governor changed the mode."""

    @hookspec
    def mace_register_commands(self, app: typer.Typer) -> None:
        """Add sub-commands to the `mace` command."""
