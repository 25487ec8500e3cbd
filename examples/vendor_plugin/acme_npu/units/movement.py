"""Operators that move elements, or take them together along axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from acme_npu.units.registry import Array, DeclinedError, Lowered, fixed, fixed_or_attribute, kernel, operand, unit
from mace_core.graph import GraphView, Node


@unit("Reshape", "Flatten")
def reshape_node(view: GraphView, node: Node) -> Lowered:
    """The shape of the result is known: what -1, 0 and allowzero mean has been decided by then."""
    result = node.outputs[0]
    if result is None:
        raise DeclinedError(f"{node.op_type} has no output")
    return Lowered((operand(node, 0),), {"shape": list(view.shape(result))})


@kernel("Reshape")
@kernel("Flatten")
def reshape(x: Array, *, shape: list[int]) -> Array:
    return x.reshape(shape)


@unit("Transpose")
def transpose_node(view: GraphView, node: Node) -> Lowered:
    x = operand(node, 0)
    return Lowered((x,), {"perm": list(node.attr("perm") or range(len(view.shape(x)) - 1, -1, -1))})


@kernel("Transpose")
def transpose(x: Array, *, perm: list[int]) -> Array:
    return x.transpose(perm)


@unit("Concat")
def concat_node(view: GraphView, node: Node) -> Lowered:
    return Lowered(tuple(v for v in node.inputs if v is not None), {"axis": int(node.attr("axis", 1))})


@kernel("Concat")
def concat(*operands: Array, axis: int) -> Array:
    return np.concatenate(operands, axis=axis)


@unit("Pad")
def pad_node(view: GraphView, node: Node) -> Lowered:
    x = operand(node, 0)
    mode = node.attr("mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise DeclinedError(f"Pad has no mode {mode} on the ACME NPU")
    pads = fixed_or_attribute(view, node, 1, "pads", 11) or []
    value = node.attr("value", 0.0) if view.opset() < 11 else fixed(view, node, 2)
    axes = fixed(view, node, 3)
    rank = len(view.shape(x))
    sides = [[0, 0] for _ in range(rank)]
    named = list(range(rank)) if axes is None else [int(axis) % rank for axis in axes]
    for place, axis in enumerate(named):
        sides[axis] = [int(pads[place]), int(pads[place + len(named)])]
    if min((min(side) for side in sides), default=0) < 0:
        raise DeclinedError("negative padding is not supported")
    return Lowered((x,), {"sides": sides, "mode": mode, "value": 0.0 if value is None else float(value)})


@kernel("Pad")
def pad(x: Array, *, sides: list[list[int]], mode: str, value: float) -> Array:
    if mode == "constant":
        return np.pad(x, sides, constant_values=value)
    return np.pad(x, sides, mode="reflect" if mode == "reflect" else "edge")


@unit("ReduceSum", "ReduceMean", "ReduceMax")
def reduce_node(view: GraphView, node: Node) -> Lowered:
    x = operand(node, 0)
    axes = fixed_or_attribute(view, node, 1, "axes", 13 if node.op_type == "ReduceSum" else 18)
    keeps = bool(node.attr("keepdims", 1))
    if not axes:
        axes = [] if node.attr("noop_with_empty_axes", 0) else list(range(len(view.shape(x))))
    if node.op_type == "ReduceMax" and 0 in view.shape(x):
        raise DeclinedError("there is no largest of no elements")
    return Lowered((x,), {"axes": axes, "keeps": keeps})


def _reduced(x: Array, function: Any, axes: list[int], keeps: bool) -> Array:
    found = function(x, axis=tuple(axes), keepdims=keeps)
    return np.asarray(found, np.float32)


@kernel("ReduceSum")
def reduce_sum(x: Array, *, axes: list[int], keeps: bool) -> Array:
    return _reduced(x, np.sum, axes, keeps)


@kernel("ReduceMax")
def reduce_max(x: Array, *, axes: list[int], keeps: bool) -> Array:
    return _reduced(x, np.max, axes, keeps)


@kernel("ReduceMean")
def reduce_mean(x: Array, *, axes: list[int], keeps: bool) -> Array:
    count = math.prod(x.shape[axis] for axis in axes)
    if count == 0:
        return _reduced(x, np.sum, axes, keeps) * np.float32(np.nan)
    return _reduced(x, np.sum, axes, keeps) / np.float32(count)


@unit("Resize")
def resize_node(view: GraphView, node: Node) -> Lowered:
    """Nearest elements at asymmetric coordinates, rounded down, by whole factors: what copies can do."""
    x, result = operand(node, 0), node.outputs[0]
    modes = (
        node.attr("mode", "nearest"),
        node.attr("coordinate_transformation_mode", "half_pixel"),
        node.attr("nearest_mode", "round_prefer_floor"),
    )
    if view.opset() < 11 or modes != ("nearest", "asymmetric", "floor") or result is None:
        raise DeclinedError(f"Resize takes nearest, asymmetric and floor on the ACME NPU, not {', '.join(modes)}")
    before, after = view.shape(x), view.shape(result)
    if any(b == 0 or a % b for a, b in zip(after, before, strict=True)) or node.attr("axes") is not None:
        raise DeclinedError("Resize takes whole factors on the ACME NPU")
    return Lowered((x,), {"factors": [a // b for a, b in zip(after, before, strict=True)]})


@kernel("Resize")
def resize(x: Array, *, factors: list[int]) -> Array:
    for axis, factor in enumerate(factors):
        x = np.repeat(x, factor, axis=axis)
    return x
