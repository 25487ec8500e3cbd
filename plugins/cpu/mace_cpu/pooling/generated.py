"""The generated kernels that pool over channel blocks."""

from __future__ import annotations

import functools

from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_cpu.pooling.arguments import GLOBAL_WORDS, Arg
from mace_cpu.shared.codegen.generated import generated

GENERATOR = "mace_cpu.pooling.generate"


def window_pool_kernel(block: int, kind: str) -> KernelSource:
    """The kernel that pools windows; kinds "max" and "average"."""
    symbol = f"pool_b{block}_{kind}"
    return generated(GENERATOR, symbol, block, kind, words=lambda: WordLayout.of(Arg), function="build_windows")


def global_pool_kernel(block: int, kind: str) -> KernelSource:
    """The kernel that pools all pixels; kinds "max" and "sum"."""
    symbol = f"pool_all_b{block}_{kind}"
    words = functools.partial(WordLayout.parse, GLOBAL_WORDS)
    return generated(GENERATOR, symbol, block, kind, words=words, function="build_global")
