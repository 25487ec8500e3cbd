"""Convolution and pooling: windows that slide over the spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from acme_npu.units.registry import Array, DeclinedError, Lowered, Settings, kernel, operand, unit
from mace_core.graph import GraphView, Node


def geometry(view: GraphView, node: Node, taps: Sequence[int]) -> dict[str, Any]:
    """Strides, dilations and the elements padded before each axis; what is padded after follows from the result."""
    x, result = operand(node, 0), node.outputs[0]
    if result is None:
        raise DeclinedError(f"{node.op_type} has no output")
    sizes, counts = view.shape(x)[2:], view.shape(result)[2:]
    rank = len(sizes)
    strides, dilations = (list(node.attr(name) or [1] * rank) for name in ("strides", "dilations"))
    mode = node.attr("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        spans = [(k - 1) * d + 1 for k, d in zip(taps, dilations, strict=True)]
        totals = [max((n - 1) * s + w - z, 0) for n, s, w, z in zip(counts, strides, spans, sizes, strict=True)]
        begins = [total // 2 if mode == "SAME_UPPER" else -(-total // 2) for total in totals]
        ends = [total - begin for total, begin in zip(totals, begins, strict=True)]
    else:
        pads = list(node.attr("pads") or [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
        begins, ends = pads[:rank], pads[rank:]
    if min(*begins, *ends, 0) < 0:
        raise DeclinedError("negative padding is not supported")
    return {
        "taps": list(taps),
        "strides": strides,
        "dilations": dilations,
        "begins": begins,
        "ends": ends,
        "counts": list(counts),
    }


def windows(x: Array, fill: float, grid: Settings) -> Array:
    """``x`` (N, C, …) seen as (N, C, windows …, taps …), with ``fill`` where there is padding."""
    taps, strides, dilations = grid["taps"], grid["strides"], grid["dilations"]
    spans = [(k - 1) * d + 1 for k, d in zip(taps, dilations, strict=True)]
    sides = [(0, 0), (0, 0)]
    for size, begin, count, stride, span in zip(
        x.shape[2:], grid["begins"], grid["counts"], strides, spans, strict=True
    ):
        sides.append((begin, max((count - 1) * stride + span - size - begin, 0)))
    padded = np.pad(x, sides, constant_values=fill)
    rank = len(taps)
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    places = tuple(slice(None, (n - 1) * s + 1, s) for n, s in zip(grid["counts"], strides, strict=True))
    steps = tuple(slice(None, None, d) for d in dilations)
    found: Array = seen[(slice(None), slice(None), *places, *steps)]
    return found


@unit("Conv")
def conv_node(view: GraphView, node: Node) -> Lowered:
    weights = operand(node, 1)
    taps = view.shape(weights)[2:]
    grid = geometry(view, node, taps)
    grid.pop("ends")
    operands = tuple(value for value in node.inputs if value is not None)
    return Lowered(operands, {**grid, "group": int(node.attr("group", 1))})


@kernel("Conv")
def conv(x: Array, weights: Array, bias: Array | None = None, *, group: int, **grid: Any) -> Array:
    seen = windows(x, 0, grid)
    batch, channels, *rest = seen.shape
    rank = len(grid["taps"])
    counts, taps = rest[:rank], rest[rank:]
    filters = weights.shape[0]
    # (N, group, channels of a group, windows, taps) by (group, filters of a group, channels of a group, taps)
    columns = seen.reshape(batch, group, channels // group, math.prod(counts), math.prod(taps))
    kernels = weights.reshape(group, filters // group, channels // group, math.prod(taps))
    found = np.einsum("ngcwt,gfct->ngfw", columns, kernels, optimize=True).reshape(batch, filters, *counts)
    if bias is not None:
        found = found + bias.reshape(1, -1, *(1,) * rank)
    return np.asarray(found, np.float32)


@unit("MaxPool")
def max_pool_node(view: GraphView, node: Node) -> Lowered:
    grid = geometry(view, node, node.attr("kernel_shape"))
    grid.pop("ends")
    return Lowered((operand(node, 0),), {**grid, "storage_order": int(node.attr("storage_order", 0))})


@kernel("MaxPool")
def max_pool(x: Array, *, storage_order: int, **grid: Any) -> tuple[Array, Array]:
    """The largest element of each window, and its place in the flattened input."""
    rank = len(grid["taps"])
    seen = windows(x, -np.inf, grid)
    flat = seen.reshape(*seen.shape[: 2 + rank], math.prod(grid["taps"]))
    best = flat.argmax(axis=-1)
    place = np.zeros(best.shape, np.int64)
    order = range(rank) if storage_order == 0 else range(rank - 1, -1, -1)
    taps = np.unravel_index(best, grid["taps"])
    for axis in order:
        starts = np.arange(grid["counts"][axis]) * grid["strides"][axis] - grid["begins"][axis]
        starts = starts.reshape(-1, *(1,) * (rank - 1 - axis))
        place = place * x.shape[2 + axis] + starts + taps[axis] * grid["dilations"][axis]
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * rank)
    return flat.max(axis=-1), place + planes * math.prod(x.shape[2:])


@unit("AveragePool")
def average_pool_node(view: GraphView, node: Node) -> Lowered:
    grid = geometry(view, node, node.attr("kernel_shape"))
    return Lowered((operand(node, 0),), {**grid, "count_pads": bool(node.attr("count_include_pad", 0))})


@kernel("AveragePool")
def average_pool(x: Array, *, count_pads: bool, ends: Sequence[int], **grid: Any) -> Array:
    """Sums over the elements of each window; padding that was asked for counts only with ``count_pads``."""
    rank = len(grid["taps"])
    taps = tuple(range(2 + rank, 2 + 2 * rank))
    ones = np.ones((1, 1, *x.shape[2:]), np.float32)
    if count_pads:
        sides = [(0, 0), (0, 0), *zip(grid["begins"], ends, strict=True)]
        ones = np.pad(ones, sides, constant_values=1)
        inside = {**grid, "begins": [0] * rank}
    else:
        inside = grid
    counts = windows(ones, 0, inside).sum(axis=taps)
    found: Array = windows(x, 0, grid).sum(axis=taps) / counts
    return found


@unit("GlobalAveragePool")
def global_average_pool_node(view: GraphView, node: Node) -> Lowered:
    return Lowered((operand(node, 0),))


@kernel("GlobalAveragePool")
def global_average_pool(x: Array) -> Array:
    found: Array = np.mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)
    return found
