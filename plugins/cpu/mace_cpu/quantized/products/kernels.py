"""What goes before products of bytes: operands brought into order, sums of rows and columns, zero points."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, f32, i32, i64, u8, u32
from mace_cpu.shared.kernels.primitives import POINTERS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "pack_right": "source target sums starts steps columns panels width quads step_stride column_stride shift",
    "row_sums": "source target starts rows row_stride steps shift",
    "terms": "sums bias left_zero right_zeros starts zeros count columns padded steps left_shift right_shift",
    "factors": "left right target count columns padded",
    "opened_starts": "fixed each zero starts count",
    "opened_padding": "zero target count",
    "padded_bytes": "source target width padded",
}

SIGNS = np.uint32(0x80808080)


def pack_right(dtype: str) -> Kernel:
    """Matrices as [matrix][panel][quad][column][4] signed bytes, and the sums of their columns.  Unit: panel.

    Strides are in bytes, ``starts`` are those of the matrices.  ``shift`` is what unsigned numbers are made less by,
    128, else 0.  What fills up the ``quads`` of a panel, and panels, is zero.
    """
    numbers = POINTERS[dtype]
    flip = SIGNS if dtype == "uint8" else np.uint32(0)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, values, sums, starts = u8(args[0]), numbers(args[0]), i32(args[2]), i64(args[3])
        steps, columns, panels, width = args[4], args[5], args[6], args[7]
        quads, down, across, shift = args[8], args[9], args[10], args[11]
        whole = quotient(steps, 4)
        for unit in range(begin, end):
            matrix = quotient(unit, panels)
            first = (unit - matrix * panels) * width
            count = min(columns - first, width)
            at = starts[matrix] + first * across
            target = u32(args[1] + 4 * unit * quads * width)
            for c in range(width):
                sums[unit * width + c] = np.int32(0)
            if across == 1:
                for q in range(whole):
                    line = at + 4 * q * down
                    for c in range(count):
                        word = np.uint32(source[line + c])
                        word |= np.uint32(source[line + down + c]) << np.uint32(8)
                        word |= np.uint32(source[line + 2 * down + c]) << np.uint32(16)
                        word |= np.uint32(source[line + 3 * down + c]) << np.uint32(24)
                        target[q * width + c] = word ^ flip
                for k in range(steps):
                    for c in range(count):
                        sums[unit * width + c] += np.int32(values[at + k * down + c])
            else:
                for c in range(count):
                    line = at + c * across
                    if down == 1:
                        words = u32(args[0] + line)
                        for q in range(whole):
                            target[q * width + c] = words[q] ^ flip
                    else:
                        for q in range(whole):
                            word = np.uint32(0)
                            for i in range(4):
                                word |= np.uint32(source[line + (4 * q + i) * down]) << np.uint32(8 * i)
                            target[q * width + c] = word ^ flip
                    total = np.int32(0)
                    for k in range(steps):
                        total += np.int32(values[line + k * down])
                    sums[unit * width + c] = total
            if steps > 4 * whole:
                for c in range(count):
                    word = np.uint32(0)
                    for i in range(steps - 4 * whole):
                        byte = np.uint32(source[at + c * across + (4 * whole + i) * down]) ^ (flip & np.uint32(255))
                        word |= byte << np.uint32(8 * i)
                    target[whole * width + c] = word
            for c in range(count):
                sums[unit * width + c] -= np.int32(shift * steps)
            for q in range(quads):
                for c in range(count, width):
                    target[q * width + c] = np.uint32(0)
            for i in range(quotient(steps + 3, 4) * width, quads * width):
                target[i] = np.uint32(0)

    return kernel


def row_sums(dtype: str) -> Kernel:
    """int32 sums of rows of ``steps`` bytes, each raised by ``shift``.  Unit: matrix * rows + row."""
    numbers = POINTERS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, starts = numbers(args[0]), i32(args[1]), i64(args[2])
        rows, stride, steps, shift = args[3], args[4], args[5], args[6]
        for unit in range(begin, end):
            matrix = quotient(unit, rows)
            first = starts[matrix] + (unit - matrix * rows) * stride
            total = np.int32(0)
            for k in range(steps):
                total += np.int32(source[first + k])
            target[unit] = np.int32(total + shift * steps)

    return kernel


def terms(left: str, right: str) -> Kernel:
    """What sums start from: bias - za * sum of the column + steps * za * zb; and zb for each column.  Unit: matrix.

    za and zb are the zero points as the operands are multiplied: raised by ``left_shift``, made less by
    ``right_shift``.  Addresses are 0 where there is no bias, no zero point, nobody who reads ``zeros``; ``count`` is of
    the right zero points.
    """
    left_pointer, right_pointer = POINTERS[left], POINTERS[right]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        sums, bias, starts = i32(args[0]), i32(args[1]), i32(args[4])
        count, columns, padded, steps = args[6], args[7], args[8], args[9]
        left_zero = np.int32(args[10])
        if args[2] != 0:
            left_zero += np.int32(left_pointer(args[2])[0])
        zeros = right_pointer(args[3])
        for matrix in range(begin, end):
            for c in range(padded):
                zero = np.int32(0)
                if args[3] != 0:
                    zero = np.int32(zeros[c if count > 1 and c < columns else 0])
                zero -= np.int32(args[11])
                start = np.int32(bias[c]) if args[1] != 0 and c < columns else np.int32(0)
                start -= left_zero * sums[matrix * padded + c]
                start += np.int32(steps) * left_zero * zero
                starts[matrix * padded + c] = start
                if args[5] != 0 and matrix == 0:
                    i32(args[5])[c] = zero

    return kernel


def factors() -> Kernel:
    """Products of two scales, of which the right one has ``count`` elements; 1 behind the last column.  Unit: all."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        left, right, target = f32(args[0]), f32(args[1]), f32(args[2])
        count, columns, padded = args[3], args[4], args[5]
        for c in range(padded):
            factor = np.float32(1)
            if args[0] != 0:
                factor = left[0]
            if args[1] != 0 and c < columns:
                factor = factor * right[c if count > 1 else 0]
            target[c] = factor

    return kernel


def opened_starts(dtype: str) -> Kernel:
    """What sums start from: ``fixed`` plus ``each`` times a zero point, for ``count`` columns.  Unit: all."""
    pointer = POINTERS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        fixed, each, starts = i32(args[0]), i32(args[1]), i32(args[3])
        zero = np.int32(pointer(args[2])[0])
        for c in range(args[4]):
            starts[c] = fixed[c] + zero * each[c]

    return kernel


def opened_padding() -> Kernel:
    """A zero point ``count`` times.  Unit: all."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target, zero = u8(args[1]), u8(args[0])[0]
        for c in range(args[2]):
            target[c] = zero

    return kernel


def padded_bytes() -> Kernel:
    """Rows of ``width`` bytes as rows of ``padded``, with zeros behind.  Unit: row."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = u8(args[0]), u8(args[1])
        width, padded = args[2], args[3]
        for row in range(begin, end):
            for i in range(width):
                target[row * padded + i] = source[row * width + i]
            for i in range(width, padded):
                target[row * padded + i] = np.uint8(0)

    return kernel
