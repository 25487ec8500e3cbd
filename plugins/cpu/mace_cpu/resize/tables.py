"""Where the samples of a resized axis come from: coordinates, neighbors and their weights, as Resize defines them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.symbolic import is_symbolic

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

COORDINATE_MODES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
NEAREST_MODES: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True, slots=True)
class ResizedAxis:
    """One axis to be resized.

    Attributes:
        axis: its number.
        size, target: lengths before and after.
        scale: the factor, not necessarily target / size; 0 where a run decides what it is.
        wanted: then the scale is ``wanted / size``.
        region: normalized start and end, for tf_crop_and_resize.
    """

    axis: int
    size: int
    target: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)
    wanted: int = 0

    @property
    def is_decided(self) -> bool:
        """Whether its tables can be made now."""
        return not any(map(is_symbolic, (self.size, self.target, self.wanted)))


@dataclass(frozen=True, slots=True)
class Sampling:
    """The attributes of Resize that say how samples are taken."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool


def exact_length(size: int, scale: float) -> float:
    """The length before it was cut to a whole number; 49 elements by 1/49 are 1, whatever the product is rounded to."""
    exact = size * scale
    return float(round(exact)) if abs(exact - round(exact)) <= 1e-6 * exact else exact


def coordinates(axis: ResizedAxis, mode: str) -> Floats:
    """The position in the source of each target index."""
    x = np.arange(axis.target, dtype=np.float64)
    exact = exact_length(axis.size, axis.scale)
    if mode == "align_corners":
        return x * 0.0 if exact == 1 else x * (axis.size - 1) / (exact - 1)
    if mode == "asymmetric":
        return x / axis.scale
    if mode == "tf_half_pixel_for_nn":
        return (x + 0.5) / axis.scale
    if mode == "tf_crop_and_resize":
        start, end = axis.region
        if exact == 1:
            return np.full(axis.target, 0.5 * (start + end) * (axis.size - 1))
        return start * (axis.size - 1) + x * (end - start) * (axis.size - 1) / (exact - 1)
    if mode == "pytorch_half_pixel" and exact == 1:
        return x * 0.0
    if mode == "half_pixel_symmetric":
        # the standard's sum, put together so that a coordinate that is a whole number comes out as one
        return (axis.size - 1) / 2 + (2 * x + 1 - axis.target) / (2 * axis.scale)
    return (x + 0.5) / axis.scale - 0.5


def outside(axis: ResizedAxis, mode: str) -> npt.NDArray[np.bool_]:
    """Target indices that get the extrapolation value."""
    x = coordinates(axis, mode)
    if mode != "tf_crop_and_resize":
        return np.zeros(axis.target, np.bool_)
    return np.asarray((x < 0) | (x > axis.size - 1))


def nearest_table(axis: ResizedAxis, sampling: Sampling) -> Integers:
    """The source index of each target index; -1 where it gets the extrapolation value."""
    rounded = NEAREST_MODES[sampling.nearest](coordinates(axis, sampling.coordinates))
    table = np.clip(rounded, 0, axis.size - 1).astype(np.int64)
    table[outside(axis, sampling.coordinates)] = -1
    return table


def taps_of(axis: ResizedAxis, sampling: Sampling) -> int:
    """From how many source elements a result is made, some of which may not count: an even number."""
    # downsampling stretches the kernel, so that every source element has a say
    stretch = min(axis.scale or axis.wanted / axis.size, 1.0) if sampling.antialias else 1.0
    reach = 2.0 if sampling.mode == "cubic" else 1.0
    # one more tap than fits between: at whole coordinates both ends of the kernel count
    return -2 * math.floor(-reach / stretch)


def weight_table(axis: ResizedAxis, sampling: Sampling) -> tuple[Integers, Floats]:
    """Source indices and weights (target length, taps); a first index of -1 means the extrapolation value."""
    x = coordinates(axis, sampling.coordinates)
    first = np.floor(x)
    ratio = x - first
    stretch = min(axis.scale, 1.0) if sampling.antialias else 1.0
    low = 1 - taps_of(axis, sampling) // 2
    offsets = np.arange(low, 2 - low)
    distance = np.abs(offsets[None, :] - ratio[:, None]) * stretch
    weights = _cubic(distance, sampling.cubic) if sampling.mode == "cubic" else np.clip(1 - distance, 0, 1)
    indices = first.astype(np.int64)[:, None] + offsets[None, :]
    if sampling.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    if sampling.exclude_outside:
        weights = np.where((indices < 0) | (indices >= axis.size), 0.0, weights)
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    indices = np.clip(indices, 0, axis.size - 1)
    indices[outside(axis, sampling.coordinates), 0] = -1
    return indices, weights


def _cubic(distance: Floats, a: float) -> Any:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
