"""Where elements lie: positions counted over several axes, and indices that inputs hold."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import helper, i64
from mace_cpu.shared.kernels.primitives import quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)


@helper(inline="always")  # type: ignore[untyped-decorator]
def offset_of(position: Any, words: Any, sizes: Any, strides: Any, rank: Any) -> Any:
    """The sum of index times stride of the ``position``-th element over ``rank`` axes, the last of them the fastest.

    ``words`` holds the size of each axis from ``sizes`` on, and its stride from ``strides`` on.
    """
    offset = 0
    rest = position
    for axis in range(rank - 1, -1, -1):
        outer = quotient(rest, words[sizes + axis])
        offset += (rest - outer * words[sizes + axis]) * words[strides + axis]
        rest = outer
    return offset


@helper(inline="always")  # type: ignore[untyped-decorator]
def entry_of(index: Any, size: Any, status: Any) -> Any:
    """Which of ``size`` entries ``index`` names, counted from the end where it is negative.

    -1 where it names none: then the words at the address ``status`` say so (`Steps.report`).
    """
    entry = index + size if index < 0 else index
    if entry < 0 or entry >= size:
        words = i64(status)
        words[0] = 1
        words[1] = index
        entry = -1
    return entry
