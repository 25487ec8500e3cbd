"""Convolution of any shape, plainly: what the generated kernels do not cover (three spatial axes, odd groups, weights
that are computed, float64).
"""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import POLL_WORK, Kernel, f32, helper, stop_requested
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "conv": (
        "x w bias y in_channels out_channels group_in group_out "
        "d_in d_taps d_out d_stride d_dilation d_pad "
        "h_in h_taps h_out h_stride h_dilation h_pad "
        "w_in w_taps w_out w_stride w_dilation w_pad"
    ),
    "conv_transpose": (
        "x w bias y in_channels out_channels group_in group_out "
        "d_in d_taps d_out d_stride d_dilation d_pad "
        "h_in h_taps h_out h_stride h_dilation h_pad "
        "w_in w_taps w_out w_stride w_dilation w_pad"
    ),
    "repeat_channels": "source target channels times pixels block",
    "spread_phases": "source target channels blocks rows columns high wide block",
}


@helper(inline="always")  # type: ignore[untyped-decorator]
def _first_tap(lowest: Any, step: Any) -> Any:
    """The smallest k >= 0 with k * step >= lowest."""
    if lowest <= 0:
        return 0
    return quotient(lowest + step - 1, step)


def conv(dtype: str) -> Kernel:
    """Everything PLAIN; three spatial axes.  Unit: (n * out channels + o) * output depth + z.

    Bias: address 0 for none.  ``group_in`` and ``group_out`` are the channels of one group.  Each axis has its image
    size, kernel size, output size, stride, dilation and pad.
    """
    pointer, number = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, w, y = pointer(args[0]), pointer(args[1]), pointer(args[3])
        in_channels, out_channels, group_in, group_out = args[4], args[5], args[6], args[7]
        d_in, d_taps, d_out, d_stride, d_dilation, d_pad = args[8], args[9], args[10], args[11], args[12], args[13]
        h_in, h_taps, h_out, h_stride, h_dilation, h_pad = args[14], args[15], args[16], args[17], args[18], args[19]
        w_in, w_taps, w_out, w_stride, w_dilation, w_pad = args[20], args[21], args[22], args[23], args[24], args[25]
        taps = d_taps * h_taps * w_taps
        work = 0
        for unit in range(begin, end):
            plane = quotient(unit, d_out)
            z = unit - plane * d_out
            n = quotient(plane, out_channels)
            o = plane - n * out_channels
            first_channel = quotient(o, group_out) * group_in
            start = number(0)
            if args[2] != 0:
                start = pointer(args[2])[o]
            for row in range(h_out):
                target = (unit * h_out + row) * w_out
                for i in range(w_out):
                    y[target + i] = start
                for c in range(group_in):
                    for kd in range(d_taps):
                        work += h_taps * w_taps * w_out
                        if work > POLL_WORK:
                            work = 0
                            if stop_requested(args):
                                return
                        depth = z * d_stride - d_pad + kd * d_dilation
                        if depth < 0 or depth >= d_in:
                            continue
                        for kh in range(h_taps):
                            line = row * h_stride - h_pad + kh * h_dilation
                            if line < 0 or line >= h_in:
                                continue
                            source = (((n * in_channels + first_channel + c) * d_in + depth) * h_in + line) * w_in
                            weights = (o * group_in + c) * taps + (kd * h_taps + kh) * w_taps
                            for kw in range(w_taps):
                                factor = w[weights + kw]
                                shift = kw * w_dilation - w_pad
                                low = _first_tap(-shift, w_stride)
                                high = min(w_out, _first_tap(w_in - shift, w_stride))
                                if w_stride == 1:
                                    for i in range(low, high):
                                        y[target + i] += factor * x[source + shift + i]
                                else:
                                    for i in range(low, high):
                                        y[target + i] += factor * x[source + shift + i * w_stride]

    kernel.__fastmath__ = {"contract"}  # type: ignore[attr-defined]
    return kernel


def conv_transpose(dtype: str) -> Kernel:
    """As `conv`, with weights (in channels, channels out of one group, ...).  Unit: n * out channels + o."""
    pointer, number = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, w, y = pointer(args[0]), pointer(args[1]), pointer(args[3])
        in_channels, out_channels, group_in, group_out = args[4], args[5], args[6], args[7]
        d_in, d_taps, d_out, d_stride, d_dilation, d_pad = args[8], args[9], args[10], args[11], args[12], args[13]
        h_in, h_taps, h_out, h_stride, h_dilation, h_pad = args[14], args[15], args[16], args[17], args[18], args[19]
        w_in, w_taps, w_out, w_stride, w_dilation, w_pad = args[20], args[21], args[22], args[23], args[24], args[25]
        taps = d_taps * h_taps * w_taps
        size = d_out * h_out * w_out
        work = 0
        for unit in range(begin, end):
            n = quotient(unit, out_channels)
            o = unit - n * out_channels
            group = quotient(o, group_out)
            start = number(0)
            if args[2] != 0:
                start = pointer(args[2])[o]
            for i in range(size):
                y[unit * size + i] = start
            for c in range(group * group_in, (group + 1) * group_in):
                for kd in range(d_taps):
                    for kh in range(h_taps):
                        weights = (c * group_out + o - group * group_out) * taps + (kd * h_taps + kh) * w_taps
                        for depth in range(d_in):
                            work += h_in * w_taps * w_in
                            if work > POLL_WORK:
                                work = 0
                                if stop_requested(args):
                                    return
                            z = depth * d_stride - d_pad + kd * d_dilation
                            if z < 0 or z >= d_out:
                                continue
                            for line in range(h_in):
                                row = line * h_stride - h_pad + kh * h_dilation
                                if row < 0 or row >= h_out:
                                    continue
                                source = (((n * in_channels + c) * d_in + depth) * h_in + line) * w_in
                                target = ((unit * d_out + z) * h_out + row) * w_out
                                for kw in range(w_taps):
                                    factor = w[weights + kw]
                                    shift = kw * w_dilation - w_pad
                                    low = _first_tap(-shift, w_stride)
                                    high = min(w_in, _first_tap(w_out - shift, w_stride))
                                    for i in range(low, high):
                                        y[target + shift + i * w_stride] += factor * x[source + i]

    kernel.__fastmath__ = {"contract"}  # type: ignore[attr-defined]
    return kernel


def repeat_channels() -> Kernel:
    """Each channel ``times`` times over, in the BLOCKED layout of ``block`` channels.

    Unit: n * target blocks + target block.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        channels, times, pixels, block = args[2], args[3], args[4], args[5]
        blocks = quotient(channels * times + block - 1, block)
        source_blocks = quotient(channels + block - 1, block)
        for unit in range(begin, end):
            n = quotient(unit, blocks)
            first = (unit - n * blocks) * block
            for lane in range(min(block, channels * times - first)):
                channel = quotient(first + lane, times)
                source_block = quotient(channel, block)
                start = (n * source_blocks + source_block) * pixels * block + channel - source_block * block
                for pixel in range(pixels):
                    target[(unit * pixels + pixel) * block + lane] = source[start + pixel * block]

    return kernel


def spread_phases() -> Kernel:
    """Channels (o, i, j) of a pixel, in the BLOCKED layout, to pixels (i, j) of channel o of a larger PLAIN image.

    ``channels`` are the target's; ``blocks``, ``rows`` and ``columns`` are the source's, ``high`` and ``wide`` the rows
    and columns of the target per pixel.  Unit: (n * channels + o) * rows + row.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        channels, blocks, rows, columns, high, wide, block = (
            args[2], args[3], args[4], args[5], args[6], args[7], args[8],
        )  # fmt: skip
        for unit in range(begin, end):
            plane = quotient(unit, rows)
            row = unit - plane * rows
            n = quotient(plane, channels)
            o = plane - n * channels
            for i in range(high):
                to = (unit * high + i) * columns * wide
                for j in range(wide):
                    lane = (o * high + i) * wide + j
                    source_block = quotient(lane, block)
                    start = ((n * blocks + source_block) * rows + row) * columns * block + lane - source_block * block
                    for column in range(columns):
                        target[to + column * wide + j] = source[start + column * block]

    return kernel
