"""What was measured, and the figures that follow from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.compare.engines import MACE
from benchmarks.compare.machine import QUIET_CORES


@dataclass(frozen=True, slots=True)
class Measurement:
    """One process.

    Attributes:
        start_ms: from before the engine's import to the first result.
        peak_bytes: the most memory the process held; Python, numpy and the inputs are in it.
        other_cores: cores that other processes kept busy meanwhile.
    """

    median_ms: float
    min_ms: float
    runs: int
    start_ms: float
    peak_bytes: int
    other_cores: float


@dataclass(slots=True)
class Cell:
    """One engine on one model with one number of threads.

    Attributes:
        missing: why there are no measurements, a sentence.
    """

    measurements: list[Measurement] = field(default_factory=list)
    missing: str = ""

    @property
    def ran(self) -> bool:
        return bool(self.measurements) and not self.missing

    @property
    def median_ms(self) -> float:
        """The median of the processes' medians."""
        return statistics.median(m.median_ms for m in self.measurements)

    @property
    def min_ms(self) -> float:
        return min(m.min_ms for m in self.measurements)

    @property
    def start_ms(self) -> float:
        return statistics.median(m.start_ms for m in self.measurements)

    @property
    def peak_bytes(self) -> float:
        return statistics.median(m.peak_bytes for m in self.measurements)

    @property
    def disturbed(self) -> bool:
        """At least one of its processes had not its cores to itself."""
        return any(m.other_cores > QUIET_CORES for m in self.measurements)


@dataclass(slots=True)
class Row:
    """One model with one number of threads.

    Attributes:
        gflop: operations of one run, two for each multiply-add.
        cells: by engine.
    """

    model: str
    title: str
    gflop: float
    threads: int
    cells: dict[str, Cell]

    def fastest_peer(self) -> str | None:
        peers = [name for name, cell in self.cells.items() if name != MACE and cell.ran]
        return min(peers, key=lambda name: self.cells[name].median_ms, default=None)

    def ratio(self, peer: str | None = None) -> float | None:
        """Our median over that of ``peer``, by default the fastest; below 1: MACE is faster."""
        peer = peer or self.fastest_peer()
        mine = self.cells.get(MACE)
        if peer is None or mine is None or not mine.ran or not self.cells[peer].ran:
            return None
        return mine.median_ms / self.cells[peer].median_ms

    def share(self, engine: str, peak_gflops: float) -> float | None:
        """Part of the machine's peak that the engine's median reaches."""
        cell = self.cells.get(engine)
        if cell is None or not cell.ran or not self.gflop or not peak_gflops:
            return None
        return self.gflop / (cell.median_ms / 1e3) / peak_gflops


@dataclass(slots=True)
class Comparison:
    """Everything.

    Attributes:
        machine: what it was measured on.
        versions: of the engines, by name.
        absent: pip command by name of the engines that are not installed.
        peaks: GFLOP/s of multiply-adds by number of threads.
        differences: by model and engine, the largest difference of any output from the reference engine's, as a share
            of that output's range.
        features: the instruction sets MACE was held to; empty: all there are.
        precision: "float32" or "int8".
        skipped: reason by name of the models that could not be had.
        stopped: it was interrupted, so that rows are missing.
    """

    machine: dict[str, object]
    versions: dict[str, str]
    absent: dict[str, str]
    features: str = ""
    precision: str = "float32"
    peaks: dict[int, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    differences: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    def mean_ratios(self) -> dict[int, dict[str, float]]:
        """Geometric mean of the ratios over the models, by threads and by peer; "fastest" for the fastest of each row.

        A peer's mean is over the models that it runs.
        """
        found: dict[int, dict[str, float]] = {}
        for threads in sorted({row.threads for row in self.rows}):
            rows = [row for row in self.rows if row.threads == threads]
            peers = [name for name in self.versions if name != MACE]
            means = {peer: geometric_mean(row.ratio(peer) for row in rows if peer in row.cells) for peer in peers}
            means["fastest"] = geometric_mean(row.ratio() for row in rows)
            found[threads] = {name: mean for name, mean in means.items() if mean is not None}
        return found

    def disturbed(self) -> tuple[int, int]:
        """(processes that others disturbed, all processes)."""
        every = [m for row in self.rows for cell in row.cells.values() for m in cell.measurements]
        return sum(m.other_cores > QUIET_CORES for m in every), len(every)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": self.machine,
            "versions": self.versions,
            "not_installed": self.absent,
            "features": self.features or None,
            "precision": self.precision,
            "peak_gflops": {str(threads): peak for threads, peak in self.peaks.items()},
            "rows": [self._row_data(row) for row in self.rows],
            "mean_ratios": {str(threads): means for threads, means in self.mean_ratios().items()},
            "differences": self.differences,
            "skipped": self.skipped,
            "stopped": self.stopped,
        }

    def _row_data(self, row: Row) -> dict[str, Any]:
        engines = {
            name: _cell_data(cell, row.share(name, self.peaks.get(row.threads, 0.0)))
            for name, cell in row.cells.items()
        }
        return {
            "model": row.model,
            "title": row.title,
            "threads": row.threads,
            "gflop": row.gflop,
            "fastest_peer": row.fastest_peer(),
            "ratio": row.ratio(),
            "engines": engines,
        }


def _cell_data(cell: Cell, share: float | None) -> Mapping[str, Any]:
    if not cell.ran:
        return {"missing": cell.missing}
    return {
        "median_ms": cell.median_ms,
        "min_ms": cell.min_ms,
        "start_ms": cell.start_ms,
        "peak_bytes": cell.peak_bytes,
        "share_of_peak": share,
        "disturbed": cell.disturbed,
        "measurements": [asdict(m) for m in cell.measurements],
    }


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Of those that are not None; None if there are none."""
    known = [ratio for ratio in ratios if ratio is not None]
    return math.exp(statistics.fmean(map(math.log, known))) if known else None


def plural(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"
