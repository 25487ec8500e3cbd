"""What `mace benchmark` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mace_core.presentation import Column, Table, number

if TYPE_CHECKING:
    from mace_core.report.step_times import StepTime

_FIGURES = (number("ms"), number("%", 2), number("MMAC", 6), number("GMAC/s", 4), number("% of peak", 5))


def phases_table(title: str, seconds: Mapping[str, float]) -> Table:
    """How long each phase took."""
    return Table((Column("phase"), number("ms")), [(name, f"{v * 1000:.3f}") for name, v in seconds.items()], title)


def steps_table(title: str, steps: Sequence[StepTime], all_steps: Sequence[StepTime]) -> Table:
    """Operations, each with its share of the time of ``all_steps``."""
    rows = [
        (str(step.position), step.name, step.kind, step.shape, step.device, *_figures(step, all_steps))
        for step in steps
    ]
    columns = (number("#", 9), Column("operation"), Column("type", 3), Column("shape", 8), Column("device", 7))
    return Table((*columns, *_FIGURES), rows, title)


def types_table(types: Sequence[StepTime], all_steps: Sequence[StepTime]) -> Table:
    """The same summed by type and device."""
    rows = [(str(row.count), row.kind, row.device, *_figures(row, all_steps)) for row in types]
    return Table((number("steps", 3), Column("type"), Column("device", 7), *_FIGURES), rows, "by type")


def _figures(step: StepTime, all_steps: Sequence[StepTime]) -> tuple[str, ...]:
    total = sum(each.seconds for each in all_steps) or 1.0
    return (
        f"{step.seconds * 1000:.4f}",
        f"{step.seconds / total * 100:.1f}",
        f"{step.macs / 1e6:.2f}" if step.macs else "",
        f"{step.speed / 1e9:.1f}" if step.speed else "",
        f"{step.share_of_peak * 100:.0f}" if step.share_of_peak else "",
    )
