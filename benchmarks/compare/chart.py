"""A comparison as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.compare.engines import MACE
from benchmarks.compare.results import Comparison, Row, plural
from mace_core.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS = "#c8102e"
_COLORS = {
    MACE: _OURS,
    "onnxruntime": "#4e79a7",
    "openvino": "#76b7b2",
    "ncnn": "#59a14f",
    "mnn": "#edc948",
    "litert": "#b07aa1",
}
"""An engine has its color whichever others are there."""

_OTHER = "#9c9c9c"
_GROUP = 0.86
"""Part of the room of a model that its bars take."""


def write_chart(found: Comparison, path: Path) -> None:
    """Bars of speed relative to the fastest peer of each model, one panel for each number of threads; longer is faster.

    Raises:
        UsageError: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("a chart needs matplotlib: pip install matplotlib") from None
    names = list(found.versions)
    counts = sorted({row.threads for row in found.rows})
    models = list(dict.fromkeys(row.model for row in found.rows))
    figure = Figure(figsize=(max(8.0, 2.2 + 1.5 * len(models)), 1.3 + 3.6 * max(1, len(counts))), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(max(1, len(counts)), 1, squeeze=False)[:, 0]
    for panel, threads in zip(panels, counts, strict=False):
        _draw(panel, [row for row in found.rows if row.threads == threads], models, names)
        panel.set_title(_title(found, threads), loc="left", fontsize="large")
    if counts:
        handles, labels = panels[0].get_legend_handles_labels()
        order = [labels.index(name) for name in names]
        figure.legend(
            [handles[i] for i in order],
            [f"{name} {found.versions[name]}" for name in names],
            ncols=len(names),
            frameon=False,
            loc="outside lower center",
        )
    figure.suptitle(_heading(found), fontsize="medium", color="#444444")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def speeds(row: Row) -> dict[str, float]:
    """By engine that ran, its speed relative to the fastest peer's; empty where no peer ran."""
    fastest = row.fastest_peer()
    if fastest is None:
        return {}
    best = row.cells[fastest].median_ms
    return {name: best / cell.median_ms for name, cell in row.cells.items() if cell.ran}


def _draw(panel: Axes, rows: list[Row], models: list[str], names: list[str]) -> None:
    by_model = {row.model: speeds(row) for row in rows}
    width = _GROUP / len(names)
    for position, name in enumerate(names):
        heights = {i: by_model[m][name] for i, m in enumerate(models) if name in by_model.get(m, {})}
        places = [index - _GROUP / 2 + (position + 0.5) * width for index in heights]
        ours = name == MACE
        panel.bar(places, list(heights.values()), 0.92 * width, label=name, color=_COLORS.get(name, _OTHER), zorder=2)
        for place, height in zip(places, heights.values(), strict=True):
            if ours:
                _label(panel, place, height)
    panel.axhline(1.0, color="black", linewidth=1.2, linestyle="--", zorder=3)
    panel.text(len(models) - 0.45, 1.0, " fastest\n peer", va="center", fontsize="small")
    panel.set_xticks(range(len(models)), models)
    panel.set_xlim(-0.6, len(models) - 0.45)
    panel.set_ylim(0, 1.12 * max([1.0, *(speed for found in by_model.values() for speed in found.values())]))
    panel.set_ylabel("speed, fastest peer = 1")
    panel.grid(axis="y", color="#e4e4e4", zorder=0)
    panel.set_axisbelow(True)
    panel.tick_params(axis="x", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _label(panel: Axes, place: float, height: float) -> None:
    style: dict[str, Any] = {"ha": "center", "fontsize": "small", "fontweight": "bold", "color": _OURS}
    style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}  # over its neighbors
    above = {"xytext": (0, 3), "textcoords": "offset points", "va": "bottom", "zorder": 4}
    panel.annotate(f"{height:.2f}", (place, height), **above, **style)


def _title(found: Comparison, threads: int) -> str:
    """With the geometric mean of what the bars of ours show."""
    mean = found.mean_ratios().get(threads, {}).get("fastest")
    return plural(threads) + (
        f": MACE's speed is {1 / mean:.2f} of the fastest peer's (geometric mean)" if mean else ""
    )


def _heading(found: Comparison) -> str:
    held = f", MACE held to {found.features}" if found.features else ""
    disturbed, every = found.disturbed()
    noise = f"; {disturbed} of {every} measurements disturbed by other processes" if disturbed else ""
    return f"{found.machine['processor']}, {found.machine.get('cores', '?')} cores, float32, batch 1{held}{noise}"
