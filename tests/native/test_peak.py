"""The peak of the machine: measured with the loop of multiply-adds that was asked for."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest

from mace_core.native.compiler import compile_assembly
from mace_core.native.kernel import load_kernels
from mace_core.native.peak import measure_peak, peak_loop
from mace_core.native.pool import ThreadPool
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, foreign_target, host_target


@pytest.mark.parametrize("features", ["baseline", "native"])
def test_every_instruction_set_has_a_peak(features: str) -> None:
    assert measure_peak(1, 0.05, target=host_target(features)) > 1e6


def test_several_threads_are_measured_in_one_region() -> None:
    with ThreadPool(2) as pool:
        assert measure_peak(2, 0.05, pool=pool) > 1e6
        assert pool.started_workers == 1


@pytest.mark.parametrize(
    ("target", "instruction", "least"),
    [
        (foreign_target("x86_64"), "mulps", 48),
        (foreign_target("x86_64", "x86-64-v3", ("avx2", "fma")), "vfmadd", 48),
        (foreign_target("aarch64"), "fmla", 96),
    ],
    ids=["sse2", "avx2", "neon"],
)
def test_the_loop_is_its_multiply_adds_and_nothing_else(target: Target, instruction: str, least: int) -> None:
    lines = compile_assembly(peak_loop(target), "mace_fma_peak", target).splitlines()
    labels = [i for i, line in enumerate(lines) if line.startswith(".L") and ":" in line]
    loops = [lines[first:last] for first, last in itertools.pairwise([*labels, None])]
    words = max(([line.split()[0] for line in loop if line.startswith("\t")] for loop in loops), key=len)
    body = words[: next(i for i, word in enumerate(words) if word in ("jne", "b.ne", "jg", "b.lt", "b.gt")) + 1]
    assert sum(word.startswith(instruction) for word in body) >= least, "none is optimized away"
    if instruction != "mulps":  # which overwrites a chain that has to be kept
        assert len(body) <= least + 4
        assert not {"mov", "movaps", "vmovaps", "vmovups", "ldr", "str"} & set(body)


def test_the_sums_are_those_that_are_meant() -> None:
    """12 chains that begin at 1 / 3, 1 / 4, … and grow by 3, or tend to 2."""
    for mask in ("native", "baseline"):
        target = host_target(mask)
        lanes = target.vector_bits // 32
        kernel = load_kernels([KernelSource("mace_fma_peak", "test", peak_loop)], target)["mace_fma_peak"]
        out = np.zeros(lanes, np.float32)
        words = np.array([out.ctypes.data, 1000], np.int64)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(kernel)(words.ctypes.data, 0, 1, 0)
        is_fused = target.architecture != "x86_64" or target.has("fma")
        chains = 24 if target.architecture == "aarch64" else 12
        expected = sum(1 / (i + 3) + 3 for i in range(chains)) if is_fused else 2 * chains
        np.testing.assert_allclose(out, expected, rtol=1e-4)
