"""The charts of the page, as SVG within HTML: colors come from the page's style, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.presentation.html import escape
from mace_core.presentation.sizes import format_bytes
from mace_core.quantization.report.findings import LayerFinding, Report, ValueFinding
from mace_core.quantization.report.summary import decibels, share
from mace_core.quantization.report.warnings import CLIPS, POOR_DB

_WIDTH = 960
_HIGHEST_DB = 60.0
"""Better ratios are drawn as this."""


def size_chart(report: Report) -> str:
    """Two bars: the file before and after."""
    most = max(report.size_before, report.size_after, 1)
    left, room, row = 70, _WIDTH - 70 - 110, 34
    parts = [
        _open(_WIDTH, 2 * row, f"{format_bytes(report.size_before)} before, {format_bytes(report.size_after)} after")
    ]
    for number, (label, size, kind) in enumerate(
        (("before", report.size_before, "muted"), ("after", report.size_after, "accent"))
    ):
        y, width = number * row, max(room * size / most, 2.0)
        parts.append(f'<text x="{left - 10}" y="{y + 19}" text-anchor="end">{label}</text>')
        parts.append(f'<rect class="{kind}" x="{left}" y="{y + 4}" width="{width:.1f}" height="{row - 12}" rx="3"/>')
        parts.append(f'<text x="{left + width + 8:.1f}" y="{y + 19}">{format_bytes(size)}</text>')
    return "".join([*parts, "</svg>"])


def layer_chart(layers: Sequence[LayerFinding]) -> str:
    """A bar for each measured layer in the order of the graph: its SQNR after everything before it, and a dot for it
    alone; "" where nothing was measured."""
    measured = [layer for layer in layers if not layer.is_float and layer.sensitivity_db is not None]
    if not measured:
        return ""
    left, top, height, bottom = 44, 12, 200, 26
    step = (_WIDTH - left - 10) / len(measured)
    worst = min(measured, key=lambda layer: layer.sensitivity_db or 0.0)

    def place(ratio: float) -> float:
        return top + height * (1 - min(max(ratio, 0.0), _HIGHEST_DB) / _HIGHEST_DB)

    label = (
        f"Signal to noise of {len(measured)} layers in the order of the graph; the lowest is "
        f"{decibels(worst.sensitivity_db)} dB, of {worst.name}. The table of layers has all figures."
    )
    parts = [_open(_WIDTH, top + height + bottom, label)]
    for mark in range(0, int(_HIGHEST_DB) + 1, 10):
        y = place(mark)
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{mark}</text>')
    for number, layer in enumerate(measured):
        x = left + number * step
        title = f"{layer.name} ({layer.op_type}, {layer.form})"
        if layer.sqnr_db is not None:
            title += f"\n{decibels(layer.sqnr_db)} dB after all before it"
        if layer.alone_sqnr_db is not None:
            title += f"\n{decibels(layer.alone_sqnr_db)} dB in the model's results, quantized alone"
        parts.append(f"<g><title>{escape(title)}</title>")
        if layer.sqnr_db is not None:
            y = place(layer.sqnr_db)
            kind = "bad" if layer.sqnr_db < POOR_DB else "accent"
            tall = max(top + height - y, 1.5)
            y = top + height - tall
            width = max(step * 0.75, 1.0)
            parts.append(f'<rect class="{kind}" x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{tall:.1f}"/>')
        if layer.alone_sqnr_db is not None:
            radius, y = min(max(step * 0.3, 1.5), 4), place(layer.alone_sqnr_db)
            parts.append(f'<circle class="dot" cx="{x + step * 0.375:.2f}" cy="{y:.1f}" r="{radius:.1f}"/>')
        parts.append("</g>")
    parts.append(f'<text class="small" x="{left}" y="{top + height + 18}">layers in the order of the graph</text>')
    return "".join([*parts, "</svg>"])


def histogram_chart(value: ValueFinding) -> str:
    """The numbers seen, counts on a logarithmic scale, and the range that the integers stand for; "" without them."""
    if not value.counts:
        return ""
    width, height, left, top, bottom = 300, 130, 8, 8, 34
    inner = width - 2 * left
    low, high = min(value.edges[0], value.low), max(value.edges[-1], value.high)
    if value.high - value.low > 3 * (value.seen_high - value.seen_low) > 0:  # far wider than what there is to see
        low, high = value.edges[0], value.edges[-1]
    span = (high - low) or 1.0
    most = math.log1p(max(value.counts))

    def across(number: float) -> float:
        return left + inner * min(max((number - low) / span, 0.0), 1.0)

    label = (
        f"{value.name}: seen {value.seen_low:.4g} to {value.seen_high:.4g}, represented {value.low:.4g} to "
        f"{value.high:.4g}, {share(value.clipped)} clipped"
    )
    parts = [_open(width, top + height + bottom, label, "small-chart")]
    inside = f'x="{across(value.low):.1f}" y="{top}" width="{max(across(value.high) - across(value.low), 1):.1f}"'
    parts.append(f'<rect class="range" {inside} height="{height}"/>')
    for start, end, count in zip(value.edges[:-1], value.edges[1:], value.counts, strict=True):
        if count:
            tall = max(height * math.log1p(count) / most, 1.0)
            is_outside = value.clipped > 0 and (end <= value.low or start >= value.high)
            kind = "bad" if is_outside else "accent"
            bar = max(across(end) - across(start) - 0.4, 0.6)
            parts.append(
                f'<rect class="{kind}" x="{across(start):.1f}" y="{top + height - tall:.1f}" width="{bar:.1f}" '
                f'height="{tall:.1f}"><title>{start:.4g} to {end:.4g}: {count:,}</title></rect>'
            )
    for end in (value.low, value.high):
        parts.append(
            f'<line class="clip" x1="{across(end):.1f}" x2="{across(end):.1f}" y1="{top}" y2="{top + height}"/>'
        )
    base = top + height
    parts.append(f'<line class="axis" x1="{left}" x2="{width - left}" y1="{base}" y2="{base}"/>')
    parts.append(f'<text class="small" x="{left}" y="{base + 14}">{low:.4g}</text>')
    parts.append(f'<text class="small" x="{width - left}" y="{base + 14}" text-anchor="end">{high:.4g}</text>')
    if low < 0 < high and 0.15 < (0 - low) / span < 0.85:
        parts.append(f'<text class="small" x="{across(0):.1f}" y="{base + 14}" text-anchor="middle">0</text>')
    word = f"{share(value.clipped)} clipped" if value.clipped > 0 else "nothing clipped"
    strong = ' class="warn small"' if value.clipped > CLIPS else ' class="small"'
    parts.append(f'<text{strong} x="{left}" y="{base + 29}">{word}, step {value.scale:.3g}</text>')
    return "".join([*parts, "</svg>"])


def meter(ratio: float | None) -> str:
    """A small bar beside a figure in a table; decoration, as the figure says it all."""
    if ratio is None:
        return ""
    width = 60 * min(max(ratio, 0.0), _HIGHEST_DB) / _HIGHEST_DB
    kind = "bad" if ratio < POOR_DB else "accent"
    return (
        '<svg class="meter" viewBox="0 0 60 8" width="60" height="8" aria-hidden="true">'
        '<rect class="track" width="60" height="8" rx="2"/>'
        f'<rect class="{kind}" width="{width:.1f}" height="8" rx="2"/></svg>'
    )


def _open(width: float, height: float, label: str, kind: str = "") -> str:
    return f'<svg class="{kind}" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}">'
