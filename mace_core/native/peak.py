"""The most multiply-adds a second that this machine's vector units can do: a generated loop of nothing else."""

from __future__ import annotations

import hashlib
import inspect
import sys
import time

import numpy as np

from mace_core.native.kernel import load_kernels
from mace_core.native.plan import NativePlan, PlanStep
from mace_core.native.pool import ThreadPool
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, host_target

_CHAINS = 12
"""Independent sums: more than latency times units of x86 processors, and with the two factors they fit 16 registers."""

_ARM_CHAINS = 24
"""The same where there are 32 registers, and processors with four units and a latency of four cycles."""

_REPEATS = 4
"""Times each chain is extended in one turn of the loop."""

_SLICE_SECONDS = 0.002
_SYMBOL = "mace_fma_peak"


def measure_peak(
    threads: int, seconds: float, *, target: Target | None = None, pool: ThreadPool | None = None
) -> float:
    """Multiply-adds a second of float32 that ``threads`` threads reach together: the best of many short slices.

    Args:
        seconds: how long to look.
        target: the instruction set to use; by default the machine's.
        pool: whose workers take part; by default one of its own.
    """
    target = target or host_target()
    if pool is None:
        with ThreadPool(threads) as own:
            return measure_peak(threads, seconds, target=target, pool=own)
    kernel = load_kernels([_source()], target)[_SYMBOL]
    macs_per_turn = _chains(target) * _REPEATS * (target.vector_bits // 32)
    sums = np.zeros((threads, target.vector_bits // 32), np.float32)
    best = 0.0
    turns = 10_000
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        plan = NativePlan([PlanStep(kernel, 0, threads, threads)], [0, turns], [(0, 0, 0)])
        instance = plan.new_instance()
        start = time.perf_counter()
        instance.run([sums.ctypes.data], pool=pool, threads=threads)
        spent = time.perf_counter() - start
        best = max(best, threads * turns * macs_per_turn / spent)
        if spent < _SLICE_SECONDS / 2:
            turns = int(turns * min(10.0, _SLICE_SECONDS / max(spent, 1e-6)))
    if not np.isfinite(sums).all() or not sums.any():
        raise RuntimeError(f"the peak loop computed {sums}, so it did not do the work that was timed")
    return best


def _source() -> KernelSource:
    version = hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode()).hexdigest()[:16]
    return KernelSource(_SYMBOL, version, peak_loop)


def _chains(target: Target) -> int:
    return _ARM_CHAINS if target.architecture == "aarch64" else _CHAINS


def peak_loop(target: Target) -> str:
    """LLVM IR: unit i of the kernel extends its chains ``args[1]`` times ``_REPEATS`` and stores their sum in row i of
    the array at ``args[0]``.

    Where multiplying and adding is one operation, the chain is what is added to: the operation then overwrites it on
    every processor, and nothing has to be copied.  Elsewhere it is multiplied, or the product would be the same each
    time and computed once.
    """
    lanes, chains = target.vector_bits // 32, _chains(target)
    vector = f"<{lanes} x float>"

    def splat(value: float) -> str:
        # LLVM wants the exact double, in hexadecimal
        digits = np.array(np.float32(value), np.float64).view(np.uint64)
        return "<" + ", ".join([f"float 0x{int(digits):016X}"] * lanes) + ">"

    fused = target.architecture != "x86_64" or target.has("fma")
    # with s * 0.75 + 0.5 all tend to 2, and one that began there would be seen through
    starts = [1 / (chain + 3) for chain in range(chains)]
    phis, body = [], []
    for chain in range(chains):
        phis.append(f"  %s{chain} = phi {vector} [ {splat(starts[chain])}, %entry ], [ %s{chain}.{_REPEATS}, %loop ]")
    for repeat in range(1, _REPEATS + 1):
        for chain in range(chains):
            old = f"%s{chain}" if repeat == 1 else f"%s{chain}.{repeat - 1}"
            new = f"%s{chain}.{repeat}"
            if fused:
                body.append(
                    f"  {new} = call {vector} @llvm.fma.v{lanes}f32({vector} %step, {vector} {splat(0.75)}, "
                    f"{vector} {old})"
                )
            else:
                body.append(f"  {new}.m = fmul {vector} {old}, {splat(0.75)}")
                body.append(f"  {new} = fadd {vector} {new}.m, {splat(0.5)}")
    total, sums = f"%s0.{_REPEATS}", []
    for chain in range(1, chains):
        sums.append(f"  %t{chain} = fadd {vector} {total}, %s{chain}.{_REPEATS}")
        total = f"%t{chain}"
    lines = [
        f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
        f"define void @{_SYMBOL}(ptr %args, i64 %begin, i64 %end, i64 %chunk) {{",
        "entry:",
        "  %address = load i64, ptr %args",
        "  %out = inttoptr i64 %address to ptr",
        "  %second = getelementptr i64, ptr %args, i64 1",
        "  %turns = load i64, ptr %second",
        # a step of 1 / turns, which LLVM cannot know: however many turns there are, a chain grows by 3
        "  %count = sitofp i64 %turns to float",
        "  %part = fdiv float 1.0, %count",
        f"  %first = insertelement {vector} poison, float %part, i32 0",
        f"  %step = shufflevector {vector} %first, {vector} poison, <{lanes} x i32> zeroinitializer",
        "  br label %loop",
        "loop:",
        "  %turn = phi i64 [ 0, %entry ], [ %next, %loop ]",
        *phis,
        *body,
        "  %next = add i64 %turn, 1",
        "  %again = icmp slt i64 %next, %turns",
        "  br i1 %again, label %loop, label %done",
        "done:",
        *sums,
        f"  %row = getelementptr {vector}, ptr %out, i64 %begin",
        f"  store {vector} {total}, ptr %row, align 4",
        "  ret void",
        "}",
    ]
    return "\n".join(lines)
