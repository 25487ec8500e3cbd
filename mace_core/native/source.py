"""What a kernel is before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mace_core.native.kernel_words import WordLayout
from mace_core.native.target import Target


@dataclass(frozen=True, slots=True)
class KernelSource:
    """How to make one kernel.

    A kernel is ``void symbol(int64_t *args, int64_t begin, int64_t end, int64_t chunk)``: it processes work units
    [begin, end) of its step; ``args`` are words (addresses, integers, bits of a float64), ``chunk`` is the index of the
    chunk.  A chunk may come in several calls, one after the other, so that the run can be stopped in between; a kernel
    whose single unit may take long polls itself (`mace_core.native.poll_ir`).  It neither allocates nor raises, and
    calls nothing but the C library's mathematics and memory functions.

    Attributes:
        symbol: the exported name; letters, digits and underscores.
        version: changes whenever what ``build`` returns may change.
        build: gives LLVM IR text that defines ``symbol``; called only when there is no cached object.
        imports: C library functions it calls besides mathematics and memory ("syscall").
        words: names of its argument words; None for what is called with a block of memory of its own (runner, pool).
    """

    symbol: str
    version: str
    build: Callable[[Target], str] = field(compare=False)
    imports: frozenset[str] = frozenset()
    words: WordLayout | None = field(default=None, compare=False)
