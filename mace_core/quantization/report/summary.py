"""A report as text for a terminal, and as what JSON has."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from mace_core.json_values import json_value
from mace_core.presentation.columns import ColumnKind
from mace_core.presentation.sizes import format_bytes
from mace_core.presentation.table import ROWS_SHOWN, Column, Table, fold, number
from mace_core.quantization.report.findings import LayerFinding, Report
from mace_core.quantization.report.warnings import warnings


def text(report: Report, width: int | None = None, *, rows: int | None = ROWS_SHOWN) -> str:
    """The report for a terminal.

    Args:
        width: columns of the terminal; None where there is no limit.
        rows: layers shown, the most sensitive first; None for all.
    """
    blocks = ["\n".join(line for sentence in headline(report) for line in fold(sentence, width, indent="  "))]
    table = layer_table(report, rows)
    if table.rows:
        blocks.append(table.text(width))
    said = [line for warning in warnings(report) for line in fold(f"! {warning}", width, indent="  ")]
    if said:
        blocks.append("\n".join(said))
    return "\n\n".join(blocks)


def headline(report: Report) -> list[str]:
    """Sizes, counts and the metric, a sentence each."""
    before, after = format_bytes(report.size_before), format_bytes(report.size_after)
    lines = [
        f"{report.output}: {before} before, {after} after ({size_change(report)})",
        f"{len(report.quantized)} of {len(report.layers)} nodes quantized"
        + (f", {report.samples} samples" if report.is_calibrated else ""),
    ]
    if report.settings:
        lines.append(", ".join(f"{name} {value}" for name, value in report.settings.items()))
    if report.metric is not None:
        metric = report.metric
        lines.append(f"{metric.name}: {metric.before:.4g} before, {metric.after:.4g} after")
    return lines


def size_change(report: Report) -> str:
    """``74.9% smaller``."""
    if not report.size_before:
        return "from nothing"
    part = 1 - report.size_after / report.size_before
    return f"{abs(part):.1%} {'smaller' if part >= 0 else 'larger'}"


def layer_table(report: Report, rows: int | None = ROWS_SHOWN) -> Table:
    """The most sensitive layers first."""
    layers = report.most_sensitive
    shown = layers if rows is None else layers[:rows]
    columns = [
        Column("most sensitive layers", 0),
        Column("operator", 2),
        Column("form", 3),
        number("SQNR dB", 0),
        number("alone dB", 1),
        number("cosine", 1),
        number("weights dB", 4),
    ]
    cells = [
        [
            layer.name,
            layer.op_type,
            layer.form,
            decibels(layer.sqnr_db),
            decibels(layer.alone_sqnr_db),
            cosine(layer),
            decibels(layer.weight_sqnr_db),
        ]
        for layer in shown
    ]
    kept = [
        at for at, column in enumerate(columns) if column.kind is not ColumnKind.NUMBER or any(row[at] for row in cells)
    ]
    return Table(
        [columns[at] for at in kept],
        [[row[at] for at in kept] for row in cells],
        left_out=len(layers) - len(shown),
    )


def decibels(ratio: float | None) -> str:
    """``31.4``; "" for None, "exact" where nothing was lost."""
    if ratio is None:
        return ""
    return f"{ratio:.1f}" if math.isfinite(ratio) else "exact" if ratio > 0 else "lost"


def share(part: float) -> str:
    """``0.25%``; what is there at all is never shown as nothing."""
    return "<0.01%" if 0 < part < 1e-4 else f"{part:.2%}"


def cosine(layer: LayerFinding) -> str:
    return "" if layer.cosine is None else f"{layer.cosine:.5f}"


def report_json(report: Report) -> dict[str, Any]:
    """The report as objects, lists, numbers and texts, with the warnings in words."""
    found: dict[str, Any] = json_value(dataclasses.asdict(report))
    return {**found, "size_ratio": report.size_after / max(report.size_before, 1), "warnings": warnings(report)}
