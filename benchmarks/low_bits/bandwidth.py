"""How fast memory is read: a sum over far more numbers than caches hold, by a kernel generated for it."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
from mace_cpu.shared.codegen.rows import RowBody, plus
from mace_cpu.shared.codegen.version import generator_version

from mace_core.native.kernel import load_kernels
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, host_target

NUMBERS = 50_000_000
"""200 MB of float32."""

PIECE = 1 << 16
ROUNDS = 12


def _build(target: Target) -> str:
    body = RowBody("sum_of_floats", target, "float32")
    source, result, size = body.pointer(0), body.pointer(1), body.word(2)
    with body.loop(body.begin, body.end, size) as first:
        here = body.at(source, first)

        def step(index: object, rest: object) -> list[object]:
            return [body.read(here, index, rest)]

        (total,) = body.fold(size, [0.0], [plus], step)
        body.b.store(body.first_lane(total), result, align=4)
    return body.text()


def read_bandwidth(threads: int) -> float:
    """Bytes per second that so many threads read together: the fastest of some rounds."""
    numbers = np.ones(NUMBERS, np.float32)
    source = KernelSource("sum_of_floats", generator_version("mace_cpu.shared.codegen.rows"), _build)
    address = load_kernels([source], host_target())[source.symbol]
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)
    results = np.zeros((threads, 16), np.float32)
    words = [np.array([numbers.ctypes.data, results[i].ctypes.data, PIECE], np.int64) for i in range(threads)]
    share = NUMBERS // PIECE // threads * PIECE
    best = 0.0
    for _ in range(ROUNDS):
        barrier = threading.Barrier(threads + 1)

        def work(i: int, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            kernel(words[i].ctypes.data, i * share, (i + 1) * share, i)
            barrier.wait()

        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        barrier.wait()
        start = time.perf_counter()
        barrier.wait()
        best = max(best, 4 * share * threads / (time.perf_counter() - start))
        for worker in workers:
            worker.join()
    return best
