"""The generated kernels that pool over channel blocks."""

from __future__ import annotations

import functools

from mace_core.native.kernel import KernelSource
from mace_core.native.kernel_words import WordLayout
from mace_core.native.target import Target
from mace_cpu.pooling.arguments import GLOBAL_WORDS, Arg
from mace_cpu.shared.codegen.version import generator_version


@functools.cache
def window_pool_kernel(block: int, kind: str) -> KernelSource:
    """The kernel that pools windows; kinds "max" and "average"."""
    symbol = f"pool_b{block}_{kind}"
    build = functools.partial(_windows, symbol, block, kind)
    return KernelSource(symbol, generator_version(), build, words=WordLayout.of(Arg))


@functools.cache
def global_pool_kernel(block: int, kind: str) -> KernelSource:
    """The kernel that pools all pixels; kinds "max" and "sum"."""
    symbol = f"pool_all_b{block}_{kind}"
    build = functools.partial(_global, symbol, block, kind)
    return KernelSource(symbol, generator_version(), build, words=WordLayout.parse(GLOBAL_WORDS))


def _windows(symbol: str, block: int, kind: str, target: Target) -> str:
    from mace_cpu.pooling import generate as pooling

    return pooling.build_windows(symbol, block, kind)


def _global(symbol: str, block: int, kind: str, target: Target) -> str:
    from mace_cpu.pooling import generate as pooling

    return pooling.build_global(symbol, block, kind)
