"""Pad: rows assembled through index tables, so that one kernel serves every mode."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, i32
from mace_cpu.shared.kernels.primitives import WORD_POINTERS, copy_bytes, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "pad": "source target fill tables inner mask low high rank sizes[rank] strides[rank] starts[rank]",
    "pad_tables": "tables rank firsts[rank] lefts[rank] befores[rank] lengths[rank]",
}


def pad(width: str) -> Kernel:
    """One unit is one row along the last padded axis.

    ``sizes`` are the target's, ``strides`` the source's; the int32 table of each axis begins at its entry of
    ``starts``.  A table gives for each target index along its axis the source index, or -1 for the fill value.  Each
    index of the last axis stands for ``inner`` contiguous words; target indices [low, high) of it are consecutive in
    the source.  Word i of a filled stretch is ``fill[i & mask]``.
    """
    pointer = WORD_POINTERS[width]
    nbytes = int(width)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        fill = pointer(args[2])
        tables = i32(args[3])
        inner = args[4]
        mask = args[5]
        low = args[6]
        high = args[7]
        rank = args[8]
        sizes = 9
        strides = sizes + rank
        starts = strides + rank
        length = args[sizes + rank - 1]
        last_stride = args[strides + rank - 1]
        last_table = args[starts + rank - 1]
        for unit in range(begin, end):
            rest = unit
            word = 0
            inside = True
            for axis in range(rank - 2, -1, -1):
                outer = quotient(rest, args[sizes + axis])
                index = tables[args[starts + axis] + rest - outer * args[sizes + axis]]
                rest = outer
                inside = inside and index >= 0
                word += index * args[strides + axis]
            to_address = args[1] + unit * length * inner * nbytes
            target = pointer(to_address)
            if not inside:
                for i in range(length * inner):
                    target[i] = fill[i & mask]
                continue
            from_address = args[0] + word * nbytes
            source = pointer(from_address)
            if high > low:
                first = from_address + tables[last_table + low] * last_stride * nbytes
                copy_bytes(to_address + low * inner * nbytes, first, (high - low) * inner * nbytes)
            for side in range(2):
                for j in range(high if side else 0, length if side else low):
                    index = tables[last_table + j]
                    for i in range(inner):
                        target[j * inner + i] = fill[i & mask] if index < 0 else source[index * last_stride + i]

    return kernel


def pad_tables(mode: str) -> Kernel:
    """The tables of `pad`, axis after axis, for sizes that are decided at each run; one unit writes them all.

    Of the source, ``lefts`` elements from ``firsts`` on are kept; before them come ``befores`` that are padded, and
    ``lengths`` are the target's.
    """
    fills, repeats_edge, wraps = (mode == name for name in ("constant", "edge", "wrap"))

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tables = i32(args[0])
        rank = args[1]
        at = 0
        for axis in range(rank):
            first = args[2 + axis]
            left = args[2 + rank + axis]
            before = args[2 + 2 * rank + axis]
            length = args[2 + 3 * rank + axis]
            period = max(2 * (left - 1), 1)
            for i in range(length):
                index = i - before
                if fills or left == 0:
                    index = index + first if index >= 0 and index < left else -1
                elif repeats_edge:
                    index = min(max(index, 0), left - 1) + first
                elif wraps:
                    index = index % left + first
                else:
                    index = index % period
                    index = (index if index < left else period - index) + first
                tables[at + i] = index
            at += length

    return kernel
