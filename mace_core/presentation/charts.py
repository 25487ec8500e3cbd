"""Charts as SVG that follows the light or dark mode of who looks at it: bars in parts, and lines over a number.

All text is escaped; colors keep apart for people who see few of them, and every figure is in the tables beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mace_core.presentation.html import escape

WIDTH = 900
COLORS = ("#3b78c3", "#e08a00", "#1f9d6b", "#c65a9b", "#8a63d2", "#d1503a", "#2aa7b8", "#9c8a1e", "#8d99a6")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c2128}.title{font-weight:600;font-size:14px}.soft{fill:#5b6673}"
    ".grid{stroke:#dfe3e8;stroke-width:1}.line{fill:none;stroke-width:2}.mark{stroke:#8d99a6;stroke-dasharray:3 3}"
    ".band{fill-opacity:.18;stroke:none}"
    "@media (prefers-color-scheme:dark){text{fill:#e4e8ed}.soft{fill:#9aa6b3}.grid{stroke:#323b46}}"
)
_RIGHT = 90
_LETTER = 7.0
"""Pixels that a letter takes, about."""


@dataclass(frozen=True, slots=True)
class PartBars:
    """A bar for each label, made of a part for each series.

    Attributes:
        title: stands above.
        labels: of the bars, from above.
        series: name of a part, and its size in each bar; no negative ones.
        words: a size as text.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[tuple[str, Sequence[float]]]
    words: Callable[[float], str]

    @property
    def height(self) -> int:
        return 34 + 26 * len(self.labels) + 20 * len(_legend_rows([name for name, _ in self.series])) + 14

    def body(self) -> str:
        left = min(240.0, 16 + _LETTER * max(map(len, self.labels), default=0))
        totals = [sum(values[place] for _, values in self.series) for place in range(len(self.labels))]
        scale = (WIDTH - left - _RIGHT) / (max(totals, default=0) or 1)
        parts = [_text(8, 18, self.title, "title")]
        for place, label in enumerate(self.labels):
            y, x = 32 + 26 * place, left
            parts.append(_text(left - 8, y + 14, _cut(label, left - 16), anchor="end"))
            for number, (name, values) in enumerate(self.series):
                width = values[place] * scale
                if width > 0:
                    hint = f"{label}, {name}: {self.words(values[place])}"
                    parts.append(
                        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="20" fill="{_color(number)}">'
                        f"<title>{escape(hint)}</title></rect>"
                    )
                x += width
            parts.append(_text(x + 6, y + 14, self.words(totals[place]), "soft"))
        parts += _legend([name for name, _ in self.series], 34 + 26 * len(self.labels) + 12)
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart; ``low`` and ``high``, where given, are the band that its points lie in."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over a common number.

    Attributes:
        title: stands above.
        lines: what is drawn.
        x_words, y_words: numbers as text.
        marks: places along the horizontal axis with what happens there.
        room: height of the plot in pixels.
        from_zero: whether the vertical axis begins at 0.
        every: the horizontal axis is marked at these only; () for a usual spacing.
        unit: the vertical axis is marked at round numbers of it: 2**20 for sizes in MiB.
    """

    title: str
    lines: Sequence[Line]
    x_words: Callable[[float], str]
    y_words: Callable[[float], str]
    marks: Sequence[tuple[float, str]] = ()
    room: int = 200
    from_zero: bool = True
    every: Sequence[float] = ()
    unit: float = 1.0

    @property
    def height(self) -> int:
        return (
            30 + (18 if self.marks else 0) + self.room + 24 + 20 * len(_legend_rows([each.name for each in self.lines]))
        )

    def body(self) -> str:
        drawn = [each for each in self.lines if each.xs]
        if not drawn:
            return _text(8, 18, self.title, "title")
        top, left, width = 30 + (18 if self.marks else 0), 84, WIDTH - 84 - 44
        x0, x1 = min(min(each.xs) for each in drawn), max(max(each.xs) for each in drawn)
        values = [value for each in drawn for value in (*each.ys, *each.low, *each.high)]
        y0, y1 = (0.0 if self.from_zero else min(values)), max(values)
        y1 = y1 if y1 > y0 else y0 + 1

        def across(x: float) -> float:
            return left + (width * (x - x0) / (x1 - x0) if x1 > x0 else width / 2)

        def down(y: float) -> float:
            return top + self.room * (1 - (y - y0) / (y1 - y0))

        parts = [_text(8, 18, self.title, "title")]
        for tick in (each * self.unit for each in ticks(y0 / self.unit, y1 / self.unit, 5)):
            parts.append(f'<path class="grid" d="M{left} {down(tick):.1f}H{left + width}"/>')
            parts.append(_text(left - 8, down(tick) + 4, self.y_words(tick), "soft", "end"))
        for tick in self.every or ticks(x0, x1, 8):
            parts.append(_text(across(tick), top + self.room + 18, self.x_words(tick), "soft", "middle"))
        parts += self._marks(across, top)
        for number, each in enumerate(drawn):
            color = _color(number)
            if each.low:
                edge = [*zip(each.xs, each.high, strict=True), *reversed(list(zip(each.xs, each.low, strict=True)))]
                parts.append(f'<path class="band" fill="{color}" d="{_path(edge, across, down)}Z"/>')
            points = list(zip(each.xs, each.ys, strict=True))
            parts.append(f'<path class="line" stroke="{color}" d="{_path(points, across, down)}"/>')
            if each.dots:
                for x, y in points:
                    hint = f"{each.name}, {self.x_words(x)}: {self.y_words(y)}"
                    parts.append(
                        f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="4" fill="{color}">'
                        f"<title>{escape(hint)}</title></circle>"
                    )
        parts += _legend([each.name for each in drawn], top + self.room + 28)
        return "".join(parts)

    def _marks(self, across: Callable[[float], float], top: int) -> list[str]:
        parts, free = [], -math.inf
        for x, text in self.marks:
            at = across(x)
            parts.append(
                f'<path class="mark" d="M{at:.1f} {top - 4}V{top + self.room}"><title>{escape(text)}</title></path>'
            )
            start = min(at + 3, WIDTH - _LETTER * len(text))
            if start >= free:  # else its text would lie over the one before
                parts.append(_text(start, top - 6, text, "soft"))
                free = start + _LETTER * len(text) + 6
        return parts


Chart: TypeAlias = "PartBars | Lines"


def charts_svg(charts: Sequence[Chart], label: str) -> str:
    """The charts below each other as one picture."""
    height, parts = 8, []
    for chart in charts:
        parts.append(f'<g transform="translate(0 {height})">{chart.body()}</g>')
        height += chart.height + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"><style>{STYLE}</style>{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between the two, about so many."""
    rough = (high - low) / max(count, 1)
    if not rough > 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _path(
    points: Sequence[tuple[float, float]], across: Callable[[float], float], down: Callable[[float], float]
) -> str:
    return "M" + "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in points)


def _legend_rows(names: Sequence[str]) -> list[list[tuple[int, str, float]]]:
    """Entries of each row: number, name, and where it begins."""
    rows: list[list[tuple[int, str, float]]] = [[]]
    x = 8.0
    for number, name in enumerate(names):
        width = 34 + _LETTER * len(name)
        if rows[-1] and x + width > WIDTH:
            rows.append([])
            x = 8.0
        rows[-1].append((number, name, x))
        x += width
    return rows if names else []


def _legend(names: Sequence[str], y: float) -> list[str]:
    parts = []
    for row, entries in enumerate(_legend_rows(names)):
        for number, name, x in entries:
            line = y + 20 * row
            parts.append(f'<rect x="{x:.1f}" y="{line:.1f}" width="11" height="11" rx="3" fill="{_color(number)}"/>')
            parts.append(_text(x + 17, line + 10, name, "soft"))
    return parts


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _cut(text: str, width: float) -> str:
    room = max(1, int(width / _LETTER))
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    more = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'
