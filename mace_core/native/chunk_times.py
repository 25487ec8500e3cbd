"""Which thread computed which chunk of a plan, and when.

A profiled run executes another table of steps than the plan's own: every kernel in it is `mace_timed_chunk`, whose
arguments name the real kernel.  So neither the runner nor the pool knows of the times, and other runs do not pay for
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.native.kernel import load_kernels
from mace_core.native.runner_ir import GATE
from mace_core.native.source import KernelSource
from mace_core.native.system_ir import source_version, system_imports, system_ir, thread_imports, thread_ir
from mace_core.native.target import Target, host_target

Words = npt.NDArray[np.int64]

_RECORD_WORDS = 3
"""A record is three int64: the thread, when the chunk began, when it ended."""

_ARGUMENT_WORDS = 3
"""The arguments of a timed step: the real kernel, its arguments, the records of the step's chunks."""


@dataclass(frozen=True, slots=True)
class ChunkTime:
    """One chunk of one step.

    Attributes:
        thread: as ``threading.get_ident`` names it.
        start_ns, end_ns: of a monotonic clock.
    """

    step: int
    chunk: int
    thread: int
    start_ns: int
    end_ns: int


class ChunkTimes:
    """A table of steps that compute what another table does and note times.

    Args:
        table: (steps, columns) int64 as the runner reads it; the first two columns are a kernel's address and the
            index of its first argument among ``words``.  Gates stay as they are.
        words: the words that arguments are counted in; they stay where they are.
        chunks: of each step.
    """

    def __init__(self, table: Words, words: Words, chunks: Sequence[int]) -> None:
        first = np.cumsum([0, *chunks])
        self._owner = np.repeat(np.arange(len(chunks)), chunks)
        self._first = first[:-1]
        self._records: Words = np.zeros((int(first[-1]), _RECORD_WORDS), np.int64)
        self._arguments: Words = np.empty((len(table), _ARGUMENT_WORDS), np.int64)
        self._arguments[:, 0] = table[:, 0]
        self._arguments[:, 1] = words.ctypes.data + 8 * table[:, 1]
        self._arguments[:, 2] = self._records.ctypes.data + 8 * _RECORD_WORDS * self._first
        self.table: Words = table.copy()
        has_kernel = table[:, 0] != GATE
        self.table[has_kernel, 0] = load_kernels([TIMED_CHUNK])[TIMED_CHUNK.symbol]
        # the runner counts arguments from the plan's words, wherever they are
        distance = (self._arguments.ctypes.data - words.ctypes.data) // 8
        self.table[has_kernel, 1] = (distance + _ARGUMENT_WORDS * np.arange(len(table)))[has_kernel]

    def clear(self) -> None:
        """Forget the run before."""
        self._records.fill(0)

    def times(self) -> list[ChunkTime]:
        """Of the chunks that the last run computed, step by step."""
        return [
            ChunkTime(int(step), index - int(self._first[step]), int(thread), int(start), int(end))
            for index, (step, (thread, start, end)) in enumerate(zip(self._owner, self._records, strict=True))
            if end
        ]


_TIMED_CHUNK = """
define void @mace_timed_chunk(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %kernel = load ptr, ptr %args
  %inner.at = getelementptr i64, ptr %args, i64 1
  %inner = load ptr, ptr %inner.at
  %records.at = getelementptr i64, ptr %args, i64 2
  %records = load ptr, ptr %records.at
  %index = mul i64 %chunk, 3
  %thread.at = getelementptr i64, ptr %records, i64 %index
  %start.at = getelementptr i64, ptr %thread.at, i64 1
  %end.at = getelementptr i64, ptr %thread.at, i64 2
  %start.now = call i64 @now()
  %start.before = load i64, ptr %start.at
  %first.piece = icmp eq i64 %start.before, 0
  %start.time = select i1 %first.piece, i64 %start.now, i64 %start.before
  call void %kernel(ptr %inner, i64 %begin, i64 %end, i64 %chunk)
  %end.time = call i64 @now()
  %thread = call i64 @thread()
  store i64 %thread, ptr %thread.at
  store i64 %start.time, ptr %start.at
  store i64 %end.time, ptr %end.at
  ret void
}
"""


def timed_chunk_ir(target: Target) -> str:
    """``@mace_timed_chunk``, a kernel that runs another one and notes thread, start and end."""
    return system_ir(target) + thread_ir(target) + _TIMED_CHUNK


TIMED_CHUNK = KernelSource(
    "mace_timed_chunk",
    source_version(__file__, system_ir.__code__.co_filename),
    timed_chunk_ir,
    system_imports(host_target()) | thread_imports(host_target()),
)
