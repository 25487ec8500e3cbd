"""Rows made longer, and rows of packed tables turned into floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, f32, helper, i8, i32, u8
from mace_cpu.shared.kernels.elements import LOADS, STORES
from mace_cpu.shared.kernels.indices import entry_of
from mace_cpu.shared.kernels.primitives import POINTERS, maximum, quotient

KERNEL_DEPENDENCIES = (
    "mace_cpu.shared.kernels.primitives",
    "mace_cpu.shared.kernels.indices",
    "mace_cpu.shared.kernels.elements",
    "mace_cpu.shared.codegen.element_types",
    "mace_cpu.shared.codegen.narrow_floats",
    "mace_cpu.shared.codegen.vector_basic",
)

WORDS = {
    "rounded_rows": "source target scales sums width padded block blocks",
    "rounded_floats": "source target width padded block blocks",
    "padded_rows": "source target width padded",
    "ordered_rows": "source target order factors width places",
    "gather_blocks": ("source indices scales zeros target status size count inner length rest block blocks zero_row"),
}

ROUNDER = np.float32(12582912.0)
"""1.5 * 2**23: adding and subtracting it rounds a float32 below 2**22 to nearest even."""


def padded_rows() -> Kernel:
    """Rows of ``width`` floats as rows of ``padded``, with zeros behind; one unit is one row."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        width, padded = args[2], args[3]
        for row in range(begin, end):
            for i in range(width):
                target[row * padded + i] = source[row * width + i]
            for i in range(width, padded):
                target[row * padded + i] = np.float32(0)

    return kernel


def ordered_rows() -> Kernel:
    """Rows of ``width`` floats in another order, 0 where it is below 0, each times its factor (address 0: none).

    One unit is one row.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, order, factors = f32(args[0]), f32(args[1]), i32(args[2]), f32(args[3])
        width, places = args[4], args[5]
        for row in range(begin, end):
            for i in range(places):
                at = order[i]
                value = np.float32(0)
                if at >= 0:
                    value = source[row * width + at]
                    if args[3] != 0:
                        value *= factors[at]
                target[row * places + i] = value

    return kernel


@helper(inline="always")  # type: ignore[untyped-decorator]
def _scale_of(source: Any, first: Any, last: Any) -> Any:
    """The scale of a block: its largest magnitude is 127 steps."""
    largest = np.float32(0)
    for i in range(first, last):
        largest = maximum(largest, np.float32(abs(source[i])))
    return largest / np.float32(127)


@helper(inline="always")  # type: ignore[untyped-decorator]
def _inverse(scale: Any) -> Any:
    return np.float32(1) / scale if scale > np.float32(0) else np.float32(0)


def rounded_rows() -> Kernel:
    """Rows as signed bytes in blocks, each with a scale.  Unit: row * blocks + block.

    Also the float32 sum of the bytes of each block; behind ``width`` elements there are zeros up to ``padded``.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, scales, sums = f32(args[0]), f32(args[2]), f32(args[3])
        target = i8(args[1])
        width, padded, block, blocks = args[4], args[5], args[6], args[7]
        for unit in range(begin, end):
            row = quotient(unit, blocks)
            first = (unit - row * blocks) * block
            last = min(first + block, width)
            at, to = row * width, row * padded
            scale = _scale_of(source, at + first, at + last)
            factor = _inverse(scale)
            total = np.int32(0)
            for i in range(first, last):
                whole = np.int32((source[at + i] * factor + ROUNDER) - ROUNDER)
                target[to + i] = np.int8(whole)
                total += whole
            for i in range(max(first, last), min(first + block, padded)):
                target[to + i] = np.int8(0)
            scales[unit] = scale
            sums[unit] = np.float32(total)

    return kernel


def rounded_floats() -> Kernel:
    """As `rounded_rows`, the floats that the bytes stand for."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        width, padded, block, blocks = args[2], args[3], args[4], args[5]
        for unit in range(begin, end):
            row = quotient(unit, blocks)
            first = (unit - row * blocks) * block
            last = min(first + block, width)
            at, to = row * width, row * padded
            scale = _scale_of(source, at + first, at + last)
            factor = _inverse(scale)
            for i in range(first, last):
                target[to + i] = ((source[at + i] * factor + ROUNDER) - ROUNDER) * scale
            for i in range(max(first, last), min(first + block, padded)):
                target[to + i] = np.float32(0)

    return kernel


def gather_blocks(bits: str, table: str, index: str, scale: str) -> Kernel:
    """Entries of a table of ``bits`` bits, each minus its zero point and times its scale.

    One unit is one of ``count`` indices of one outer position; the axis has ``size`` entries and ``inner`` elements
    follow each.  The quantized axis has ``length`` elements in ``blocks`` blocks of ``block``, and ``rest`` elements
    behind each.  Zero points (address 0: none) are packed as the table is; each row of them along the last axis takes
    ``zero_row`` numbers.  Without them, zero is the middle of the range where ``table``, the type of the elements, is
    uint8, else 0.
    """
    pointer_to_index = POINTERS[index]
    load_scale, store = LOADS[scale], STORES[scale]
    width = int(bits)
    per_byte = 8 // width
    mask = (1 << width) - 1
    middle = 1 << (width - 1)
    flip = middle if table.startswith("int") else 0
    default = 0 if table == "uint4" else middle

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def code_at(data: Any, at: Any) -> Any:
        """The number plus half of the range, where it is signed."""
        byte = np.int32(data[at // per_byte])
        return ((byte >> np.int32(width * (at % per_byte))) & np.int32(mask)) ^ np.int32(flip)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, indices = u8(args[0]), pointer_to_index(args[1])
        scales, zeros, target = args[2], u8(args[3]), args[4]
        size, count, inner = args[6], args[7], args[8]
        length, rest, block, blocks, zero_row = args[9], args[10], args[11], args[12], args[13]
        for unit in range(begin, end):
            outer = quotient(unit, count)
            at = entry_of(int(indices[unit - outer * count]), size, args[5])
            if at < 0:
                continue
            first, to = (outer * size + at) * inner, unit * inner
            done = 0
            while done < inner:
                # elements that share a scale: of one block where the quantized axis is the last, else a single one
                position = first + done
                row = quotient(position, length * rest)
                inside = position - row * length * rest
                along = quotient(inside, rest)
                behind = inside - along * rest
                number = quotient(along, block)
                run = 1
                if rest == 1:
                    run = min(min((number + 1) * block, length) - along, inner - done)
                scale_at = (row * blocks + number) * rest + behind
                scale = load_scale(scales, scale_at)
                zero = np.int32(default)
                if args[3] != 0:
                    last = number if rest == 1 else scale_at
                    zero = code_at(zeros, row * zero_row + last if rest == 1 else last)
                for i in range(run):
                    value = np.float32(code_at(source, position + i) - zero) * scale
                    store(target, to + done + i, value)
                done += run

    return kernel
