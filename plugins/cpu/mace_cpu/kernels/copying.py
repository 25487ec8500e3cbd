"""Moving elements without looking at them: strided copies, tiled transposes, block copies.

Elements are words of 1, 2, 4 or 8 bytes.  Strides and offsets are in words.
"""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel
from mace_cpu.kernels.lanes import COPY_LANES
from mace_cpu.kernels.primitives import WORD_POINTERS, copy_bytes, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.kernels.primitives", "mace_cpu.kernels.lanes")

TILE = 16


def block_copy() -> Kernel:
    """(source, target, bytes, block bytes): one unit copies one block."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        nbytes = args[2]
        block = args[3]
        first = begin * block
        last = min(end * block, nbytes)
        copy_bytes(args[1] + first, args[0] + first, last - first)

    return kernel


def strided_rows(width: str, inner: str) -> Kernel:
    """(source, target, rank, sizes[rank], source strides[rank], target strides[rank]): one unit is one innermost row.

    ``inner`` says how a row lies: "memory" (contiguous on both sides, long enough for memcpy), "dense" (contiguous on
    both sides), "gather" (only in the target) or "strided".  Rank is at least 2.
    """
    pointer = WORD_POINTERS[width]
    nbytes = int(width)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        rank = args[2]
        sizes = 3
        from_strides = sizes + rank
        to_strides = from_strides + rank
        length = args[sizes + rank - 1]
        rows = args[sizes + rank - 2]
        row_from = args[from_strides + rank - 2]
        row_to = args[to_strides + rank - 2]
        step_from = args[from_strides + rank - 1]
        step_to = args[to_strides + rank - 1]
        unit = begin
        while unit < end:
            plane = quotient(unit, rows)
            row = unit - plane * rows
            stop = min(rows, row + end - unit)
            unit += stop - row
            from_word = row * row_from
            to_word = row * row_to
            for axis in range(rank - 3, -1, -1):
                outer = quotient(plane, args[sizes + axis])
                index = plane - outer * args[sizes + axis]
                from_word += index * args[from_strides + axis]
                to_word += index * args[to_strides + axis]
                plane = outer
            from_address = args[0] + from_word * nbytes
            to_address = args[1] + to_word * nbytes
            while row < stop:
                if inner == "memory":
                    copy_bytes(to_address, from_address, length * nbytes)
                else:
                    source = pointer(from_address)
                    target = pointer(to_address)
                    if inner == "dense":
                        for i in range(length):
                            target[i] = source[i]
                    elif inner == "gather":
                        for i in range(length):
                            target[i] = source[i * step_from]
                    else:
                        for i in range(length):
                            target[i * step_to] = source[i * step_from]
                from_address += row_from * nbytes
                to_address += row_to * nbytes
                row += 1

    return kernel


def tiled_transpose(width: str) -> Kernel:
    """(source, target, columns, rows, source step, target step, rank, sizes, source strides, target strides).

    Swaps two axes under ``rank`` outer ones: ``target[r * target step + c] = source[c * source step + r]`` for
    c < columns, r < rows.  One unit is a band of `TILE` rows of the target in one outer plane.
    """
    pointer = WORD_POINTERS[width]
    nbytes = int(width)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        columns = args[2]
        rows = args[3]
        source_step = args[4]
        target_step = args[5]
        rank = args[6]
        sizes = 7
        from_strides = sizes + rank
        to_strides = from_strides + rank
        bands = quotient(rows + TILE - 1, TILE)
        for unit in range(begin, end):
            plane = quotient(unit, bands)
            first_row = (unit - plane * bands) * TILE
            last_row = min(first_row + TILE, rows)
            from_word = 0
            to_word = 0
            for axis in range(rank - 1, -1, -1):
                outer = quotient(plane, args[sizes + axis])
                index = plane - outer * args[sizes + axis]
                from_word += index * args[from_strides + axis]
                to_word += index * args[to_strides + axis]
                plane = outer
            source = pointer(args[0] + from_word * nbytes)
            target = pointer(args[1] + to_word * nbytes)
            for first_column in range(0, columns, TILE):
                last_column = min(first_column + TILE, columns)
                for r in range(first_row, last_row):
                    for c in range(first_column, last_column):
                        target[r * target_step + c] = source[c * source_step + r]

    return kernel


def lane_groups(group: str) -> Kernel:
    """Moves groups of channels between BLOCKED values whose blocks they fill only in part.

    Words: source, target, groups, pixels, block, source blocks, target blocks, first group in the source, first group
    in the target.  One unit is one group of ``group`` channels of one image.
    """
    copy = COPY_LANES[group]
    lanes = int(group)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        groups = args[2]
        pixels = args[3]
        block = args[4]
        per_block = quotient(block, lanes)
        step = block * 4
        for unit in range(begin, end):
            image = quotient(unit, groups)
            here = unit - image * groups + args[7]
            there = unit - image * groups + args[8]
            from_block = quotient(here, per_block)
            to_block = quotient(there, per_block)
            source = (
                args[0] + (image * args[5] + from_block) * pixels * step + (here - from_block * per_block) * lanes * 4
            )
            target = args[1] + (image * args[6] + to_block) * pixels * step + (there - to_block * per_block) * lanes * 4
            for pixel in range(pixels):
                copy(source + pixel * step, target + pixel * step)

    return kernel
