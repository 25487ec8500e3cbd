"""Times of steps that another step calls for each of its units, in profiled runs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from mace_core.native.plan import PlanInstance
from mace_cpu.plan.assembly import InnerSteps, Words

RECORD_WORDS = 3
"""A thread, when the step began, when it ended; see `mace_core.native.chunk_times`."""

Record = Callable[[str, "tuple[str, ...]", int, int], None]
RecordPart = Callable[[str, str, "tuple[str, ...]", int, int], None]


class InnerTimes:
    """What the steps that call others noted in one run.

    Attributes:
        steps: by the number of the step that calls them.
    """

    def __init__(self, instance: PlanInstance, inner: Sequence[InnerSteps]) -> None:
        self._instance = instance
        self.steps = {each.step: each for each in inner}
        self._records: dict[int, Words] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """A run inside notes the times."""
        for number, each in self.steps.items():
            shape = self._instance.extent(number), len(each.names), RECORD_WORDS
            self._records[number] = np.zeros(shape, np.int64)
            self._set(each, int(self._records[number].ctypes.data))
        try:
            yield
        finally:
            for each in self.steps.values():
                self._set(each, 0)

    def report(self, number: int, start_ns: int, end_ns: int, record: Record) -> None:
        """The time from ``start_ns`` to ``end_ns``, which the step numbered so took on all threads together, parted
        among what it called as the time that all threads worked is: the rows of one step lie between those of others.
        """
        each, (_, starts, ends) = self.steps[number], np.moveaxis(self._records[number], -1, 0)
        worked = np.cumsum([0, *(ends - starts).sum(axis=0)])
        bounds = start_ns + (end_ns - start_ns) * (worked / max(int(worked[-1]), 1))
        for name, source, (begin, end) in zip(each.names, each.sources, pairwise(bounds.astype(int)), strict=True):
            record(name, source, int(begin), int(end))

    def report_parts(self, number: int, worker: Callable[[int], str], record: RecordPart) -> None:
        """What each thread did of each step for each unit."""
        each = self.steps[number]
        for unit in self._records[number]:
            for name, source, (thread, start, end) in zip(each.names, each.sources, unit.tolist(), strict=True):
                if end:
                    record(worker(thread), name, source, start, end)

    def _set(self, each: InnerSteps, address: int) -> None:
        ctypes.c_int64.from_address(self._instance.address_of_word(each.times_word)).value = address
