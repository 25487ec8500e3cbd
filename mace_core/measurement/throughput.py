"""Several runs at once for a while: how many a second, and how long each takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_core.host.power import PackageMeter
from mace_core.measurement.statistics import percentile
from mace_core.measurement.streams import Spans, run_streams
from mace_core.progress import report

if TYPE_CHECKING:
    from mace_core.session import Session

FRACTIONS = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Stream:
    """What one stream did.

    Attributes:
        device: the devices that its session was opened for, as text.
        spans: seconds after the start at which each of its runs began and ended.
    """

    device: str
    spans: tuple[tuple[float, float], ...]

    @property
    def runs_per_second(self) -> float:
        """From the start of its first run to the end of its last: others may have ended later."""
        return len(self.spans) / (self.spans[-1][1] - self.spans[0][0])


@dataclass(frozen=True, slots=True)
class Throughput:
    """What all streams did together.

    Attributes:
        streams: one by one.
        batch: frames of a run.
        seconds: from the start of the first run to the end of the last.
        processor_seconds: of this process meanwhile, on all processors.
        watts: mean power of the processors by their own counters; None where they do not tell.
    """

    streams: tuple[Stream, ...]
    batch: int
    seconds: float
    processor_seconds: float
    watts: float | None

    @property
    def runs(self) -> int:
        """Of all streams."""
        return sum(len(stream.spans) for stream in self.streams)

    @property
    def frames_per_second(self) -> float:
        """Of all streams while all of them ran."""
        return self._rate(self.streams)

    @property
    def joules_per_frame(self) -> float | None:
        """Of the processors; None where that is not known."""
        return None if self.watts is None or not self.runs else self.watts / self.frames_per_second

    def devices(self) -> list[str]:
        """In the order of the streams, each once."""
        return list(dict.fromkeys(stream.device for stream in self.streams))

    def latencies(self, device: str | None = None) -> list[float]:
        """Seconds of each run, of one device or of all, the shortest first."""
        return sorted(end - begin for stream in self._of(device) for begin, end in stream.spans)

    def rate_over_time(self, windows: int, device: str | None = None) -> list[tuple[float, float]]:
        """Middle of each of so many equal windows of time, and the frames that ended in it for each of its seconds."""
        width = self.seconds / windows
        counts = [0] * windows
        for stream in self._of(device):
            for _, end in stream.spans:
                counts[min(int(end / width), windows - 1)] += self.batch
        return [((place + 0.5) * width, count / width) for place, count in enumerate(counts)]

    def summary(self, device: str | None = None) -> dict[str, float]:
        """Runs, frames a second, and latencies in seconds."""
        latencies = self.latencies(device)
        return {
            "runs": len(latencies),
            "frames_per_second": self._rate(self._of(device)),
            **{name: percentile(latencies, fraction) for name, fraction in FRACTIONS.items()},
            "min": latencies[0],
            "max": latencies[-1],
            "mean": statistics.fmean(latencies),
        }

    def _of(self, device: str | None) -> list[Stream]:
        return [stream for stream in self.streams if device is None or stream.device == device]

    def _rate(self, streams: Sequence[Stream]) -> float:
        return sum(stream.runs_per_second for stream in streams) * self.batch

    def as_data(self) -> dict[str, Any]:
        """Everything but the single runs, ready for JSON."""
        return {
            "streams": len(self.streams),
            "batch": self.batch,
            "seconds": self.seconds,
            "processor_seconds_per_frame": self.processor_seconds / (self.runs * self.batch),
            "watts": self.watts,
            "joules_per_frame": self.joules_per_frame,
            "total": self.summary(),
            "devices": {
                device: {
                    "streams": sum(stream.device == device for stream in self.streams),
                    **self.summary(device),
                }
                for device in self.devices()
            },
        }


def measure_throughput(
    sessions: Sequence[tuple[str, Session]],
    feeds: Mapping[str, Any],
    *,
    streams: int,
    seconds: float,
    warmup: int = 1,
    batch: int = 1,
) -> Throughput:
    """Run from several threads at once until the time is over; a run that has begun then is waited for and counts.

    Args:
        sessions: by what they are called; the streams take them in turn.
        feeds: an array for every input.
        streams: threads that run one request after the other.
        seconds: how long.
        warmup: runs of each stream that do not count.
        batch: frames of a run.

    Raises:
        MaceError: what a run raises; the other streams are stopped first.
    """
    given = [sessions[number % len(sessions)] for number in range(streams)]
    meter, processor, before = PackageMeter(), 0.0, None

    def note_and_tell(work: Sequence[Future[Spans]]) -> None:
        nonlocal processor, before
        processor, before = time.process_time(), meter.read()
        _tell_progress(time.perf_counter(), seconds, work)

    spans = run_streams(
        [session for _, session in given],
        feeds,
        warmup=warmup,
        goes_on=lambda runs, passed: passed < seconds,
        meanwhile=note_and_tell,
    )
    first = min(span[0][0] for span in spans)
    last = max(span[-1][1] for span in spans)
    used = time.process_time() - processor
    after = meter.read()
    watts = None if before is None or after is None else meter.watts(before, after)
    made = tuple(
        Stream(name, tuple((start - first, end - first) for start, end in span))
        for (name, _), span in zip(given, spans, strict=True)
    )
    return Throughput(made, batch, last - first, used, watts)


def _tell_progress(started: float, seconds: float, work: Sequence[Future[Spans]]) -> None:
    while (passed := time.perf_counter() - started) < seconds and not any(each.done() for each in work):
        report("measuring", min(int(passed * 10), int(seconds * 10)), max(1, int(seconds * 10)))
        time.sleep(min(0.1, max(0.001, seconds - passed)))
