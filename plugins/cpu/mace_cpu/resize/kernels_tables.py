"""The tables of `resize.tables` for lengths that are decided at each run."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, as_float, helper, i32
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "nearest": "tables rank lengths[rank] sizes[rank] scales[rank] wanted[rank] begins[rank] ends[rank]",
    "weights": "indices weights length size scale wanted begin end taps cubic",
}
"""``lengths`` are those after resizing, ``sizes`` before.  The scale (float64) is ``wanted / size`` where it is 0; an
axis where both are 0 is not resized.  ``begins`` and ``ends`` (float64) are the region of tf_crop_and_resize."""


def nearest(coordinates: str, rounding: str) -> Kernel:
    """The joined int32 tables of all axes, one after another; one unit writes them all.

    -1 stands for the extrapolation value.
    """
    coordinate = _coordinate(coordinates)
    crops = coordinates == "tf_crop_and_resize"
    prefers_floor, prefers_ceil, floors = (
        rounding == name for name in ("round_prefer_floor", "round_prefer_ceil", "floor")
    )

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tables = i32(args[0])
        rank = args[1]
        at = 0
        for axis in range(rank):
            length = args[2 + axis]
            size = args[2 + rank + axis]
            scale = as_float(args[2 + 2 * rank + axis])
            wanted = args[2 + 3 * rank + axis]
            low = as_float(args[2 + 4 * rank + axis])
            high = as_float(args[2 + 5 * rank + axis])
            if scale == 0.0 and wanted == 0:
                for i in range(length):
                    tables[at + i] = i
                at += length
                continue
            if scale == 0.0:
                scale = float(wanted) / float(size)
            for i in range(length):
                x = coordinate(i, length, size, scale, low, high)
                if prefers_floor:
                    place = np.ceil(x - 0.5)
                elif prefers_ceil:
                    place = np.floor(x + 0.5)
                elif floors:
                    place = np.floor(x)
                else:
                    place = np.ceil(x)
                index = int(min(max(place, 0.0), float(size - 1)))
                if crops and (x < 0.0 or x > float(size - 1)):
                    index = -1
                tables[at + i] = index
            at += length

    return kernel


def weights(coordinates: str, mode: str, dtype: str, antialias: str, exclude_outside: str) -> Kernel:
    """Indices (length, taps) and weights of one axis; one unit writes them all.

    A first index of -1 stands for the extrapolation value.  The flags are "yes" or "no".
    """
    coordinate = _coordinate(coordinates)
    crops = coordinates == "tf_crop_and_resize"
    cubic, stretches, excludes = mode == "cubic", antialias == "yes", exclude_outside == "yes"
    pointer, number = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        indices = i32(args[0])
        weights = pointer(args[1])
        length = args[2]
        size = args[3]
        scale = as_float(args[4])
        if scale == 0.0:
            scale = float(args[5]) / float(size)
        low = as_float(args[6])
        high = as_float(args[7])
        taps = args[8]
        a = as_float(args[9])
        stretch = min(scale, 1.0) if stretches else 1.0
        first_tap = 1 - taps // 2
        for i in range(length):
            x = coordinate(i, length, size, scale, low, high)
            first = np.floor(x)
            ratio = x - first
            total = 0.0
            inside = 0.0
            for t in range(taps):
                weight = _weight(abs(float(first_tap + t) - ratio) * stretch, cubic, a)
                total += weight
                index = int(first) + first_tap + t
                if index >= 0 and index < size:
                    inside += weight
            for t in range(taps):
                weight = _weight(abs(float(first_tap + t) - ratio) * stretch, cubic, a)
                index = int(first) + first_tap + t
                if stretches:
                    weight = weight / total
                if excludes:
                    share = inside / total if stretches else inside
                    if index < 0 or index >= size:
                        weight = 0.0
                    weight = weight / (1.0 if share == 0.0 else share)
                indices[i * taps + t] = min(max(index, 0), size - 1)
                weights[i * taps + t] = number(weight)
            if crops and (x < 0.0 or x > float(size - 1)):
                indices[i * taps] = -1

    return kernel


@helper
def _weight(distance: float, cubic: bool, a: float) -> float:
    if not cubic:
        return min(max(1.0 - distance, 0.0), 1.0)
    if distance <= 1.0:
        return ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
    if distance < 2.0:
        return ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a
    return 0.0


def _coordinate(mode: str) -> Any:
    """``(index, length, size, scale, begin, end)``: the position in the source, as `tables.coordinates` has it."""
    aligns, asymmetric, nearest_half, crops, pytorch, symmetric = (
        mode == name
        for name in (
            "align_corners",
            "asymmetric",
            "tf_half_pixel_for_nn",
            "tf_crop_and_resize",
            "pytorch_half_pixel",
            "half_pixel_symmetric",
        )
    )

    @helper
    def coordinate(index: int, length: int, size: int, scale: float, begin: float, end: float) -> float:
        x = float(index)
        last = float(size - 1)
        exact = float(size) * scale
        nearby = float(round(exact))
        if abs(exact - nearby) <= 1e-6 * exact:
            exact = nearby
        if aligns:
            return x * 0.0 if exact == 1.0 else x * last / (exact - 1.0)
        if asymmetric:
            return x / scale
        if nearest_half:
            return (x + 0.5) / scale
        if crops:
            if exact == 1.0:
                return 0.5 * (begin + end) * last
            return begin * last + x * (end - begin) * last / (exact - 1.0)
        if pytorch and exact == 1.0:
            return x * 0.0
        if symmetric:
            return last / 2.0 + (2.0 * x + 1.0 - float(length)) / (2.0 * scale)
        return (x + 0.5) / scale - 0.5

    return coordinate
