"""Operators that read between elements: resizing, grids, regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

Array = npt.NDArray[Any]

FLOATS = schema.FLOATS[:2]
TRANSFORMS = {
    11: ["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners", "tf_crop_and_resize"],
    19: [
        "half_pixel",
        "asymmetric",
        "pytorch_half_pixel",
        "align_corners",
        "tf_crop_and_resize",
        "half_pixel_symmetric",
    ],
}
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


@draws("Resize")
def resize(source: Source, op: str) -> OpCase:
    """Nearest neighbors at scales whose coordinates are exact: a tie but for rounding errors is decided by nobody."""
    opset = source.opset(op, first=10)
    dtype = source.dtype(op, opset, only=(*schema.FLOATS[:1], np.dtype(np.uint8), np.dtype(np.int8)))
    mode = source.pick(["nearest", "linear", "cubic"] if opset >= 11 else ["nearest", "linear"])
    if mode != "nearest":
        dtype = np.dtype(np.float32)
    spatial = 2 if mode == "cubic" else source.dim(1, 2)
    lead = (source.dim(1, 2), source.dim(1, 3))
    shape = (*lead, *(source.dim(1, 6) for _ in range(spatial)))
    x = source.array(shape, dtype)
    scales = [
        source.pick([2.0, 1.0, 0.5, 3.0, 4.0] if mode == "nearest" else [2.0, 0.5, 1.5, 1.0, 0.75])
        for _ in range(spatial)
    ]
    if opset < 11:
        return OpCase(op, opset, (x, np.array([1, 1, *scales], np.float32)), {"mode": mode})
    transform = source.pick(TRANSFORMS[19 if opset >= 19 else 11])
    if transform in ("align_corners", "tf_crop_and_resize"):
        # with a length that is not a whole number, these depend on whether it is rounded, which is not said
        scales = [source.pick([2.0, 1.0, 3.0]) for _ in range(spatial)]
    attributes = _resize_attributes(source, opset, mode, transform)
    region = np.zeros(0, np.float32)
    if transform == "tf_crop_and_resize":
        region = _region(source, spatial)
        attributes["extrapolation_value"] = 2.0
    has_axes = opset >= 18 and transform != "tf_crop_and_resize" and source.rarely(3)
    if has_axes:
        attributes["axes"] = list(range(2, 2 + spatial))
    target: tuple[Array | None, ...]
    if source.flag():
        sizes = [max(1, int(dim * scale)) for dim, scale in zip(shape[2:], scales, strict=True)]
        if has_axes and source.rarely(3):
            attributes["keep_aspect_ratio_policy"] = source.pick(["not_larger", "not_smaller", "stretch"])
        no_scales = None if opset >= 13 else np.zeros(0, np.float32)
        target = (no_scales, np.array(sizes if has_axes else [*lead, *sizes], np.int64))
    else:
        target = (np.array(scales if has_axes else [1, 1, *scales], np.float32),)
    return OpCase(op, opset, (x, region, *target), attributes, constants=frozenset({1}), tolerance=1e-4)


def _resize_attributes(source: Source, opset: int, mode: str, transform: str) -> dict[str, Any]:
    """How coordinates and neighbors are chosen."""
    found: dict[str, Any] = {"mode": mode}
    if transform != "half_pixel" or source.flag():
        found["coordinate_transformation_mode"] = transform
    if mode == "nearest" and source.flag():
        found["nearest_mode"] = source.pick(ROUNDINGS)
    if mode == "cubic":
        if source.flag():
            found["cubic_coeff_a"] = source.pick([-0.5, -0.75])
        if source.flag():
            found["exclude_outside"] = int(source.flag())
    if opset >= 18 and mode != "nearest" and transform in ("half_pixel", "asymmetric") and source.rarely(4):
        found["antialias"] = 1
    return found


def _region(source: Source, spatial: int) -> Array:
    """All of batch and channels, and a part of each spatial axis: where it starts, then where it ends."""
    starts = [source.pick([0.0, 0.25]) for _ in range(spatial)]
    ends = [source.pick([1.0, 0.75]) for _ in range(spatial)]
    return np.array([0, 0, *starts, 1, 1, *ends], np.float32)


@draws("Upsample")
def upsample(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    x = source.array((source.dim(1, 2), source.dim(1, 3), source.dim(1, 5), source.dim(1, 5)), np.float32)
    scales = [1.0, 1.0, source.pick([1.0, 2.0, 3.0]), source.pick([1.0, 2.0, 3.0])]
    attributes: dict[str, Any] = {"mode": source.pick(["nearest", "linear"])}
    if opset < 9:
        return OpCase(op, opset, (x,), {**attributes, "scales": scales})
    return OpCase(op, opset, (x, np.array(scales, np.float32)), attributes)


@draws("GridSample")
def grid_sample(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=FLOATS)
    volume = opset >= 20 and source.rarely(4)
    old = opset < 20
    modes = ["bilinear", "nearest", "bicubic"] if old else ["linear", "nearest"] + ([] if volume else ["cubic"])
    spatial = tuple(source.dim(1, 5) for _ in range(3 if volume else 2))
    batch = source.dim(1, 2)
    x = source.array((batch, source.dim(1, 3), *spatial), dtype)
    grid = source.floats((batch, *(source.dim(1, 4) for _ in spatial), len(spatial)), dtype, -1.4, 1.4)
    attributes: dict[str, Any] = {"mode": source.pick(modes)}
    if source.flag():
        attributes["padding_mode"] = source.pick(["zeros", "border", "reflection"])
    if source.flag():
        attributes["align_corners"] = int(source.flag())
    return OpCase(op, opset, (x, grid), attributes, tolerance=1e-3)


@draws("AffineGrid")
def affine_grid(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=FLOATS)
    rank = source.pick([2, 3])
    batch = source.dim(1, 2)
    theta = source.array((batch, rank, rank + 1), dtype, -2, 2)
    size = np.array([batch, source.dim(1, 3), *(source.dim(2, 5) for _ in range(rank))], np.int64)
    attributes = {"align_corners": int(source.flag())} if source.flag() else {}
    return OpCase(op, opset, (theta, size), attributes)


@draws("RoiAlign")
def regions(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=FLOATS)
    batch, channels, height, width = source.dim(1, 2), source.dim(1, 3), source.dim(2, 8), source.dim(2, 8)
    count = source.dim(1, 3)
    x = source.array((batch, channels, height, width), dtype)
    corner = source.floats((count, 2), dtype, 0, 4)
    boxes = np.concatenate([corner, corner + source.floats((count, 2), dtype, 0.6, 5)], axis=1).astype(dtype)
    indices = source.array((count,), np.int64, 0, batch - 1)
    attributes: dict[str, Any] = {
        "output_height": source.dim(1, 3), "output_width": source.dim(1, 3), "spatial_scale": source.pick([1.0, 0.5]),
        "sampling_ratio": source.integer(0, 3),
    }  # fmt: skip
    # the maximum is of products before opset 16's clarification was made in code: only the average is agreed on
    if source.rarely(4):
        attributes["mode"] = source.pick(["avg", "max"])
    if opset >= 16 and source.flag():
        attributes["coordinate_transformation_mode"] = source.pick(["half_pixel", "output_half_pixel"])
    return OpCase(op, opset, (x, boxes, indices), attributes, tolerance=1e-4)
