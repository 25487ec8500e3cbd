"""Fills in what of a plan depends on the sizes of a run."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import numpy as np

from mace_core.native.kernel import load_kernels
from mace_core.native.numba_kernel import numba_source
from mace_core.native.sizes import Words
from mace_core.symbolic import SizeProgram


class SizeWriter:
    """Computes the sizes of one plan instance and writes them into a block of words."""

    def __init__(self, program: SizeProgram, targets: Words, block: Words) -> None:
        """``targets``: (n, 2): word of ``block``, register; ``block`` stays where it is."""
        self._registers = np.zeros(program.registers, np.int64)
        self._symbols = program.symbols
        self._kept = (np.ascontiguousarray(program.rows), np.ascontiguousarray(targets), block)
        rows, pairs, _ = self._kept
        self._words = np.array(
            [
                rows.ctypes.data,
                len(rows),
                program.symbols,
                self._registers.ctypes.data,
                pairs.ctypes.data,
                len(pairs),
                block.ctypes.data,
            ],
            np.int64,
        )
        self._address = int(self._words.ctypes.data)
        self._call = _write_sizes()

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """For native code that does what `write` does: the address of the kernel and of its arguments, and where it
        reads how many sizes."""
        return _kernel_address(), self._address, int(self._registers.ctypes.data), self._symbols

    def write(self, sizes: Sequence[int]) -> None:
        """Fill in what follows from ``sizes``, the values of the program's symbols."""
        self._registers[: self._symbols] = sizes
        self._call(self._address, 0, 1, 0)


@functools.cache
def _kernel_address() -> int:
    source = numba_source("mace_core.native.size_kernels", "write_sizes")
    return load_kernels([source])[source.symbol]


@functools.cache
def _write_sizes() -> Callable[[int, int, int, int], None]:
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    return kernel(_kernel_address())
