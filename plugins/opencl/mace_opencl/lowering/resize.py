"""Resize and Upsample, nearest and linear, through tables of source coordinates made here."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.tensor import DType
from mace_opencl.kernels.copy import flat_groups, row_major
from mace_opencl.kernels.selection import blend_kernel
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.checks import FLOAT, MOVABLE, constant_reason, dtype_of, dtype_reason
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator
from mace_opencl.lowering.selection import emit_lookup

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

Coordinates = npt.NDArray[np.float64]


def _reason(view: GraphView, node: Node) -> str | None:
    mode = node.attr("mode", "nearest")
    found = dtype_reason(view, node, MOVABLE if mode == "nearest" else FLOAT, only=(0,))
    found = found or constant_reason(view, node, *range(1, len(node.inputs)))
    if found is not None:
        return found
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    assert y is not None
    if mode not in ("nearest", "linear"):
        return f"the interpolation mode '{mode}' has no kernel here; nearest and linear have"
    if node.attr("antialias", 0):
        return "Resize with antialiasing has no kernel here"
    coordinates = node.attr("coordinate_transformation_mode", "half_pixel")
    if node.op_type == "Resize" and coordinates not in _COORDINATES:
        return f"the coordinate transformation '{coordinates}' has no kernel here"
    if node.attr("nearest_mode", "round_prefer_floor") not in _NEAREST:
        return f"the rounding '{node.attr('nearest_mode')}' is not known here"
    if 0 in view.shape(x):
        return f"'{x.name}' is empty and cannot be resized"
    if dtype_of(view, x) is not DType.FLOAT32 and mode == "linear":
        return f"'{x.name}' is {dtype_of(view, x).label}; linear interpolation is computed in float32 here"
    changed = sum(a != b for a, b in zip(view.shape(x), view.shape(y), strict=True))
    if mode == "linear" and changed > 3:
        return f"{changed} axes are resized at once; linear interpolation has kernels for up to three"
    return None


def _scales(builder: Builder, node: Node) -> list[float]:
    """Result size over source size per axis, as the model states it."""
    shape, result = builder.shape(node.inputs[0]), builder.shape(node.outputs[0])
    rank = len(shape)
    if node.op_type == "Upsample":
        given = builder.constant(node.input(1))
        values = node.attr("scales", ()) if given is None else given.reshape(-1)
        return [float(value) for value in values]
    scales = [after / before for before, after in zip(shape, result, strict=True)]
    index = 1 if builder.view.opset() < 11 else 2
    given = builder.constant(node.input(index))
    if given is not None and given.size:
        axes = node.attr("axes", tuple(range(rank)))
        for axis, value in zip(axes, given.reshape(-1), strict=True):
            scales[axis % rank] = float(value)
    return scales


def _exact_length(size: int, scale: float) -> float:
    """The length before it was cut to a whole number; 49 elements by 1/49 are 1, whatever the product is rounded to."""
    exact = size * scale
    return float(round(exact)) if abs(exact - round(exact)) <= 1e-6 * exact else exact


def _source(node: Node, size: int, result: int, scale: float, modern: bool) -> Coordinates:
    """The position in the source that each position of the result looks at."""
    at = np.arange(result, dtype=np.float64)
    mode = node.attr("coordinate_transformation_mode", "half_pixel") if modern else "asymmetric"
    exact = _exact_length(size, scale)
    if mode == "align_corners":
        return at * 0.0 if exact == 1 else at * (size - 1) / (exact - 1)
    if mode == "asymmetric":
        return at / scale
    if mode == "pytorch_half_pixel" and exact == 1:
        return at * 0.0
    if mode == "half_pixel_symmetric":
        # the standard's sum, put together so that a coordinate that is a whole number comes out as one
        return (size - 1) / 2 + (2 * at + 1 - result) / (2 * scale)
    return (at + 0.5) / scale - 0.5


def _nearest(node: Node, source: Coordinates, size: int, modern: bool) -> npt.NDArray[np.int32]:
    rounding = node.attr("nearest_mode", "round_prefer_floor") if modern else "floor"
    if rounding == "floor":
        found = np.floor(source)
    elif rounding == "ceil":
        found = np.ceil(source)
    elif rounding == "round_prefer_ceil":
        found = np.floor(source + 0.5)
    else:
        found = np.ceil(source - 0.5)
    return np.clip(found, 0, size - 1).astype(np.int32)


def _lower(builder: Builder, node: Node, group: Group | None) -> None:
    shape, result = builder.shape(node.inputs[0]), builder.shape(node.outputs[0])
    if not math.prod(result):
        return
    scales = _scales(builder, node)
    modern = node.op_type == "Resize" and builder.view.opset() >= 11
    sources = [_source(node, *facts, modern) for facts in zip(shape, result, scales, strict=True)]
    if node.attr("mode", "nearest") == "nearest":
        tables = [
            np.arange(size, dtype=np.int32) if size == after else _nearest(node, source, size, modern)
            for source, size, after in zip(sources, shape, result, strict=True)
        ]
        emit_lookup(builder, node, tables, None)
        return
    lows, highs, weights = [], [], []
    for source, size in zip(sources, shape, strict=True):
        low = np.floor(source)
        weights.append((source - low).astype(np.float32))
        lows.append(np.clip(low, 0, size - 1).astype(np.int32))
        highs.append(np.clip(low + 1, 0, size - 1).astype(np.int32))
    blended = [axis for axis in range(len(shape)) if shape[axis] != result[axis] or np.any(weights[axis])]
    starts = np.cumsum([0, *(len(table) for table in lows[:-1])]).tolist()
    tables_read = [builder.data(np.concatenate(part)) for part in (lows, highs, weights)]
    scalars = (math.prod(result), *result, *starts, *row_major(shape))
    arguments = [builder.read(node.inputs[0]), *tables_read, builder.write(node.outputs[0]), *scalars]
    builder.emit(blend_kernel(len(shape), blended), arguments, flat_groups(math.prod(result)), [node])


OPERATORS.add({name: Operator(_reason, _lower) for name in ("Resize", "Upsample")})
