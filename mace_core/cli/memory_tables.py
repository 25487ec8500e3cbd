"""What `mace memory` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_core.measurement.memory import KINDS
from mace_core.presentation import Column, Table, number
from mace_core.presentation.charts import Chart, Line, Lines, PartBars
from mace_core.presentation.sizes import format_bytes

if TYPE_CHECKING:
    from mace_core.measurement import MemoryReport, Moment

AT_WORK = "steady runs"
SAMPLES_DRAWN = 1500
PARTS_OF_HEAP = ("arenas", "arrays: prepared weights, tables, results")


def tables(found: MemoryReport) -> list[Table]:
    """Memory by kind while the model runs; of the whole process over time; what the session accounts for."""
    return [kinds_table(found), moments_table(found), parts_table(found)]


def kinds_table(found: MemoryReport) -> Table:
    """The process after its runs, by kind."""
    moment = next((each for each in found.moments if each.name == AT_WORK), found.moments[-1])
    rows = [(name, use) for name, use in moment.kinds.items()]
    rows += [("TOTAL", moment.total)]
    columns = (
        *(Column("memory"), number("PSS"), number("RSS", 2), number("private", 1), number("shared", 3)),
        number("swapped", 4),
    )
    shown = [
        (name, *map(_kib, (use.pss, use.rss, use.private, use.shared)), _kib(use.swap) if use.swap else "")
        for name, use in rows
    ]
    return Table(columns, shown, f"{found.model}: memory after {len(found.steady)} steady runs, in KiB")


def moments_table(found: MemoryReport) -> Table:
    """The whole process after each step."""
    columns = (
        *(Column("after"), number("s", 3), number("PSS"), number("more by"), number("RSS", 2), number("private", 1)),
        *(number("arenas", 4), number("arrays", 5)),
    )
    rows, before = [], 0
    for moment in found.moments:
        total = moment.total
        arrays = _kib(moment.array_bytes) if moment.array_bytes else ""
        arena = _kib(moment.arena_bytes) if moment.arena_bytes else ""
        change = f"{(total.pss - before) >> 10:+,}"
        rows.append(
            (
                moment.name,
                f"{moment.seconds:.2f}",
                _kib(total.pss),
                change,
                *map(_kib, (total.rss, total.private)),
                arena,
                arrays,
            )
        )
        before = total.pss
    return Table(columns, rows, "over time, in KiB")


def parts_table(found: MemoryReport) -> Table:
    """Sizes that are known without looking at pages."""
    moment = next((each for each in found.moments if each.name == AT_WORK), found.moments[-1])
    rows = [("weights as the file stores them", format_bytes(found.weight_bytes), "")]
    rows += [
        (f"arena of {location}", format_bytes(size), f"at least {format_bytes(least)} needed")
        for location, (size, least) in found.arenas.items()
    ]
    rows.append(("arenas kept on the host", format_bytes(moment.arena_bytes), "within heap and anonymous memory"))
    rows.append(("prepared weights, tables, results", format_bytes(moment.array_bytes), "arrays within the same"))
    return Table((Column("known sizes"), number("size"), Column("", 1)), rows)


def notes(found: MemoryReport) -> list[str]:
    """Sentences below the tables."""
    lines = [
        f"most resident memory ever: {format_bytes(found.most_resident_bytes)}",
        "the step 'inputs' is of this command (its options, random numbers); an application does not have it",
    ]
    growth = found.growth_bytes
    runs = len(found.steady) - len(found.steady) // 2 - 1
    if runs > 0:
        lines.append(f"the last {runs} runs added {format_bytes(growth) if growth > 0 else 'nothing'}")
    if found.has_compiled:
        lines.append(
            "this process compiled kernels and so loaded the compiler (LLVM); the next one finds them in the cache "
            "and takes less: run the command again"
        )
    if not found.has_details:
        lines.append("this system does not tell what mappings hold: only resident memory is shown")
    return lines


def charts(found: MemoryReport) -> list[Chart]:
    """Kinds of memory after each step, and resident memory over time."""
    series = [(name, [_pss(moment, name) for moment in found.moments]) for name in (*PARTS_OF_HEAP, *KINDS)]
    used = [(name, values) for name, values in series if any(values)]
    bars = PartBars("PSS after each step, by kind", [each.name for each in found.moments], used, _words)
    stride = max(1, len(found.samples) // SAMPLES_DRAWN)
    samples = found.samples[::stride]
    line = Line("resident memory of the process", [s for s, _ in samples], [float(size) for _, size in samples])
    over_time = Lines(
        "resident memory over time", [line], lambda x: f"{x:g} s", _words, found.marks, unit=float(1 << 20)
    )
    return [bars, over_time]


def _pss(moment: Moment, name: str) -> float:
    """Of one kind; what is known of the heap is taken out of it."""
    arenas, arrays = float(moment.arena_bytes), float(moment.array_bytes)
    use = moment.kinds.get(name)
    match name:
        case "arenas":
            return arenas
        case "arrays: prepared weights, tables, results":
            return arrays
        case "heap and anonymous memory":
            return max(0.0, (use.pss if use else 0) - arenas - arrays)
    return float(use.pss if use else 0)


def _words(size: float) -> str:
    return format_bytes(int(size))


def _kib(size: int) -> str:
    return f"{size >> 10:,}"
