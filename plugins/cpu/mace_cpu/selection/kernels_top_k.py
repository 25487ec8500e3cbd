"""TopK: a heap of the best so far, the worst of them at its root."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, helper, i64, stop_requested
from mace_cpu.shared.kernels.primitives import POINTERS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "top_k": "source values indices scratch length inner k",
}


def _better(largest: bool) -> Any:
    """``(values, step, a, b)``: whether element a comes before element b; of equals the first does, NaN is largest."""

    @helper
    def better(values: Any, step: Any, a: Any, b: Any) -> Any:
        x, y = values[a * step], values[b * step]
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

    @helper
    def sink(heap: Any, size: Any, values: Any, step: Any) -> None:
        at = 0
        while 2 * at + 1 < size:
            child = 2 * at + 1
            if child + 1 < size and better(values, step, heap[child], heap[child + 1]):
                child += 1
            if better(values, step, heap[child], heap[at]):
                break
            heap[at], heap[child] = heap[child], heap[at]
            at = child

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        length, inner, k = args[4], args[5], args[6]
        heap = i64(args[3] + chunk * k * 8)
        for unit in range(begin, end):
            outer = quotient(unit, inner)
            lane = unit - outer * inner
            line = pointer(args[0] + (outer * length * inner + lane) * nbytes)
            best = pointer(args[1])
            where = i64(args[2])
            size = 0
            work = 0
            for i in range(length):
                work += 1
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                if size < k:
                    at = size
                    heap[at] = i
                    size += 1
                    while at > 0 and better(line, inner, heap[(at - 1) // 2], heap[at]):
                        above = (at - 1) // 2
                        heap[at], heap[above] = heap[above], heap[at]
                        at = above
                elif better(line, inner, i, heap[0]):
                    heap[0] = i
                    sink(heap, k, line, inner)
            for rank in range(k - 1, -1, -1):
                work += 32
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                result = (outer * k + rank) * inner + lane
                if args[1] != 0:
                    best[result] = line[heap[0] * inner]
                if args[2] != 0:
                    where[result] = heap[0]
                heap[0] = heap[rank]
                sink(heap, rank, line, inner)

    return kernel
