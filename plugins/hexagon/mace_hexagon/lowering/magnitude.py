"""How large 64-bit integers can become, which are held in 32 bits."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_hexagon.lowering.carriers import INTEGERS, NARROW
from mace_hexagon.lowering.context import INT32, NodeContext

LARGEST_INPUT = (1 << 30) - 1
"""64-bit integers beyond this are refused when a graph runs, so that sums of two inputs fit."""

_UNKNOWN = 1 << 62
_MAX_DEPTH = 24
_MOVES = frozenset(
    {
        "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Concat", "Split", "Slice", "Gather",
        "GatherElements", "GatherND", "Expand", "Tile", "Where", "Max", "Min", "Abs", "Neg", "ReduceMax", "ReduceMin",
        "Clip", "ScatterElements", "ScatterND", "TopK", "Trilu",
    }
)  # fmt: skip
"""Operators whose results are as large as their operands at most."""


def fits(context: NodeContext) -> bool:
    """Whether the result of an Add, Sub or Mul of 64-bit integers cannot leave the 32 bits."""
    return _of_node(context, context.node, 0) <= INT32.max


def _of(context: NodeContext, value: Value | None, depth: int) -> int:
    if value is None:
        return 0
    held = context.lowering.array(value)
    if held is not None:
        return int(np.abs(held.astype(np.float64)).max()) if held.size else 0
    dtype = context.lowering.dtype(value)
    if dtype in NARROW:
        return 1 << (8 * dtype.numpy.itemsize)
    if dtype is DType.BOOL:
        return 1
    if dtype not in INTEGERS or depth > _MAX_DEPTH:
        return _UNKNOWN
    node = context.lowering.maker(value)
    if node is None:
        return LARGEST_INPUT if dtype in (DType.INT64, DType.UINT64) else _UNKNOWN
    return min(_of_node(context, node, depth + 1), _UNKNOWN)


def _of_node(context: NodeContext, node: Node, depth: int) -> int:
    if node.domain:
        return _UNKNOWN
    parts = [_of(context, value, depth) for value in node.inputs]
    match node.op_type:
        case "Add" | "Sub":
            return sum(parts)
        case "Mul":
            return parts[0] * parts[1]
        case "Div":
            return parts[0]
        case "Mod":
            return parts[1]
        case "Cast":
            return parts[0]
        case "ArgMax" | "ArgMin":
            source = node.inputs[0]
            return _UNKNOWN if source is None else max(context.lowering.shape(source), default=1)
        case name if name in _MOVES:
            return max(parts)
        case _:
            return _UNKNOWN
