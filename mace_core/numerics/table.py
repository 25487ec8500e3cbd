"""A comparison as rows of text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mace_core.json_values import json_value
from mace_core.numerics.difference import Difference
from mace_core.numerics.findings import Layer, Validation
from mace_core.presentation import Column, Table, number, prose

COLUMNS = ("node", "op", "device", "value", "type", "cosine", "SQNR dB", "max error", "of range", "alone, of range")
NUMBERS = (5, 6, 7, 8, 9)
"""Indices of the columns that hold numbers."""


STEP_COLUMNS = (*COLUMNS[:5], "steps", "numbers off", "SQNR dB", "of range")
"""The same of the layers of a quantized model."""


def headings(found: Validation) -> Sequence[str]:
    """What the cells of its layers' `rows` are."""
    return STEP_COLUMNS if found.in_steps else COLUMNS


def rows(found: Validation, layers: Sequence[Layer]) -> Iterator[tuple[list[str], bool]]:
    """One row per value, and whether it differs by more than allowed."""
    for layer in layers:
        figures = _step_figures(layer) if found.in_steps and layer.node else _float_figures(layer)
        yield [layer.node, layer.op, layer.device, layer.output, layer.shape, *figures], _is_bad(found, layer)


def _is_bad(found: Validation, layer: Layer) -> bool:
    differs = found.diverges(layer, layer.difference) or found.diverges(layer, layer.isolated)
    return differs or bool(layer.failure)


def _float_figures(layer: Layer) -> list[str]:
    isolated = layer.failure or ("" if layer.isolated is None else _of_range(layer.isolated))
    return [*_figures(layer.difference), isolated]


def _step_figures(layer: Layer) -> list[str]:
    difference, steps = layer.isolated, layer.steps
    if difference is None:
        return ["", "", "", layer.failure]
    counted = ["", ""] if steps is None else [str(steps.worst), f"{steps.off} of {steps.elements}"]
    return [*counted, f"{difference.sqnr_db:.1f}", _of_range(difference)]


_SHOWN = (
    Column("node"),
    Column("op", 2),
    Column("device", 6),
    Column("value", 3),
    Column("type", 7),
    number("cosine", 8),
    number("SQNR dB", 4),
    number("max error", 5),
    prose("of range"),
    prose("alone, of range", 1),
)


_STEPS_SHOWN = (
    *_SHOWN[:5],
    number("steps"),
    number("numbers off", 1),
    number("SQNR dB", 4),
    prose("of range", 1),
)


def outputs_table(found: Validation) -> Table:
    """The model's outputs."""
    used = (3, 2, 4, 5, 6, 7, 8)
    cells = [[row[place] for place in used] for row, _ in rows(found, found.outputs)]
    columns = [Column("output"), *(_SHOWN[place] for place in used[1:])]
    return Table(columns, cells, "outputs, run as usual:")


def layers_table(found: Validation, *, worst_first: bool) -> Table:
    """Every value that was compared, those that differ by more than allowed marked."""
    order = "those furthest off first" if worst_first else "in the order of the graph"
    layers = sorted(found.layers, key=lambda layer: _badness(found, layer)) if worst_first else found.layers
    cells = [["!" if is_bad else "", *row] for row, is_bad in rows(found, layers)]
    columns = _STEPS_SHOWN if found.in_steps else _SHOWN
    what = "quantized values, each computed from ours before it" if found.in_steps else "values"
    return Table([Column("", 0), *columns], cells, f"{what}, {order}:")


def _badness(found: Validation, layer: Layer) -> tuple[bool, float, float]:
    """What sorts the worst value first; a difference without a figure is the worst."""
    steps = layer.steps
    difference = layer.isolated if found.in_steps else layer.difference
    relative = 0.0 if difference is None else difference.relative
    if steps is not None:
        return steps.is_good, -steps.worst, -steps.off / max(steps.elements, 1)
    return not _is_bad(found, layer), 0.0, -relative if relative == relative else -math.inf


def as_data(found: Validation) -> dict[str, Any]:
    """Everything, ready for JSON: what is not a number there (NaN, infinities) is text."""
    first = found.first
    data = asdict(found)
    data["good"] = found.is_good
    data["first"] = None if first is None else asdict(first)
    return dict(json_value(data))


def _figures(difference: Difference | None) -> list[str]:
    if difference is None:
        return ["", "", "", ""]
    return [
        f"{difference.cosine:.6f}",
        f"{difference.sqnr_db:.1f}",
        f"{difference.max_error:.3g}",
        _of_range(difference),
    ]


def _of_range(difference: Difference) -> str:
    return f"{difference.relative:.2e}" + (f" ({difference.note})" if difference.note else "")
