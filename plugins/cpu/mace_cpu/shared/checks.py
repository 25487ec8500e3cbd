"""Conditions that many lowerings share, as functions that return a reason or None."""

from __future__ import annotations

from collections.abc import Callable, Collection

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType, TensorType

FLOAT32 = frozenset({DType.FLOAT32})
INTEGERS = frozenset(
    {DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64}
)
NUMBERS = INTEGERS | {DType.FLOAT32, DType.FLOAT64}
NARROW_FLOATS = frozenset(
    {
        DType.FLOAT8E4M3FN,
        DType.FLOAT8E4M3FNUZ,
        DType.FLOAT8E5M2,
        DType.FLOAT8E5M2FNUZ,
        DType.FLOAT8E8M0,
        DType.FLOAT6E2M3,
        DType.FLOAT6E3M2,
        DType.FLOAT4E2M1,
    }
)
SHORT_INTEGERS = frozenset({DType.INT4, DType.UINT4, DType.INT2, DType.UINT2})
NARROW = NARROW_FLOATS | SHORT_INTEGERS
"""What is only stored and converted, not computed with."""

FIXED_WIDTH = NUMBERS | {DType.BOOL, DType.FLOAT16, DType.BFLOAT16, DType.COMPLEX64, DType.COMPLEX128}


def concrete(view: GraphView, value: Value | None) -> str | None:
    """A reason if ``value`` is not a tensor of known shape."""
    if value is None:
        return None
    found = view.type(value)
    if not isinstance(found, TensorType):
        return f"'{value.name}' is not a dense tensor"
    if not found.is_concrete:
        return f"the shape of '{value.name}' is not known before the run"
    return None


def all_concrete(view: GraphView, node: Node) -> str | None:
    """A reason if some input or output has no known shape."""
    for value in (*node.inputs, *node.outputs):
        reason = concrete(view, value)
        if reason is not None:
            return reason
    return None


def dtype_in(view: GraphView, value: Value | None, allowed: Collection[DType]) -> str | None:
    """A reason if the element type of ``value`` is not among ``allowed``."""
    if value is None:
        return None
    found = view.tensor_type(value)
    if found is None or found.dtype not in allowed:
        kind = "unknown" if found is None else found.dtype.label
        return f"'{value.name}' is {kind}; the kernels take {', '.join(sorted(d.label for d in allowed))}"
    return None


def inputs_in(allowed: Collection[DType]) -> Callable[[GraphView, Node], str | None]:
    """A check: shapes known, and every tensor input and output of one of these types."""

    def check(view: GraphView, node: Node) -> str | None:
        reason = all_concrete(view, node)
        for value in (*node.inputs, *node.outputs):
            reason = reason or dtype_in(view, value, allowed)
        return reason

    return check


def movable(view: GraphView, node: Node) -> str | None:
    """A reason if the node's tensors are not of known shape, or strings."""
    reason = all_concrete(view, node)
    if reason is not None:
        return reason
    for value in (*node.inputs, *node.outputs):
        if value is not None:
            found = view.tensor_type(value)
            if found is None or not is_movable(found.dtype):
                kind = "unknown" if found is None else found.dtype.label
                return f"'{value.name}' is {kind}, which has no elements of some number of bytes to move"
    return None


def is_movable(dtype: DType) -> bool:
    return dtype is not DType.STRING
