"""Timing runs of a session: latencies, throughput, several requests at once, larger batches."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mace_core.scheduler.planning.specs import ValueSpec
    from mace_core.session import Session


@dataclass(frozen=True, slots=True)
class Timings:
    """Of warm runs.

    Attributes:
        latencies: seconds of each run as its caller saw it, the shortest first.
        wall_seconds: from the start of the first run to the end of the last.
    """

    latencies: Sequence[float]
    wall_seconds: float

    def percentile(self, fraction: float) -> float:
        """The shortest latency that ``fraction`` of the runs do not exceed (the nearest-rank method)."""
        from mace_core.measurement.statistics import percentile

        return percentile(self.latencies, fraction)

    @property
    def median(self) -> float:
        return statistics.median(self.latencies)

    def inferences_per_second(self, batch: int) -> float:
        """Samples computed a second by all requests together."""
        return len(self.latencies) * batch / self.wall_seconds

    def as_data(self) -> dict[str, float]:
        return {
            "p50": self.percentile(0.5),
            "p90": self.percentile(0.9),
            "p99": self.percentile(0.99),
            "min": self.latencies[0],
            "max": self.latencies[-1],
            "mean": statistics.fmean(self.latencies),
        }


def time_runs(session: Session, feeds: Mapping[str, Any], *, runs: int, warmup: int, streams: int) -> Timings:
    """Time ``runs`` runs in each of ``streams`` threads at once, after ``warmup`` runs in each that do not count.

    Raises:
        MaceError: what a run raises; the other threads are stopped first.
    """
    from mace_core.measurement.streams import run_streams

    found = run_streams([session] * streams, feeds, warmup=warmup, goes_on=lambda done, seconds: done < runs)
    spans = [span for each in found for span in each]
    return Timings(sorted(end - begin for begin, end in spans), max(e for _, e in spans) - min(b for b, _ in spans))


def batch_inputs(inputs: Sequence[ValueSpec]) -> list[str]:
    """The inputs whose first dimension is the batch: free, and the same one in all of them.

    Raises:
        UsageError: if there is none.
    """
    free = [spec for spec in inputs if spec.shape and len(spec.shape) > 1 and not isinstance(spec.shape[0], int)]
    if not free:
        shown = ", ".join(map(str, inputs)) or "none"
        raise UsageError(
            f"--batch: no input of the model has a free first dimension (its inputs: {shown}); "
            "export it with a free batch dimension, or leave --batch out"
        )
    first = next((spec.shape[0] for spec in free if spec.shape and spec.shape[0] is not None), None)
    return [spec.name for spec in free if spec.shape and spec.shape[0] in (None, first)]


def batched(feeds: Mapping[str, npt.NDArray[Any]], names: Sequence[str], batch: int) -> dict[str, npt.NDArray[Any]]:
    """The feeds with ``batch`` rows in these inputs: the rows given, as often as it takes.

    Raises:
        UsageError: if an input has no rows to repeat.
    """
    import numpy as np

    found = dict(feeds)
    for name in names:
        if name not in found:
            continue
        rows = len(found[name])
        if not rows:
            raise UsageError(f"--batch: the input '{name}' has no rows that could be repeated")
        found[name] = np.ascontiguousarray(found[name][np.arange(batch) % rows])
    return found
