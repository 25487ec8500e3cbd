"""What the process holds over time: memory, threads, open files, temporary files; and whether any of it grows."""

from __future__ import annotations

import csv
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

WARM_UP = 0.25
"""This share of the time is left out: plans, kernels and pools are made then."""

WINDOWS = 16
"""The rest is cut into so many windows, and what a window holds is its least: what comes and goes is not counted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment.

    Attributes:
        seconds: since the beginning.
        memory_mb: resident memory of the process.
        threads: of the process, native ones included.
        files: open files and sockets.
        temporary: files in the folder for temporary files.
        answered: requests answered so far.
    """

    seconds: float
    memory_mb: float
    threads: int
    files: int
    temporary: int
    answered: int


@dataclass(frozen=True, slots=True)
class Limit:
    """How much more there may be at the end than after warming up: an amount, and a share of what there was."""

    amount: float
    share: float = 0.0


LIMITS = {
    "memory_mb": Limit(8.0, 0.02),
    "threads": Limit(2.0),
    "files": Limit(2.0),
    "temporary": Limit(1.0),
}


class Watch:
    """Takes a sample every ``period`` seconds, in a thread of its own."""

    def __init__(self, folder: Path, answered: Callable[[], int], period: float) -> None:
        """``folder``: of temporary files."""
        self.samples: list[Sample] = []
        self._folder = folder
        self._answered = answered
        self._period = period
        self._process = psutil.Process()
        self._begun = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopped.wait(self._period):
            self.samples.append(self.sample())

    def sample(self) -> Sample:
        """This moment."""
        process = self._process
        with process.oneshot():
            memory, threads = process.memory_info().rss / 2**20, process.num_threads()
        return Sample(
            time.monotonic() - self._begun,
            memory,
            threads,
            process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
            sum(1 for path in self._folder.rglob("*") if path.is_file()),
            self._answered(),
        )


def growth(samples: Sequence[Sample], what: str) -> float:
    """How much more there is of ``what`` at the end than after warming up, by the median slope (Theil and Sen) of what
    each window holds at least."""
    warm = samples[int(len(samples) * WARM_UP) :]
    size = max(len(warm) // WINDOWS, 1)
    windows = [warm[at : at + size] for at in range(0, len(warm) - size + 1, size)]
    points = [(each[len(each) // 2].seconds, min(getattr(one, what) for one in each)) for each in windows]
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for at, earlier in enumerate(points)
        for later in points[at + 1 :]
        if later[0] > earlier[0]
    ]
    if not slopes:
        return 0.0
    return float(statistics.median(slopes) * (points[-1][0] - points[0][0]))


def verdict(samples: Sequence[Sample]) -> str:
    """What grows, as part of a sentence; "" where nothing does."""
    found = []
    for what, limit in LIMITS.items():
        start = statistics.median(getattr(each, what) for each in samples[int(len(samples) * WARM_UP) :])
        more, allowed = growth(samples, what), limit.amount + limit.share * start
        if more > allowed:
            found.append(f"{what} grew by {more:.1f} where {allowed:.1f} may be ({start:.1f} in the middle)")
    return ", ".join(found)


def write_table(samples: Sequence[Sample], path: Path) -> None:
    """All samples, as comma-separated values."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(each) for each in samples)


def draw(samples: Sequence[Sample], path: Path, title: str) -> None:
    """A picture of all samples over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    minutes = [each.seconds / 60 for each in samples]
    warm = minutes[int(len(samples) * WARM_UP)]
    rates = [0.0] + [
        (later.answered - earlier.answered) / max(later.seconds - earlier.seconds, 1e-9)
        for earlier, later in itertools.pairwise(samples)
    ]
    rows: list[tuple[str, list[float], str]] = [
        ("memory, MB", [each.memory_mb for each in samples], "#1f77b4"),
        ("threads", [each.threads for each in samples], "#2ca02c"),
        ("open files", [each.files for each in samples], "#9467bd"),
        ("temporary files", [each.temporary for each in samples], "#8c564b"),
        ("answers / s", rates, "#c0392b"),
    ]
    figure, all_axes = plt.subplots(len(rows), 1, sharex=True, figsize=(8.5, 8), layout="constrained")
    for axes, (name, values, color) in zip(all_axes, rows, strict=True):
        axes.plot(minutes, values, color=color, linewidth=1.0)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0, top=max(values) * 1.1 + 1)
        axes.axvspan(0, warm, color="#000000", alpha=0.05, linewidth=0)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_title(title, loc="left", fontsize=11)
    all_axes[-1].set_xlabel("minutes (grey: warming up, not judged)")
    figure.savefig(path, dpi=120)
    plt.close(figure)
