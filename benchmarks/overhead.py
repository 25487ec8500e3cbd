"""What the core adds to the native calls of a run: for one partition, and for each border between partitions.

    python benchmarks/overhead.py

A border: the CPU provider twice, as two devices on the host's memory that take turns, so that nothing is copied and the
calls are known.  Beside it a loop in C makes the same native calls on the same control blocks.  Needs a C compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mace_cpu.provider import CpuProvider
from rich.console import Console

from mace_core import Session
from mace_core.graph import Graph, Node, Value
from mace_core.native.kernel import load_kernels
from mace_core.native.plan import RUNNER
from mace_core.provider.registry import default_registry
from mace_core.tensor import DType, TensorType

CONSOLE = Console(highlight=False, markup=False, soft_wrap=True)

_LOOP = """
#include <stdint.h>
#include <time.h>
typedef int64_t (*run_plan)(void *, int64_t);
double loop(run_plan run, void **controls, int64_t count, int64_t rounds) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int64_t round = 0; round < rounds; round++)
        for (int64_t i = 0; i < count; i++) run(controls[i], 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / rounds;
}
"""


class SecondCpu(CpuProvider):
    """The CPU once more, as another device."""

    name: ClassVar[str] = "second"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--borders", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=40)
    given = parser.parse_args()
    default_registry().register(SecondCpu)
    loop = compiled_loop()
    rows = []
    for partitions in (1, 2, 1 + given.borders):
        ours, calls = measured(partitions, given.repetitions, loop)
        rows.append((partitions, ours, calls))
        CONSOLE.print(f"{partitions:3} partitions: {ours:7.2f} us a run, {calls:6.2f} us in a C loop of the same calls")
    (_, one, one_calls), *_, (many, all_ours, all_calls) = rows
    border = (all_ours - all_calls - one + one_calls) / (many - 1)
    CONSOLE.print(f"one partition: {one - one_calls:.2f} us over the C loop; each border: {border:.2f} us more")


def compiled_loop() -> Any:
    """The loop in C."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "loop.c"), Path(folder, "loop.so")
        source.write_text(_LOOP)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        loop = ctypes.CDLL(str(library)).loop
    loop.restype = ctypes.c_double
    loop.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return loop


def chain(count: int) -> Graph:
    """As many negations, one after the other."""
    graph = Graph("chain")
    graph.opset_imports[""] = 17
    values = [Value(f"v{i}", TensorType(DType.FLOAT32, (1, 16))) for i in range(count + 1)]
    graph.inputs, graph.outputs = [values[0]], [values[-1]]
    graph.nodes = [Node("Neg", [values[i]], [values[i + 1]], name=f"n{i}") for i in range(count)]
    return graph


def measured(partitions: int, repetitions: int, loop: Any) -> tuple[float, float]:
    """Microseconds of a run and of its native calls alone, each the least of many."""
    pins = {f"n{i}": ("cpu", "second")[i % 2] for i in range(partitions)}
    options = {"cpu": {"threads": 1}, "second": {"threads": 1}} if partitions > 1 else {"cpu": {"threads": 1}}
    devices = list(options)
    with Session(chain(partitions), devices=devices, options=options, pins=pins, optimize=False) as session:
        feeds = {"v0": np.ones((1, 16), np.float32)}
        session.run(feeds)
        instance = session._runner.last_plan.shared._idle[0]
        plans = [execution._instance for _, execution in instance._executions]
        assert len(plans) == partitions, "the model was not cut as expected"
        controls = (ctypes.c_void_p * partitions)(*(plan._address for plan in plans))
        address = load_kernels([RUNNER])[RUNNER.symbol]
        ours = calls = float("inf")
        kept = [session.run(feeds)]  # the arrays that the control blocks refer to
        result = kept[0][f"v{partitions}"]
        result[:] = 0
        loop(address, controls, partitions, 1)
        assert (result == (-1) ** partitions).all(), "the loop in C computes something else"
        for _ in range(repetitions):
            calls = min(calls, loop(address, controls, partitions, 2000) / 1e3)
            start = time.perf_counter()
            for _ in range(1000):
                kept[0] = session.run(feeds)
            ours = min(ours, (time.perf_counter() - start) * 1e3)
        return ours, calls


if __name__ == "__main__":
    main()
