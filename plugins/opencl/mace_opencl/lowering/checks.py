"""Reasons to decline a node, shared by all families of operators."""

from __future__ import annotations

import math
from collections.abc import Collection

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType

MAX_ELEMENTS = 2**31 - 1
"""Kernels count elements of one tensor in 32 bits."""

MAX_RANK = 8

FLOAT = frozenset({DType.FLOAT32})
NUMBERS = frozenset({DType.FLOAT32, DType.INT32, DType.INT64})
MOVABLE = frozenset(dtype for dtype in DType if dtype.bits in (8, 16, 32, 64))
"""Element types that can be copied without looking at them."""


def shape_reason(view: GraphView, node: Node) -> str | None:
    """Why the shapes of ``node`` cannot be handled."""
    for value in (*node.inputs, *node.outputs):
        if value is None:
            continue
        found = view.tensor_type(value)
        if found is None or not found.is_concrete:
            return f"the shape of '{value.name}' is not known before the run, and kernels are launched for fixed shapes"
        shape = found.concrete_shape
        if len(shape) > MAX_RANK:
            return f"'{value.name}' has {len(shape)} dimensions; at most {MAX_RANK} are supported"
        if math.prod(shape) > MAX_ELEMENTS:
            return f"'{value.name}' has {math.prod(shape)} elements; at most {MAX_ELEMENTS} are supported"
    return None


def dtype_reason(view: GraphView, node: Node, allowed: Collection[DType], *, only: Collection[int] = ()) -> str | None:
    """Why the element types cannot be handled; ``only`` restricts the check to these inputs (and all outputs)."""
    inputs = [value for index, value in enumerate(node.inputs) if not only or index in only]
    for value in (*inputs, *node.outputs):
        if value is None:
            continue
        dtype = dtype_of(view, value)
        if dtype not in allowed:
            names = ", ".join(sorted(one.label for one in allowed))
            return f"'{value.name}' is {dtype.label}; {node.op_type} is computed in {names} here"
    return None


def constant_reason(view: GraphView, node: Node, *indices: int) -> str | None:
    """Why the inputs ``indices`` cannot be used: they must be known when the kernels are made."""
    for index in indices:
        value = node.input(index)
        if value is not None and view.constant(value) is None:
            return f"'{value.name}' (input {index}) is computed during the run; {node.op_type} needs it as a constant"
    return None


def outputs_reason(node: Node, count: int = 1) -> str | None:
    """Why further outputs cannot be had."""
    for value in node.outputs[count:]:
        if value is not None:
            return f"the output '{value.name}' of {node.op_type} is not computed here"
    return None


def dtype_of(view: GraphView, value: Value) -> DType:
    """The element type of a tensor whose shape was checked."""
    found = view.tensor_type(value)
    if found is None:
        raise ValueError(f"the type of '{value.name}' is not known")
    return found.dtype
