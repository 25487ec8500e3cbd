"""A comparison as rows of text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mace_core.json_values import json_value
from mace_core.numerics.difference import Difference
from mace_core.numerics.validation import Layer, Validation

COLUMNS = ("node", "op", "device", "value", "type", "cosine", "SQNR dB", "max error", "of range", "alone, of range")
NUMBERS = (5, 6, 7, 8, 9)
"""Indices of the columns that hold numbers."""


def rows(found: Validation, layers: Sequence[Layer]) -> Iterator[tuple[list[str], bool]]:
    """One row per value, and whether it differs by more than allowed."""
    for layer in layers:
        figures = _figures(layer.difference)
        isolated = layer.failure or ("" if layer.isolated is None else _of_range(layer.isolated))
        is_bad = found.diverges(layer, layer.difference) or found.diverges(layer, layer.isolated) or bool(layer.failure)
        yield [layer.node, layer.op, layer.device, layer.output, layer.shape, *figures, isolated], is_bad


def as_data(found: Validation) -> dict[str, Any]:
    """Everything, ready for JSON: what is no number there (NaN, infinities) is text."""
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
