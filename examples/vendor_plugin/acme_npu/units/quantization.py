"""Conversion between float32 and whole numbers of eight bits, per tensor or per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acme_npu.units.registry import Array, DeclinedError, Lowered, fixed, kernel, operand, unit
from mace_core.graph import GraphView, Node
from mace_core.tensor import DType

RANGES = {DType.INT8: (-128, 127), DType.UINT8: (0, 255)}


@unit("QuantizeLinear", "DequantizeLinear")
def conversion_node(view: GraphView, node: Node) -> Lowered:
    """Scale and zero point are constants, one of each or one per channel."""
    x, scale = operand(node, 0), fixed(view, node, 1)
    result = node.outputs[0]
    kind = view.tensor_type(x if node.op_type == "DequantizeLinear" or result is None else result)
    if kind is None or kind.dtype not in RANGES:
        raise DeclinedError("the ACME NPU quantizes to int8 and uint8 alone")
    if scale is None or scale.dtype != np.float32 or scale.ndim > 1:
        raise DeclinedError("scales must be float32, one or one per channel")
    zero = fixed(view, node, 2)
    axis = int(node.attr("axis", 1))
    return Lowered(
        (x,),
        {
            "scale": scale.tolist(),
            "zero": np.zeros(scale.shape, np.int64).tolist() if zero is None else zero.tolist(),
            "axis": axis % max(len(view.shape(x)), 1) if scale.ndim else 0,
            "dtype": kind.dtype.label,
        },
    )


def _along(values: float | Sequence[float], rank: int, axis: int) -> Array:
    """Numbers per channel in a shape that broadcasts."""
    array = np.asarray(values)
    return array if array.ndim == 0 else array.reshape([-1 if place == axis else 1 for place in range(rank)])


@kernel("QuantizeLinear")
def quantize(x: Array, *, scale: float | list[float], zero: int | list[int], axis: int, dtype: str) -> Array:
    low, high = RANGES[DType.from_numpy(np.dtype(dtype))]
    steps = np.rint(x / _along(scale, x.ndim, axis).astype(np.float32))
    return np.asarray(np.clip(steps + _along(zero, x.ndim, axis), low, high), dtype)


@kernel("DequantizeLinear")
def dequantize(x: Array, *, scale: float | list[float], zero: int | list[int], axis: int, dtype: str) -> Array:
    shifted = x.astype(np.int32) - _along(zero, x.ndim, axis)
    return np.asarray(shifted, np.float32) * _along(scale, x.ndim, axis).astype(np.float32)
