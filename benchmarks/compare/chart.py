"""A comparison as a picture."""

from __future__ import annotations

from pathlib import Path

from benchmarks.compare.engines import MACE
from benchmarks.compare.results import Comparison, plural
from mace_core.errors import UsageError

_COLOURS = ("#d1495b", "#30638e", "#00798c", "#edae49", "#7b6d8d", "#66a182")


def write_chart(found: Comparison, path: Path) -> None:
    """Bars of speed relative to the fastest peer, one panel for each number of threads; longer is faster.

    Raises:
        UsageError: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("A chart needs matplotlib: pip install matplotlib") from None
    names = list(found.versions)
    counts = sorted({row.threads for row in found.rows})
    models = list(dict.fromkeys(row.model for row in found.rows))
    figure = Figure(figsize=(max(7.0, 1.5 * len(models)), 0.6 + 3.4 * max(1, len(counts))), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(max(1, len(counts)), 1, squeeze=False)[:, 0]
    for panel, threads in zip(panels, counts, strict=False):
        rows = {row.model: row for row in found.rows if row.threads == threads}
        width = 0.84 / len(names)
        for position, name in enumerate(names):
            places, heights = [], []
            for index, model in enumerate(models):
                fastest = rows[model].fastest_peer() or MACE
                cell = rows[model].cells[name]
                if cell.ran and rows[model].cells[fastest].ran:
                    places.append(index - 0.42 + (position + 0.5) * width)
                    heights.append(rows[model].cells[fastest].median_ms / cell.median_ms)
            panel.bar(places, heights, width, label=name, color=_COLOURS[position % len(_COLOURS)])
        panel.axhline(1.0, color="black", linewidth=0.8)
        panel.set_xticks(range(len(models)), models)
        panel.set_ylabel("speed, fastest peer = 1")
        panel.set_title(plural(threads), loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    if counts:
        panels[0].legend(ncols=len(names), frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(str(found.machine["processor"]), fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
