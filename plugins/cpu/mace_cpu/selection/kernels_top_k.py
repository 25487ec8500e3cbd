"""TopK: a heap of the best so far, the worst of them at its root."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, helper, i64, stop_requested
from mace_cpu.selection.kernels_heap import heap_of
from mace_cpu.shared.kernels.primitives import POINTERS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.selection.kernels_heap")

WORDS = {
    "top_k": "source values indices scratch length inner k",
}


class Line(NamedTuple):
    """Elements ``step`` apart."""

    elements: Any
    step: Any


def _better(largest: bool) -> Any:
    """``(line, a, b)``: whether element a comes before element b; of equals the first does, NaN is largest."""

    @helper
    def better(line: Any, a: Any, b: Any) -> Any:
        x, y = line.elements[a * line.step], line.elements[b * line.step]
        if x != x or y != y:
            if x == x:
                return not largest
            if y == y:
                return largest
            return a < b
        if x == y:
            return a < b
        return x > y if largest else x < y

    return better


def top_k(dtype: str, order: str) -> Kernel:
    """One unit is one line along the axis; ``values`` or ``indices`` may be 0.

    ``order`` is "largest" or "smallest"; scratch holds k int64 per chunk.
    """
    pointer, nbytes = POINTERS[dtype], np.dtype(dtype).itemsize
    better = _better(order == "largest")

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def worse(line: Any, a: Any, b: Any) -> Any:
        return better(line, b, a)

    rise, sink = heap_of(worse)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        best, where = pointer(args[1]), i64(args[2])
        length, inner, k = args[4], args[5], args[6]
        heap = i64(args[3] + chunk * k * 8)
        for unit in range(begin, end):
            outer = quotient(unit, inner)
            lane = unit - outer * inner
            line = Line(pointer(args[0] + (outer * length * inner + lane) * nbytes), inner)
            size = 0
            work = 0
            for i in range(length):
                work += 1
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                if size < k:
                    heap[size] = i
                    rise(heap, size, line)
                    size += 1
                elif better(line, i, heap[0]):
                    heap[0] = i
                    sink(heap, 0, k, line)
            for rank in range(k - 1, -1, -1):
                work += 32
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                result = (outer * k + rank) * inner + lane
                if args[1] != 0:
                    best[result] = line.elements[heap[0] * inner]
                if args[2] != 0:
                    where[result] = heap[0]
                heap[0] = heap[rank]
                sink(heap, 0, rank, line)

    return kernel
