"""One profiled run as a picture (SVG): what each thread or device was doing when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from mace_core.report.trace import not_speed, save, side_by_side

if TYPE_CHECKING:
    from mace_core.report.model_facts import ModelFacts
    from mace_core.scheduler.profile import Profile

_WIDTH, _LEFT, _RIGHT = 1400, 170, 70
_TOP, _ROW, _BAR = 64, 34, 26
_LEGEND_WIDTH, _LEGEND_ROW = 345, 20
_COLORS = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#ff9da7", "#86bc86",
    "#a0cbe8", "#d4a6c8",
)  # fmt: skip
_OTHERS = "#bab0ac"
_LETTER = 6.2
"""Pixels that a letter of a label takes, about."""


class _Box(NamedTuple):
    row: str
    kind: str
    start_ns: int
    end_ns: int
    hint: str


def write_timeline(path: Path, profile: Profile, facts: ModelFacts, model: str, virtual: Collection[str] = ()) -> None:
    """Write the picture; what was there before stays as it was until the new one is whole.

    Raises:
        UsageError: if the file cannot be written.
    """
    save(path, timeline_svg(profile, facts, model, virtual))


def timeline_svg(profile: Profile, facts: ModelFacts, model: str, virtual: Collection[str] = ()) -> str:
    """Rows are the workers of a device, or the device where it tells of none; colors are operators, the ones that
    take longest first in the legend.  A box tells what it is when the pointer rests on it.  ``virtual``: names of
    devices whose times are not those of what they stand for, which the title tells."""
    boxes = list(_boxes(profile, facts))
    rows = list(dict.fromkeys(box.row for box in boxes))
    spent: Counter[str] = Counter()
    for box in boxes:
        spent[box.kind] += box.end_ns - box.start_ns
    kinds = [kind for kind, _ in spent.most_common()]
    colors = dict(zip(kinds, _COLORS, strict=False))
    total = max(profile.work_end_ns - profile.start_ns, 1)
    across = (_WIDTH - _LEFT - _RIGHT) / total
    bottom = _TOP + _ROW * len(rows)
    per_line = (_WIDTH - 20) // _LEGEND_WIDTH
    height = bottom + 34 + _LEGEND_ROW * -(-len(kinds) // per_line)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-size="15">{escape(model)}: one run, {total / 1e6:.3f} ms'
        f"{escape(not_speed(virtual))}</text>",
    ]
    for tick in _ticks(total):
        x = _LEFT + tick * across
        parts.append(f'<path d="M{x:.1f} {_TOP - 6}V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{_TOP - 10}" text-anchor="middle" fill="#555">{tick / 1e6:g} ms</text>')
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number
        mine = [box for box in boxes if box.row == row]
        busy = sum(box.end_ns - box.start_ns for box in mine) / total
        middle = y + _BAR / 2 + 4
        parts.append(f'<text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(row)}</text>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{middle}" fill="#555">{busy:.0%} busy</text>')
        for box in mine:
            x, width = _LEFT + (box.start_ns - profile.start_ns) * across, (box.end_ns - box.start_ns) * across
            parts.append(
                f'<rect x="{x:.2f}" y="{y}" width="{max(width, 0.4):.2f}" height="{_BAR}" '
                f'fill="{colors.get(box.kind, _OTHERS)}"><title>{escape(box.hint)}</title></rect>'
            )
            if width > _LETTER * len(box.kind) + 6:
                parts.append(
                    f'<text x="{x + width / 2:.1f}" y="{middle}" text-anchor="middle" fill="white" '
                    f'pointer-events="none" font-size="10">{escape(box.kind)}</text>'
                )
    busy_ns = sum(spent.values()) or 1
    for number, kind in enumerate(kinds):
        x, y = 10 + _LEGEND_WIDTH * (number % per_line), bottom + 20 + _LEGEND_ROW * (number // per_line)
        short = kind if len(kind) <= 24 else f"{kind[:23]}…"
        text = f"{short} {spent[kind] / 1e6:.3f} ms, {spent[kind] / busy_ns:.0%}"
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colors.get(kind, _OTHERS)}"/>')
        parts.append(f'<text x="{x + 17}" y="{y + 10}">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _boxes(profile: Profile, facts: ModelFacts) -> Iterator[_Box]:
    """What workers did, and the steps of devices that know no workers."""
    told = {part.device for part in profile.parts}
    for part in profile.parts:
        kind = facts.kind(part.name, part.source)
        hint = _hint(part.name, facts.shape(part.source), part.source, part.end_ns - part.start_ns)
        yield _Box(f"{part.device} {part.worker}", kind, part.start_ns, part.end_ns, hint)
    for row, span in side_by_side([span for span in profile.spans if span.device not in told]):
        kind = facts.kind(span.name, span.source)
        hint = _hint(span.name, facts.shape(span.source), span.source, span.duration_ns)
        yield _Box(f"{span.device}{f' ({row + 1})' if row else ''}", kind, span.start_ns, span.end_ns, hint)


def _hint(name: str, shape: str, source: Sequence[str], duration_ns: int) -> str:
    nodes = ", ".join(source[:4]) + (f" and {len(source) - 4} more" if len(source) > 4 else "")
    return "\n".join(filter(None, (name, shape, f"{duration_ns / 1e3:.1f} µs", nodes)))


def _ticks(total_ns: int) -> list[float]:
    """About ten round moments, in nanoseconds."""
    step = 1.0
    while total_ns / step > 12:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    return [step * number for number in range(int(total_ns / step) + 1)]
