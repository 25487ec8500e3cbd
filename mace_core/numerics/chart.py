"""A comparison as a picture: the error of every value in the order of the graph, as SVG or a page of HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from mace_core.numerics.difference import Difference
from mace_core.numerics.findings import Layer, Validation
from mace_core.numerics.steps import ALLOWED_STEPS

WIDTH, HEIGHT = 1000, 520
_LEFT, _RIGHT, _TOP, _PANEL, _GAP = 70, 20, 60, 250, 40
_LEAST = 1e-9
"""Errors below it, none among them, are drawn on the lowest line."""
_LEAST_STEPS = 4
"""That the scale of steps has."""

_CUMULATIVE, _ISOLATED, _LIMIT = "#1f5fa8", "#d9822b", "#b3261e"
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-size:15px;font-weight:bold}.axis{stroke:#888;fill:none}"
    ".grid{stroke:#e3e3e3}.small{font-size:11px;fill:#555}"
    f".c{{fill:{_CUMULATIVE}}}.i{{fill:{_ISOLATED}}}"
)


def svg(found: Validation) -> str:
    """Two panels over the values in the order of the graph: error of range (logarithmic), and SQNR in dB."""
    layers = found.layers or found.outputs
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text class="title" x="{_LEFT}" y="20">{escape(_short(found.model))}: {escape(_short(found.devices))} '
        f"against {escape(found.against)}</text>",
        f'<text class="small" x="{_LEFT}" y="38">{escape(_short(found.verdict, 150))}</text>',
    ]
    parts += _steps(found, layers) if found.in_steps else _errors(found, layers)
    parts += _ratios(layers)
    parts += _legend(layers)
    return "\n".join([*parts, "</svg>"])


def html(found: Validation) -> str:
    """The picture with a table of all figures below it; one file that needs nothing else."""
    from mace_core.numerics.table import headings, rows

    head = "".join(f"<th>{escape(name)}</th>" for name in headings(found))
    body = "\n".join(
        f"<tr{' class=bad' if is_bad else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row, is_bad in rows(found, found.layers or found.outputs)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    return (
        '<!doctype html><meta charset="utf-8"><title>mace validate</title>'
        "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:2px 10px;"
        "text-align:left;border-bottom:1px solid #eee}.bad td{background:#fde7e5}</style>\n"
        f"{svg(found)}\n<ul>{notes}</ul>\n<table><tr>{head}</tr>\n{body}\n</table>\n"
    )


def _errors(found: Validation, layers: Sequence[Layer]) -> list[str]:
    """The upper panel: error as a part of the range, powers of ten."""
    lowest, highest = int(math.log10(_LEAST)), 1

    def place(error: float) -> float:
        power = math.log10(min(max(error, _LEAST), 10.0**highest))
        return _TOP + _PANEL * (highest - power) / (highest - lowest)

    marks = [(place(10.0**power), f"1e{power}") for power in range(lowest, highest + 1, 2)]
    parts = _frame(_TOP, _PANEL, "error of range", marks)
    parts += _limit(place(found.tolerance), f"{found.tolerance:g}")
    parts += _series(layers, lambda layer, difference: place(difference.relative), titled=True)
    return parts + _first(found, layers)


def _steps(found: Validation, layers: Sequence[Layer]) -> list[str]:
    """The upper panel of a quantized model: steps that each layer is off by itself; others on the lowest line, or the
    highest if they are off by too much."""
    most = max([_LEAST_STEPS, *(layer.steps.worst for layer in layers if layer.steps is not None)])

    def place(layer: Layer, difference: Difference) -> float:
        steps = layer.steps.worst if layer.steps is not None else most * found.diverges(layer, difference)
        return _TOP + _PANEL * (1 - steps / most)

    marks = [(_TOP + _PANEL * (1 - share), f"{most * share:g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts = _frame(_TOP, _PANEL, "steps of the quantization", marks)
    parts += _limit(_TOP + _PANEL * (1 - ALLOWED_STEPS / most), f"{ALLOWED_STEPS}")
    parts += _series(layers, place, titled=True)
    return parts + _first(found, layers)


def _limit(y: float, allowed: str) -> list[str]:
    return [
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_LIMIT}" '
        f'stroke-dasharray="6 4"/><text class="small" x="{WIDTH - _RIGHT - 90}" y="{y - 4:.1f}">allowed '
        f"{allowed}</text>"
    ]


def _first(found: Validation, layers: Sequence[Layer]) -> list[str]:
    """A line at the first value that differs by more than allowed."""
    first, parts = found.first, []
    if first is not None:
        x = _column(layers.index(first), len(layers)) if first in layers else _LEFT
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _PANEL}" stroke="{_LIMIT}"/>'
            f'<text x="{min(x + 5, WIDTH - 260):.1f}" y="{_TOP + 14}" fill="{_LIMIT}">first: '
            f"{escape(_short(first.node))} ({escape(first.op)})</text>"
        )
    return parts


def _ratios(layers: Sequence[Layer]) -> list[str]:
    """The lower panel: signal to noise; 160 dB and more are drawn at the top."""
    top, height, most = _TOP + _PANEL + _GAP, HEIGHT - _TOP - _PANEL - _GAP - 30, 160.0

    def place(ratio: float) -> float:
        return top + height * (1 - min(max(ratio, 0.0), most) / most)

    parts = _frame(
        top, height, "SQNR in dB", [(place(mark), f"{mark:.0f}") for mark in (0.0, 40.0, 80.0, 120.0, 160.0)]
    )
    parts += _series(layers, lambda layer, difference: place(difference.sqnr_db), titled=False)
    parts.append(
        f'<text class="small" x="{_LEFT}" y="{HEIGHT - 10}">{len(layers)} values in the order of the graph</text>'
    )
    return parts


def _frame(top: float, height: float, title: str, marks: Sequence[tuple[float, str]]) -> list[str]:
    parts = [
        f'<rect class="axis" x="{_LEFT}" y="{top}" width="{WIDTH - _LEFT - _RIGHT}" height="{height}"/>',
        f'<text class="small" x="{_LEFT}" y="{top - 6}">{title}</text>',
    ]
    for y, label in marks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return parts


def _series(layers: Sequence[Layer], place: Callable[[Layer, Difference], float], *, titled: bool) -> list[str]:
    """A line through the values after all before them, dots for nodes by themselves; ``titled``: with their names."""
    points = [
        (_column(index, len(layers)), place(layer, layer.difference))
        for index, layer in enumerate(layers)
        if layer.difference is not None
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{_CUMULATIVE}" stroke-width="1.5"/>'] if points else []
    for index, layer in enumerate(layers):
        for found, kind in ((layer.difference, "c"), (layer.isolated, "i")):
            if found is not None:
                title = f"{layer.output}: {layer.node} ({layer.op}) on {layer.device}, {_distance(layer, found)}"
                inner = f"<title>{escape(title)}</title>" if titled else ""
                x, y = _column(index, len(layers)), place(layer, found)
                parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.5">{inner}</circle>')
    return parts


def _distance(layer: Layer, difference: Difference) -> str:
    return f"{difference.relative:.3g} of range" if layer.steps is None else f"steps: {layer.steps.worst}"


def _legend(layers: Sequence[Layer]) -> list[str]:
    entries = []
    if any(layer.difference is not None for layer in layers):
        entries.append((_CUMULATIVE, "after all before it"))
    if any(layer.isolated is not None for layer in layers):
        entries.append((_ISOLATED, "the node by itself"))
    parts = []
    for number, (color, text) in enumerate(entries):
        x = WIDTH - _RIGHT - 160 * (len(entries) - number)
        parts.append(f'<circle cx="{x}" cy="{HEIGHT - 14}" r="4" fill="{color}"/>')
        parts.append(f'<text class="small" x="{x + 9}" y="{HEIGHT - 10}">{text}</text>')
    return parts


def _column(index: int, count: int) -> float:
    inner = WIDTH - _LEFT - _RIGHT - 20
    return _LEFT + 10 + (inner * index / (count - 1) if count > 1 else inner / 2)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"…{text[-limit:]}" if "/" in text else f"{text[:limit]}…"
