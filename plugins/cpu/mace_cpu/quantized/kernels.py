"""Quantized numbers: to and from floats, products and convolutions of integers, and their requantization."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, f32, helper, i32, stop_requested
from mace_cpu.shared.kernels.elements import LOADS, ROUNDINGS, STORES, UNSATURATED_STORES
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = (
    "mace_cpu.shared.kernels.primitives",
    "mace_cpu.shared.kernels.elements",
    "mace_cpu.shared.codegen.element_types",
    "mace_cpu.shared.codegen.narrow_floats",
    "mace_cpu.shared.codegen.vector_basic",
)

WORDS = {
    "quantize": "source scale zero target size inner block",
    "quantize_float": "source scale zero target size inner block",
    "dequantize": "source scale zero target size inner block",
    "integer_matmul": (
        "a b a_zeros b_zeros target rows columns depth a_zeros_count b_zeros_count "
        "rank sizes[rank] a_strides[rank] b_strides[rank]"
    ),
    "integer_conv": (
        "x w x_zero w_zeros target w_zeros_count out_channels in_channels groups "
        "sizes[3] results[3] kernel[3] strides[3] dilations[3] pads[3]"
    ),
    "requantize": (
        "sums bias row_scales row_scales_count channel_scales channel_scales_count "
        "target_scale zero target channels inner float_bias low high"
    ),
    "columns": "source target width first count",
    "whole_sums": "parts target count radix size piece",
}

ROUNDER = np.float32(12582912.0)
"""1.5 * 2**23: adding and subtracting it rounds a float32 below 2**22 to nearest even."""

LIMITS = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
    "uint2": (0, 3),
}
FAR = np.float32(200000.0)
"""Beyond every limit of 16 bits with every zero point of 16 bits."""


@helper(inline="always")  # type: ignore[untyped-decorator]
def _rounded(x: Any) -> Any:
    """Nearest even, saturated far outside of 16 bits; NaN becomes the lowest."""
    x = x if x > -FAR else -FAR
    x = x if x < FAR else FAR
    return (x + ROUNDER) - ROUNDER


def quantize(source: str, target: str, scale: str, precision: str) -> Kernel:
    """One unit is one row of ``inner``; the address of the zero point is 0 where there is none.

    The scale has one element (``size`` 0), one per entry of an axis of that size (``block`` 0), or one per block along
    the axis.
    ``precision`` is the type that is divided in: dividend, divisor and quotient are rounded to it.
    """
    load, load_scale, store = LOADS[source], LOADS[scale], STORES[target]
    round_to = ROUNDINGS[precision]
    low, high = LIMITS[target]

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def scale_at(scales: Any, index: Any) -> Any:
        return round_to(load_scale(scales, index))

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def convert(data: Any, results: Any, index: Any, scale: Any, zero: Any) -> None:
        ratio = round_to(round_to(np.float32(load(data, index))) / scale)
        whole = np.int32(_rounded(ratio)) + zero
        store(results, index, np.int32(min(max(whole, low), high)))

    return _by_blocks(scale_at, LOADS[target], np.int32, convert)


def quantize_float(source: str, target: str, scale: str, precision: str, saturate: str) -> Kernel:
    """As `quantize` for narrow floats; a zero point, which is hardly ever there, is added before they are rounded."""
    load, load_scale = LOADS[source], LOADS[scale]
    store = STORES[target] if saturate == "1" else UNSATURATED_STORES[target]
    round_to = ROUNDINGS[precision]

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def scale_at(scales: Any, index: Any) -> Any:
        return round_to(load_scale(scales, index))

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def convert(data: Any, results: Any, index: Any, scale: Any, zero: Any) -> None:
        ratio = round_to(round_to(np.float32(load(data, index))) / scale)
        store(results, index, ratio + zero)

    return _by_blocks(scale_at, LOADS[target], np.float32, convert)


def dequantize(source: str, scale: str, target: str) -> Kernel:
    """As `quantize`, the other way."""
    load, store = LOADS[source], STORES[target]

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def convert(data: Any, results: Any, index: Any, scale: Any, zero: Any) -> None:
        store(results, index, np.float32(load(data, index) - zero) * scale)

    return _by_blocks(LOADS[scale], load, np.float32 if "float" in source else np.int32, convert)


def _by_blocks(scale_at: Any, zero_at: Any, no_zero: Any, convert: Any) -> Kernel:
    """The kernel that converts each element with the scale and the zero point that belong to it.

    Args:
        scale_at: ``(scales, index)``: a scale.
        zero_at: ``(zeros, index)``: a zero point.
        no_zero: the type of zero points.
        convert: ``(data, results, index, scale, zero)``: converts one element.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        data, scales, zeros, results = args[0], args[1], args[2], args[3]
        size, inner, block = args[4], args[5], args[6]
        has_zero = zeros != 0
        for unit in range(begin, end):
            first = unit * inner
            if block != 0:
                outer = quotient(unit, size)
                at = unit - outer * size
                row = (outer * quotient(size + block - 1, block) + quotient(at, block)) * inner
                for i in range(inner):
                    zero = zero_at(zeros, row + i) if has_zero else no_zero(0)
                    convert(data, results, first + i, scale_at(scales, row + i), zero)
            else:
                at = unit - quotient(unit, size) * size if size != 0 else 0
                scale = scale_at(scales, at)
                zero = zero_at(zeros, at) if has_zero else no_zero(0)
                for i in range(inner):
                    convert(data, results, first + i, scale, zero)

    return kernel


def integer_matmul(left: str, right: str) -> Kernel:
    """int32 products; one unit is one row of one batch.

    Rank, sizes and strides (in elements) are of the batch axes.  Zero points (address 0: none) are one for all,
    or one per row of ``a`` and column of ``b``.
    """
    left_pointer, right_pointer = POINTERS[left], POINTERS[right]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        a, b = left_pointer(args[0]), right_pointer(args[1])
        a_zeros, b_zeros = left_pointer(args[2]), right_pointer(args[3])
        rows, columns, depth = args[5], args[6], args[7]
        rank = args[10]
        for unit in range(begin, end):
            target = i32(args[4] + 4 * unit * columns)
            batch = quotient(unit, rows)
            row = unit - batch * rows
            a_first, b_first = row * depth, 0
            rest = batch
            for axis in range(rank - 1, -1, -1):
                outer = quotient(rest, args[11 + axis])
                at = rest - outer * args[11 + axis]
                a_first += at * args[11 + rank + axis]
                b_first += at * args[11 + 2 * rank + axis]
                rest = outer
            a_zero = np.int32(0)
            if args[2] != 0:
                a_zero = np.int32(a_zeros[row if args[8] > 1 else 0])
            for j in range(columns):
                target[j] = 0
            total = np.int32(0)
            for k in range(depth):
                x = np.int32(a[a_first + k]) - a_zero
                total += x
                line = b_first + k * columns
                for j in range(columns):
                    target[j] += x * np.int32(b[line + j])
            if args[3] != 0:
                for j in range(columns):
                    target[j] -= total * np.int32(b_zeros[j if args[9] > 1 else 0])

    return kernel


def integer_conv(data: str, weight: str) -> Kernel:
    """int32; one unit is one output plane.

    Zero points: address 0 for none.  ``sizes`` are the image's, ``results`` the target's, ``pads`` those in front of
    each axis.
    """
    x_pointer, w_pointer = POINTERS[data], POINTERS[weight]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, w = x_pointer(args[0]), w_pointer(args[1])
        outputs, inputs, groups = args[6], args[7], args[8]
        d_in, h_in, w_in = args[9], args[10], args[11]
        d_out, h_out, w_out = args[12], args[13], args[14]
        kd, kh, kw = args[15], args[16], args[17]
        sd, sh, sw = args[18], args[19], args[20]
        dd, dh, dw = args[21], args[22], args[23]
        pd, ph, pw = args[24], args[25], args[26]
        per_group = quotient(inputs, groups)
        x_zero = np.int32(x_pointer(args[2])[0]) if args[2] != 0 else np.int32(0)
        plane = d_out * h_out * w_out
        work = 0
        for unit in range(begin, end):
            image = quotient(unit, outputs)
            out = unit - image * outputs
            target = i32(args[4] + 4 * unit * plane)
            for i in range(plane):
                target[i] = 0
            w_zero = np.int32(0)
            if args[3] != 0:
                w_zero = np.int32(w_pointer(args[3])[out if args[5] > 1 else 0])
            first = quotient(out, quotient(outputs, groups)) * per_group
            for channel in range(per_group):
                source = (image * inputs + first + channel) * d_in * h_in * w_in
                for a in range(kd):
                    for b in range(kh):
                        for c in range(kw):
                            at = (((out * per_group + channel) * kd + a) * kh + b) * kw + c
                            factor = np.int32(w[at]) - w_zero
                            shift = c * dw - pw
                            # columns whose window lies inside
                            low = 0 if shift >= 0 else quotient(-shift + sw - 1, sw)
                            high = 0 if shift >= w_in else min(w_out, quotient(w_in - 1 - shift, sw) + 1)
                            for od in range(d_out):
                                work += h_out * w_out
                                if work > POLL_WORK:
                                    work = 0
                                    if stop_requested(args):
                                        return
                                z = od * sd + a * dd - pd
                                if z < 0 or z >= d_in:
                                    continue
                                for oh in range(h_out):
                                    y = oh * sh + b * dh - ph
                                    if y < 0 or y >= h_in:
                                        continue
                                    line = source + (z * h_in + y) * w_in + shift
                                    row = (od * h_out + oh) * w_out
                                    for ow in range(low, high):
                                        target[row + ow] += factor * (np.int32(x[line + ow * sw]) - x_zero)

    return kernel


def requantize(target: str) -> Kernel:
    """int32 sums to quantized numbers; one unit is one channel of one row.

    Biases, of int32 or in steps of 1, and zero point: address 0 for none.
    """
    to_pointer, scalar = POINTERS[target], SCALARS[target]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        sums, bias = i32(args[0]), i32(args[1])
        row_scales, scales = f32(args[2]), f32(args[4])
        out_scale = f32(args[6])[0]
        zero = np.int32(to_pointer(args[7])[0]) if args[7] != 0 else np.int32(0)
        target = to_pointer(args[8])
        channels, inner = args[9], args[10]
        float_bias = f32(args[11])
        low, high = args[12], args[13]
        for unit in range(begin, end):
            row = quotient(unit, channels)
            channel = unit - row * channels
            row_scale = row_scales[row - quotient(row, args[3]) * args[3]]
            factor = row_scale * scales[channel if args[5] > 1 else 0] / out_scale
            offset = bias[channel] if args[1] != 0 else np.int32(0)
            shift = float_bias[channel] / out_scale if args[11] != 0 else np.float32(0)
            for i in range(inner):
                value = np.float32(sums[unit * inner + i] + offset) * factor + shift
                whole = np.int32(_rounded(value)) + zero
                target[unit * inner + i] = scalar(min(max(whole, low), high))

    return kernel


def columns() -> Kernel:
    """``count`` columns, from ``first`` on, of a float32 matrix that has ``width``; one unit is one row."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        width, first, count = args[2], args[3], args[4]
        for row in range(begin, end):
            for i in range(count):
                target[row * count + i] = source[row * width + first + i]

    return kernel


def whole_sums(target: str) -> Kernel:
    """Whole numbers given as ``count`` float32 parts, the high digits first, each of ``size`` elements, put together
    as int32; one unit is ``piece`` elements, or what is left of them."""
    to_pointer, scalar = POINTERS[target], SCALARS[target]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        parts, target = f32(args[0]), to_pointer(args[1])
        count, radix, size, piece = args[2], np.int32(args[3]), args[4], args[5]
        for unit in range(begin, end):
            for i in range(unit * piece, min((unit + 1) * piece, size)):
                total = np.int32(parts[i])
                for part in range(1, count):
                    total = np.int32(total * radix + np.int32(parts[part * size + i]))
                target[i] = scalar(total)

    return kernel
