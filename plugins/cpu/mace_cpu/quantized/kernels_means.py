"""Means of quantized numbers over windows, pixels or rows, and softmax of quantized numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, f32, helper, i32
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "mean_rows": "source target numbers length",
    "mean_columns": "source target sums numbers length columns part parts",
    "window_means": (
        "source target numbers inputs[3] outputs[3] taps[3] strides[3] begins[3] dilations[3] ends[3] counts_padding"
    ),
    "softmax": "source target exponentials numbers length inner",
}

ROUNDER = np.float32(12582912.0)
"""1.5 * 2**23: adding and subtracting it rounds a float32 below 2**22 to nearest even."""

PARTS = {"uint8": 1 << 20, "int8": 1 << 20, "uint16": 1 << 15, "int16": 1 << 15}
"""So many numbers have a sum that an int32 holds."""


@helper(inline="always")  # type: ignore[untyped-decorator]
def _stored(value: Any, numbers: Any) -> Any:
    """A float in steps of the result, rounded, with the zero point added and bounded; ``numbers``: zero, low, high."""
    whole = (value + ROUNDER) - ROUNDER + numbers[2]
    return np.int32(min(max(whole, numbers[3]), numbers[4]))


def mean_rows(source: str, target: str) -> Kernel:
    """One unit is one row of ``length`` numbers.

    ``numbers``, float32: input scale over result scale, the input's zero point, the result's, its bounds.
    """
    from_pointer, to_pointer, scalar = POINTERS[source], POINTERS[target], SCALARS[target]
    most = PARTS[source]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, numbers, length = from_pointer(args[0]), to_pointer(args[1]), f32(args[2]), args[3]
        factor, offset = numbers[0] / np.float32(length), np.int64(numbers[1]) * length
        for row in range(begin, end):
            total = np.int64(0)
            first = row * length
            for start in range(0, length, most):
                part = np.int32(0)
                for i in range(start, min(start + most, length)):
                    part += np.int32(source[first + i])
                total += part
            target[row] = scalar(_stored(np.float32(total - offset) * factor, numbers))

    return kernel


def mean_columns(source: str, target: str) -> Kernel:
    """Matrices of ``length`` rows; one unit is ``part`` columns of one of them, or what is left of them.

    ``sums`` is room for an int32 per column of all matrices; ``numbers`` as for `mean_rows`.
    """
    from_pointer, to_pointer, scalar = POINTERS[source], POINTERS[target], SCALARS[target]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, numbers = from_pointer(args[0]), to_pointer(args[1]), f32(args[3])
        length, columns, part, parts = args[4], args[5], args[6], args[7]
        factor, offset = numbers[0] / np.float32(length), np.int64(numbers[1]) * length
        for unit in range(begin, end):
            matrix = quotient(unit, parts)
            first = (unit - matrix * parts) * part
            count = min(part, columns - first)
            result = matrix * columns + first
            sums = i32(args[2] + 4 * result)
            for i in range(count):
                sums[i] = 0
            for row in range(length):
                line = (matrix * length + row) * columns + first
                for i in range(count):
                    sums[i] += np.int32(source[line + i])
            for i in range(count):
                value = np.float32(np.int64(sums[i]) - offset) * factor
                target[result + i] = scalar(_stored(value, numbers))

    return kernel


def window_means(source: str, target: str) -> Kernel:
    """One unit is one row of results of one channel.

    ``numbers``, float32: input scale over result scale, the input's zero point, the result's, its bounds.  Sums are
    divided by how many numbers they have, or by all places of the window inside of the padding.
    """
    from_pointer, to_pointer, scalar = POINTERS[source], POINTERS[target], SCALARS[target]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, numbers = from_pointer(args[0]), to_pointer(args[1]), f32(args[2])
        d_in, h_in, w_in = args[3], args[4], args[5]
        d_out, h_out, w_out = args[6], args[7], args[8]
        kd, kh, kw = args[9], args[10], args[11]
        sd, sh, sw = args[12], args[13], args[14]
        pd, ph, pw = args[15], args[16], args[17]
        dd, dh, dw = args[18], args[19], args[20]
        ed, eh, ew = args[21], args[22], args[23]
        counts_padding = args[24] != 0
        zero = np.int64(numbers[1])
        for unit in range(begin, end):
            rest = quotient(unit, h_out)
            oh = unit - rest * h_out
            plane = quotient(rest, d_out)
            od = rest - plane * d_out
            for ow in range(w_out):
                total = np.int64(0)
                places = np.int64(0)
                inside = np.int64(0)
                for a in range(kd):
                    z = od * sd + a * dd - pd
                    if z >= d_in + ed:
                        continue
                    for b in range(kh):
                        y = oh * sh + b * dh - ph
                        if y >= h_in + eh:
                            continue
                        for c in range(kw):
                            x = ow * sw + c * dw - pw
                            if x >= w_in + ew:
                                continue
                            places += 1
                            if z < 0 or z >= d_in or y < 0 or y >= h_in or x < 0 or x >= w_in:
                                continue
                            inside += 1
                            total += np.int64(source[((plane * d_in + z) * h_in + y) * w_in + x])
                count = places if counts_padding else inside
                mean = np.float32(0)
                if count > 0:
                    mean = np.float32(total - zero * inside) * (numbers[0] / np.float32(count))
                target[unit * w_out + ow] = scalar(_stored(mean, numbers))

    return kernel


def softmax(source: str, target: str) -> Kernel:
    """One unit is one row of ``length`` numbers of 8 bits, ``inner`` apart.

    ``exponentials``: of 0 to 255 steps below the largest number.  ``numbers``: one over the result's scale, nothing,
    the result's zero point, its bounds.
    """
    from_pointer, to_pointer, scalar = POINTERS[source], POINTERS[target], SCALARS[target]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, table, numbers = from_pointer(args[0]), to_pointer(args[1]), f32(args[2]), f32(args[3])
        length, inner = args[4], args[5]
        for unit in range(begin, end):
            outer = quotient(unit, inner)
            first = outer * length * inner + (unit - outer * inner)
            largest = np.int32(-128)  # a row may have nothing to begin with
            for i in range(length):
                largest = max(largest, np.int32(source[first + i * inner]))
            total = np.float32(0)
            for i in range(length):
                total += table[largest - np.int32(source[first + i * inner])]
            factor = numbers[0] / total
            for i in range(length):
                value = table[largest - np.int32(source[first + i * inner])] * factor
                target[first + i * inner] = scalar(_stored(value, numbers))

    return kernel
