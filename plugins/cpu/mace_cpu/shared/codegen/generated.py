"""Kernels whose code is generated: described without importing the generator, which needs LLVM."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_cpu.shared.codegen.version import generator_version

_kernels: dict[Generator, KernelSource] = {}


@dataclass(frozen=True, slots=True)
class Generator:
    """What makes the code of a kernel, in this process or another: a function of a module, and what it is called with.

    The function takes the symbol, the arguments and the target, and returns LLVM IR.
    """

    module: str
    function: str
    symbol: str
    arguments: tuple[object, ...]

    def __call__(self, target: Target) -> str:
        build: Callable[..., str] = getattr(importlib.import_module(self.module), self.function)
        return build(self.symbol, *self.arguments, target)


def generated(
    module: str, symbol: str, *arguments: object, words: Callable[[], WordLayout], function: str = "build"
) -> KernelSource:
    """The kernel that ``function(symbol, *arguments, target)`` of ``module`` generates.

    Args:
        module: imported when the kernel must be built, so that planning does without LLVM.
        symbol: a name that is different for different ``arguments``.
        arguments: hashable; all that the code depends on besides the target.
        words: gives the argument words.
    """
    generator = Generator(module, function, symbol, arguments)
    found = _kernels.get(generator)
    if found is None:
        found = KernelSource(symbol, generator_version(module), generator, words=words())
        _kernels[generator] = found
    return found
