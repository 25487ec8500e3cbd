"""Tells plugins that observe sessions what was decided and how long it took; free where nobody observes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_core.graph import Value
from mace_core.provider import hooks
from mace_core.tensor import TensorType

if TYPE_CHECKING:
    from mace_core.scheduler.planning.partition import Partitioning
    from mace_core.scheduler.planning.stages import Stage
    from mace_core.scheduler.profile import Profile


def partitioned(model: str, stage: Stage, partitioning: Partitioning) -> None:
    """A stage was split."""
    if not hooks.has_observers("mace_on_partition"):
        return
    from mace_core.provider.events import PartitionEvent

    def shape(value: Value) -> tuple[int, ...]:
        found = stage.types.get(value)
        return found.concrete_shape if isinstance(found, TensorType) and found.is_concrete else ()

    hooks.emit_partition(
        PartitionEvent(
            model,
            {value.name: shape(value) for value in stage.graph.inputs},
            tuple((part.device, tuple(node.name for node in part.nodes)) for part in partitioning.partitions),
            tuple(
                (node.name, device, reason)
                for node, placement in partitioning.placements.items()
                for device, reason in placement.declined.items()
            ),
        )
    )


def compiled(model: str, device: str, nodes: tuple[str, ...], seconds: float, *, restored: bool, error: str) -> None:
    """A device compiled or restored nodes, or refused them (``error`` says why)."""
    if hooks.has_observers("mace_on_compile"):
        from mace_core.provider.events import CompileEvent

        hooks.emit_compile(CompileEvent(model, device, nodes, seconds, restored, error))


def failed(model: str, device: str, deed: str, error: str) -> None:
    """A device failed a run, or works again; ``deed``: what was done about it."""
    if hooks.has_observers("mace_on_fault"):
        from mace_core.provider.events import FaultEvent

        hooks.emit_fault(FaultEvent(model, device, deed, error))


def profiled(model: str, profile: Profile) -> None:
    """A profiled run ended."""
    if hooks.has_observers("mace_on_run_profile"):
        from mace_core.provider.events import RunProfile, Span

        spans = tuple(Span(s.device, s.name, s.source, s.start_ns, s.end_ns) for s in profile.spans)
        hooks.emit_run_profile(RunProfile(model, spans))
