"""How much memory the process holds while something runs."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

PERIOD_SECONDS = 0.01


class MemorySamples:
    """Looks at the resident memory of the process every 10 ms, on a thread of its own, while the block runs.

    Attributes:
        samples: time (of ``time.perf_counter_ns``) and bytes, in the order they were taken.
        marks: what began when.
    """

    def __init__(self) -> None:
        self.samples: list[tuple[int, int]] = []
        self.marks: list[tuple[int, str]] = []
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mace-memory-samples", daemon=True)

    def mark(self, text: str) -> None:
        """From now on this is done; a sample is taken."""
        self.marks.append((time.perf_counter_ns(), text))
        self._take()

    def __enter__(self) -> MemorySamples:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._take()

    def _take(self) -> None:
        self.samples.append((time.perf_counter_ns(), int(self._process.memory_info().rss)))

    def _watch(self) -> None:
        while not self._done.wait(PERIOD_SECONDS):
            self._take()
