"""A comparison as text: tables that Markdown shows as tables too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.compare.engines import ENGINES, MACE
from benchmarks.compare.machine import QUIET_CORES
from benchmarks.compare.results import Cell, Comparison, plural


def report(found: Comparison) -> str:
    """Everything, as Markdown."""
    parts = [_heading(found)]
    if found.rows:
        parts += [
            f"Median of one run in ms, the fastest run in parentheses; batch 1, {found.precision}:",
            _times(found),
        ]
        parts += [_means(found)]
        parts += ["From before the engine's import to the first result in ms (caches warm), and peak memory in MB:"]
        parts += [_starts(found), "Largest difference from the reference's results, as a share of their range:"]
        parts += [_differences(found)]
    parts.append("\n".join(f"- {note}" for note in notes(found)))
    return "\n\n".join(filter(None, parts)) + "\n"


def notes(found: Comparison) -> list[str]:
    """What explains a "-" or a "~", and what is not there."""
    lines = [f"{name} is not installed: {command}" for name, command in found.absent.items()]
    lines += [f"{model} left out: {reason}" for model, reason in found.skipped.items()]
    own = [name for name in found.versions if ENGINES[name].int8_form != "onnx"]
    if found.precision == "int8" and own:
        lines.append(
            f"{', '.join(own)}: the same network in a quantized form of its own, timed however far its "
            "results are off; all others run one QDQ file"
        )
    if found.stopped:
        lines.append("stopped by hand: models are missing")
    reasons: dict[tuple[str, str, str], list[int]] = {}
    for row in found.rows:
        for name, cell in row.cells.items():
            if cell.missing:
                reasons.setdefault((name, row.model, cell.missing), []).append(row.threads)
    lines += [f"{name} has no figures for {model}: {reason}" for name, model, reason in reasons]
    disturbed, every = found.disturbed()
    if disturbed:
        lines.append(
            f"~ {disturbed} of {every} measurements shared the machine: other processes used more than {QUIET_CORES} "
            "cores meanwhile (--wait-quiet waits until they are done)"
        )
    return lines


def _heading(found: Comparison) -> str:
    machine = found.machine
    engines = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    peaks = ", ".join(f"{peak:.0f} with {plural(threads)}" for threads, peak in found.peaks.items())
    held = f" (MACE held to {found.features})" if found.features else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {engines}{held}\npeak GFLOP/s: {peaks}"
    )


def _times(found: Comparison) -> str:
    names = list(found.versions)
    rows = [["model", "GFLOP", "threads", *names, "fastest peer", "ratio", "% of peak", "fastest's %"]]
    for row in found.rows:
        peak = found.peaks.get(row.threads, 0.0)
        fastest = row.fastest_peer()
        shares = [row.share(MACE, peak), row.share(fastest, peak) if fastest else None]
        rows.append(
            [
                *(row.model, f"{row.gflop:.3g}", str(row.threads)),
                *[_time(row.cells[name]) for name in names],
                *(fastest or "-", _number(row.ratio(), "{:.2f}")),
                *[_number(share, "{:.0%}") for share in shares],
            ]
        )
    return _table(rows)


def _means(found: Comparison) -> str:
    lines = []
    for threads, means in found.mean_ratios().items():
        text = ", ".join(f"{mean:.2f} {'to the' if name == 'fastest' else 'to'} {name}" for name, mean in means.items())
        lines.append(f"geometric mean of the ratios, {plural(threads)}: {text or '-'}")
    return "\n".join(lines)


def _starts(found: Comparison) -> str:
    names = list(found.versions)
    rows = [["model", "threads", *[f"{n} start" for n in names], *[f"{n} MB" for n in names]]]
    for row in found.rows:
        cells = [row.cells[name] for name in names]
        starts = [_of(cell, lambda c: f"{c.start_ms:.0f}") for cell in cells]
        memory = [_of(cell, lambda c: f"{c.peak_bytes / 1e6:.0f}") for cell in cells]
        rows.append([row.model, str(row.threads), *starts, *memory])
    return _table(rows)


def _differences(found: Comparison) -> str:
    names = list(found.versions)
    rows = [["model", *names]]
    for model, differences in found.differences.items():
        missing = {name for row in found.rows if row.model == model for name, cell in row.cells.items() if cell.missing}
        texts = [
            f"{differences[name]:.1e}" if name in differences else "-" if name in missing else "reference"
            for name in names
        ]
        rows.append([model, *texts])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Names to the left, figures to the right; the first row has the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [heading in ("model", "fastest peer") for heading in rows[0]]

    def line(cells: Sequence[str]) -> str:
        placed = [c.ljust(w) if at_left else c.rjust(w) for c, w, at_left in zip(cells, widths, left, strict=True)]
        return "| " + " | ".join(placed) + " |"

    rule = ["-" * w if at_left else "-" * (w - 1) + ":" for w, at_left in zip(widths, left, strict=True)]
    return "\n".join([line(rows[0]), "|" + "|".join(f" {r} " for r in rule) + "|", *map(line, rows[1:])])


def _time(cell: Cell) -> str:
    def text(cell: Cell) -> str:
        mark = "~" if cell.disturbed else ""
        return f"{mark}{_short(cell.median_ms)} ({_short(cell.min_ms)})"

    return _of(cell, text)


def _of(cell: Cell, text: Callable[[Cell], str]) -> str:
    return text(cell) if cell.ran else "-"


def _short(milliseconds: float) -> str:
    return (
        f"{milliseconds:.3f}"
        if milliseconds < 1
        else f"{milliseconds:.2f}"
        if milliseconds < 20
        else f"{milliseconds:.1f}"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
