"""Sampling at computed places: GridSample, RoiAlign, DeformConv; and Col2Im and MaxUnpool, which put values back."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, helper, i64, stop_requested
from mace_cpu.shared.kernels.primitives import LOCAL_ARRAYS, LOCAL_SECOND, POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "grid_sample": "x grid y channels places padding align_corners rank sizes[rank]",
    "roi_align": (
        "x regions images y scale status channels height width rows columns sampling_ratio half_pixel image_count"
    ),
    "deform_conv": (
        "x w offsets bias mask y in_channels out_channels groups offset_groups height width rows columns "
        "kernel[2] strides[2] dilations[2] pads[2]"
    ),
    "col2im": (
        "columns image blocks rank sizes[rank] block[rank] counts[rank] strides[rank] dilations[rank] pads[rank]"
    ),
    "max_unpool": "values indices target status count rank pooled[rank] sizes[rank]",
}

ZEROS, BORDER, REFLECTION = 0, 1, 2
CUBIC = -0.75
"""The coefficient of the cubic kernel, as ONNX has it."""

FAR = 1e15
"""Pixels beyond which a place is outside of every image; NaN is taken to be there."""

floor = np.floor


@helper
def _reflected(x: Any, low: Any, high: Any) -> Any:
    """``x`` mirrored into [low, high]."""
    span = high - low
    if span <= 0:
        return low
    if x < low:
        away = low - x
        times = floor(away / span)
        rest = away - times * span
        even = times - 2 * floor(times / 2) == 0
        return low + rest if even else high - rest
    if x > high:
        away = x - high
        times = floor(away / span)
        rest = away - times * span
        even = times - 2 * floor(times / 2) == 0
        return high - rest if even else low + rest
    return x


@helper
def _padded(x: Any, size: Any, padding: Any, align: Any) -> Any:
    """A place moved inside where the padding says so."""
    low = 0.0 if align else -0.5
    high = size - 1.0 if align else size - 0.5
    if padding == BORDER:
        return min(max(x, 0.0), size - 1.0)
    if padding == REFLECTION:
        return _reflected(x, low, high)
    return x


@helper(inline="always")  # type: ignore[untyped-decorator]
def _cubic_weights(weights: Any, first: Any, t: Any) -> None:
    """The weights of four pixels for a place ``t`` behind the second of them."""
    u = t + 1.0
    weights[first] = ((CUBIC * u - 5 * CUBIC) * u + 8 * CUBIC) * u - 4 * CUBIC
    weights[first + 1] = ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1
    u = 1.0 - t
    weights[first + 2] = ((CUBIC + 2) * u - (CUBIC + 3)) * u * u + 1
    u = 2.0 - t
    weights[first + 3] = ((CUBIC * u - 5 * CUBIC) * u + 8 * CUBIC) * u - 4 * CUBIC


@helper(inline="always")  # type: ignore[untyped-decorator]
def _bring_inside(weights: Any, spots: Any, first: Any, taps: Any, size: Any, padding: Any, align: Any) -> None:
    """Move the taps of one axis that lie outside to where the padding says, or let them weigh nothing."""
    for tap in range(taps):
        spot = spots[first + tap]
        if spot < 0 or spot >= size:
            if padding == ZEROS:
                weights[first + tap] = 0.0
                spot = 0
            else:
                spot = int(np.rint(_padded(np.float64(spot), size, padding, align)))
                spot = min(max(spot, 0), size - 1)
        spots[first + tap] = spot


def _place_on_axis(working: Any) -> Any:
    """``(given, size, align)``: where an entry of the grid lies along an axis, in pixels.

    It is computed in the precision ``working``.
    """

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def place_on_axis(given: Any, size: Any, align: Any) -> Any:
        above = working(given) + working(1)
        at = np.float64(
            above / working(2) * working(size - 1) if align else (above * working(size) - working(1)) / working(2)
        )
        if not (at == at and abs(at) < FAR):
            at = np.float64(-FAR)
        return at

    return place_on_axis


def _taps_around(taps: int) -> Any:
    """``(weights, spots, first, at, size, padding, align)``: the taps around the place ``at``.

    It lists their weights and pixels from ``first`` on; pixels may lie outside.
    """

    def nearest(weights: Any, spots: Any, first: Any, at: Any, size: Any, padding: Any, align: Any) -> None:
        at = _padded(np.rint(at), size, padding, align)
        weights[first] = 1.0
        spots[first] = int(np.rint(at))

    def between(weights: Any, spots: Any, first: Any, at: Any, size: Any, padding: Any, align: Any) -> None:
        low = 0.0 if align else -0.5
        high = size - 1.0 if align else size - 0.5
        # the cubic kernel reaches over the border: there each of its taps is moved, not its middle
        if (at < low or at > high) and not (taps == 4 and padding == BORDER):
            at = _padded(at, size, padding, align)
        whole = floor(at)
        t = at - whole
        lowest = int(whole) - (taps // 2 - 1)
        if taps == 2:
            weights[first] = 1.0 - t
            weights[first + 1] = t
        else:
            _cubic_weights(weights, first, t)
        for tap in range(taps):
            spots[first + tap] = lowest + tap

    return helper(nearest if taps == 1 else between, inline="always")


def grid_sample(dtype: str, mode: str) -> Kernel:
    """One unit is one of the ``places`` of an image.

    ``mode`` is nearest, linear or cubic; the grid's last entries are in the order of the axes from the last.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[mode]
    local_weights, local_places = LOCAL_ARRAYS["float64"], LOCAL_SECOND["int64"]
    # what is rounded to a pixel has to be a tie where it is one in the grid's own precision
    place_on_axis = _place_on_axis(np.float32 if mode == "nearest" and dtype != "float64" else np.float64)
    take_taps = _taps_around(taps)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        channels, places, padding, align, rank = args[3], args[4], args[5], args[6] != 0, args[7]
        x, grid, y = pointer(args[0]), pointer(args[1]), pointer(args[2])
        weights, spots = local_weights(), local_places()
        plane = 1
        corners = 1
        for axis in range(rank):
            plane *= args[8 + axis]
            corners *= taps
        for unit in range(begin, end):
            image = quotient(unit, places)
            place = unit - image * places
            for axis in range(rank):
                size = args[8 + axis]
                at = place_on_axis(grid[unit * rank + rank - 1 - axis], size, align)
                take_taps(weights, spots, axis * taps, at, size, padding, align)
                _bring_inside(weights, spots, axis * taps, taps, size, padding, align)
            for channel in range(channels):
                base = (image * channels + channel) * plane
                total = 0.0
                for corner in range(corners):
                    rest = corner
                    weight = 1.0
                    at_element = 0
                    step = 1
                    for axis in range(rank - 1, -1, -1):
                        outer = quotient(rest, taps)
                        tap = axis * taps + rest - outer * taps
                        weight *= weights[tap]
                        at_element += spots[tap] * step
                        step *= args[8 + axis]
                        rest = outer
                    if weight != 0.0:
                        total += weight * np.float64(x[base + at_element])
                y[(image * channels + channel) * places + place] = scalar(total)

    return kernel


@helper
def _bilinear(x: Any, base: Any, height: Any, width: Any, row: Any, column: Any, edge: Any) -> Any:
    """The value between four pixels, or the largest of their weighted values; nothing lies outside the picture.

    ``edge`` is 0 where pixels outside count as zero (deformable convolution), else places within one pixel outside
    take the value at the border (regions of interest).
    """
    if edge:
        if row < -1.0 or row > height or column < -1.0 or column > width:
            return 0.0
        row = min(max(row, 0.0), height - 1.0)
        column = min(max(column, 0.0), width - 1.0)
    elif row <= -1.0 or row >= height or column <= -1.0 or column >= width:
        return 0.0
    top, left = int(floor(row)), int(floor(column))
    a, b = row - top, column - left
    total = 0.0
    for i in range(2):
        for j in range(2):
            r, c = top + i, left + j
            if 0 <= r < height and 0 <= c < width:
                total += (a if i else 1.0 - a) * (b if j else 1.0 - b) * np.float64(x[base + r * width + c])
    return total


@helper
def _strongest(x: Any, base: Any, height: Any, width: Any, row: Any, column: Any) -> Any:
    """The largest of the four weighted pixels around a place."""
    if row < -1.0 or row > height or column < -1.0 or column > width:
        return 0.0
    row = min(max(row, 0.0), height - 1.0)
    column = min(max(column, 0.0), width - 1.0)
    top, left = int(floor(row)), int(floor(column))
    a, b = row - top, column - left
    best = -np.inf
    for i in range(2):
        for j in range(2):
            # a place that is not a number is rounded to the least integer
            r, c = max(min(top + i, height - 1), 0), max(min(left + j, width - 1), 0)
            best = max(best, (a if i else 1.0 - a) * (b if j else 1.0 - b) * np.float64(x[base + r * width + c]))
    return best


def roi_align(dtype: str, index: str, mode: str) -> Kernel:
    """One unit is one channel of one region; ``images`` says in which of the ``image_count`` images of x each lies."""
    from mace_core.native.numba_prelude import as_float

    pointer, scalar, index_pointer = POINTERS[dtype], SCALARS[dtype], POINTERS[index]
    largest = mode == "max"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, regions, images, y = pointer(args[0]), pointer(args[1]), index_pointer(args[2]), pointer(args[3])
        scale = as_float(args[4])
        channels, height, width, rows, columns = args[6], args[7], args[8], args[9], args[10]
        offset = 0.5 if args[12] != 0 else 0.0
        work = 0
        for unit in range(begin, end):
            region = quotient(unit, channels)
            channel = unit - region * channels
            image = int(images[region])
            if image < 0 or image >= args[13]:
                status = i64(args[5])
                status[0] = 1
                status[1] = image
                continue
            base = (image * channels + channel) * height * width
            x1 = np.float64(regions[4 * region]) * scale - offset
            y1 = np.float64(regions[4 * region + 1]) * scale - offset
            region_width = np.float64(regions[4 * region + 2]) * scale - offset - x1
            region_height = np.float64(regions[4 * region + 3]) * scale - offset - y1
            if args[12] == 0:
                region_width = max(region_width, 1.0)
                region_height = max(region_height, 1.0)
            cell_height, cell_width = region_height / rows, region_width / columns
            down = args[11] if args[11] > 0 else int(np.ceil(min(max(cell_height, 0.0), 4096.0)))
            across = args[11] if args[11] > 0 else int(np.ceil(min(max(cell_width, 0.0), 4096.0)))
            for i in range(rows):
                for j in range(columns):
                    total = 0.0
                    best = -np.inf
                    for a in range(down):
                        work += 16 * (1 + across)
                        if work > POLL_WORK:
                            work = 0
                            if stop_requested(args):
                                return
                        row = y1 + i * cell_height + (a + 0.5) * cell_height / down
                        for b in range(across):
                            column = x1 + j * cell_width + (b + 0.5) * cell_width / across
                            if largest:
                                best = max(best, _strongest(x, base, height, width, row, column))
                            else:
                                total += _bilinear(x, base, height, width, row, column, 1)
                    if largest:
                        total = best if down * across > 0 else 0.0
                    else:
                        total /= max(down * across, 1)
                    y[(unit * rows + i) * columns + j] = scalar(total)

    return kernel


def deform_conv(dtype: str) -> Kernel:
    """One unit is one output row of one image.

    ``bias`` and ``mask`` may be 0; ``rows`` and ``columns`` are the output's, ``pads`` those at the begin.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, w, offsets, y = pointer(args[0]), pointer(args[1]), pointer(args[2]), pointer(args[5])
        bias, mask = pointer(args[3]), pointer(args[4])
        inputs, outputs, groups, parts = args[6], args[7], args[8], args[9]
        height, width, rows, columns = args[10], args[11], args[12], args[13]
        kh, kw, sh, sw, dh, dw, ph, pw = (
            args[14], args[15], args[16], args[17], args[18], args[19], args[20], args[21],
        )  # fmt: skip
        per_group, group_out, per_part = quotient(inputs, groups), quotient(outputs, groups), quotient(inputs, parts)
        plane = rows * columns
        work = 0
        for unit in range(begin, end):
            image = quotient(unit, rows)
            row = unit - image * rows
            for column in range(columns):
                here = row * columns + column
                for out in range(outputs):
                    start = np.float64(bias[out]) if args[3] != 0 else 0.0
                    y[(image * outputs + out) * plane + here] = scalar(start)
                for channel in range(inputs):
                    work += kh * kw * (16 + group_out)
                    if work > POLL_WORK:
                        work = 0
                        if stop_requested(args):
                            return
                    part = quotient(channel, per_part)
                    group = quotient(channel, per_group)
                    base = (image * inputs + channel) * height * width
                    for a in range(kh):
                        for b in range(kw):
                            tap = (image * parts + part) * kh * kw + a * kw + b
                            down = np.float64(offsets[2 * tap * plane + here])
                            across = np.float64(offsets[(2 * tap + 1) * plane + here])
                            value = _bilinear(
                                x, base, height, width, row * sh - ph + a * dh + down,
                                column * sw - pw + b * dw + across, 0,
                            )  # fmt: skip
                            if args[4] != 0:
                                value *= np.float64(mask[tap * plane + here])
                            if value == 0.0:
                                continue
                            for out in range(group * group_out, (group + 1) * group_out):
                                weight = w[((out * per_group + channel - group * per_group) * kh + a) * kw + b]
                                at = (image * outputs + out) * plane + here
                                y[at] = scalar(np.float64(y[at]) + value * np.float64(weight))

    return kernel


def col2im(dtype: str) -> Kernel:
    """Sums overlapping blocks; one unit is one channel of one image.

    ``counts`` says how many blocks lie along each axis of the image; ``pads`` are those at the begin.
    """
    pointer = POINTERS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = pointer(args[0]), pointer(args[1])
        blocks, rank = args[2], args[3]
        area, taps = 1, 1
        for axis in range(rank):
            area *= args[4 + axis]
            taps *= args[4 + rank + axis]
        work = 0
        for unit in range(begin, end):
            for i in range(area):
                target[unit * area + i] = 0
            for tap in range(taps):
                work += 4 * blocks
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                for block in range(blocks):
                    inside = True
                    at, step = 0, 1
                    tap_rest, block_rest = tap, block
                    for axis in range(rank - 1, -1, -1):
                        tap_outer = quotient(tap_rest, args[4 + rank + axis])
                        block_outer = quotient(block_rest, args[4 + 2 * rank + axis])
                        place = (block_rest - block_outer * args[4 + 2 * rank + axis]) * args[4 + 3 * rank + axis]
                        place += (tap_rest - tap_outer * args[4 + rank + axis]) * args[4 + 4 * rank + axis]
                        place -= args[4 + 5 * rank + axis]
                        if place < 0 or place >= args[4 + axis]:
                            inside = False
                        at += place * step
                        step *= args[4 + axis]
                        tap_rest, block_rest = tap_outer, block_outer
                    if inside:
                        target[unit * area + at] += source[(unit * taps + tap) * blocks + block]

    return kernel


def max_unpool(dtype: str) -> Kernel:
    """Runs as one unit.

    The indices count elements of a tensor of the sizes that were ``pooled``, which lies in the corner of the target.
    """
    pointer = POINTERS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, indices, target = pointer(args[0]), i64(args[1]), pointer(args[2])
        count, rank = args[4], args[5]
        total, size = 1, 1
        for axis in range(rank):
            total *= args[6 + rank + axis]
            size *= args[6 + axis]
        for i in range(total):
            target[i] = 0
        for i in range(count):
            rest = indices[i]
            if rest < 0 or rest >= size:
                status = i64(args[3])
                status[0] = 1
                status[1] = rest
                continue
            at, step = 0, 1
            for axis in range(rank - 1, -1, -1):
                outer = quotient(rest, args[6 + axis])
                at += (rest - outer * args[6 + axis]) * step
                step *= args[6 + rank + axis]
                rest = outer
            target[at] = source[i]

    return kernel
