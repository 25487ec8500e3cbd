"""Matrix products, plainly: element types without generated kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, as_float, f32, i64
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "scaled_rows": "source target beta columns row_stride column_stride",
    "product": "left right out addend left_offsets right_offsets rows steps columns "
    "left_row left_step right_step right_column addend_row addend_column alpha beta",
}


def scaled_rows() -> Kernel:
    """beta * C, broadcast to (rows, columns).  The source is C, with its row and column stride.  Unit: row."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        beta = np.float32(as_float(args[2]))
        columns, row_stride, column_stride = args[3], args[4], args[5]
        for row in range(begin, end):
            for column in range(columns):
                target[row * columns + column] = beta * source[row * row_stride + column * column_stride]

    return kernel


def product(dtype: str) -> Kernel:
    """out = alpha * left @ right + beta * addend for any type; alpha and beta are 1 for integers.

    The addend may be 0 for none.  Tables have an offset for each product; strides are named by what they step along.
    Unit: product * rows + row.
    """
    pointer, number = POINTERS[dtype], SCALARS[dtype]
    is_float = dtype.startswith("float")

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        left, right, out = pointer(args[0]), pointer(args[1]), pointer(args[2])
        left_offsets, right_offsets = i64(args[4]), i64(args[5])
        rows, steps, columns = args[6], args[7], args[8]
        left_row, left_step, right_step, right_column = args[9], args[10], args[11], args[12]
        addend_row, addend_column = args[13], args[14]
        for unit in range(begin, end):
            matrix = quotient(unit, rows)
            row = unit - matrix * rows
            to = unit * columns
            for j in range(columns):
                out[to + j] = number(0)
            from_left = left_offsets[matrix] + row * left_row
            from_right = right_offsets[matrix]
            for k in range(steps):
                factor = left[from_left + k * left_step]
                line = from_right + k * right_step
                if right_column == 1:
                    for j in range(columns):
                        out[to + j] += number(factor * right[line + j])
                else:
                    for j in range(columns):
                        out[to + j] += number(factor * right[line + j * right_column])
            if is_float:
                alpha = number(as_float(args[15]))
                for j in range(columns):
                    out[to + j] *= alpha
            if args[3] != 0:
                addend = pointer(args[3])
                for j in range(columns):
                    term = addend[row * addend_row + j * addend_column]
                    if is_float:
                        term *= number(as_float(args[16]))
                    out[to + j] += term

    kernel.__fastmath__ = {"contract"}  # type: ignore[attr-defined]
    return kernel
