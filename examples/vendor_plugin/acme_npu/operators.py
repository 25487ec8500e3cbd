"""Which nodes the simulated processor takes."""

from __future__ import annotations

import math

# Importing the families registers their units.
from acme_npu.units import elementwise, matrix, movement, quantization, windows  # noqa: F401
from acme_npu.units.registry import LOWERINGS, OPERATORS, DeclinedError, Lowered
from mace_core.graph import GraphView, Node
from mace_core.tensor import DType

MAX_RANK = 5
MAX_ELEMENTS = 1 << 24

WHOLE_NUMBERS = frozenset({("MaxPool", 1), ("QuantizeLinear", 0)})
"""(operator, output) that is not float32."""


def why_not(view: GraphView, node: Node) -> str | None:
    """The reason why the accelerator does not take ``node``; None if it does."""
    if node.domain or node.op_type not in LOWERINGS:
        return f"the ACME NPU has no {node.qualified_op} unit; it has {', '.join(sorted(LOWERINGS))}"
    try:
        operands = lowered(view, node).operands
    except DeclinedError as declined:
        return str(declined)
    results = [value for place, value in enumerate(node.outputs) if (node.op_type, place) not in WHOLE_NUMBERS]
    for value in (*(operands if node.op_type != "DequantizeLinear" else ()), *results):
        found = None if value is None else view.tensor_type(value)
        if value is not None and found is not None and found.dtype is not DType.FLOAT32:
            return f"'{value.name}' is {found.dtype.label}; the ACME NPU computes in float32"
    return None


def lowered(view: GraphView, node: Node) -> Lowered:
    """A node as its unit takes it.

    Raises:
        DeclinedError: if it does not take it.
    """
    for value in (*node.inputs, *node.outputs):
        found = None if value is None else view.tensor_type(value)
        if value is None:
            continue
        if found is None or not found.is_concrete:
            raise DeclinedError(
                f"the shape of '{value.name}' is not known before the run, and the ACME NPU compiles for fixed shapes"
            )
        shape = found.concrete_shape
        if len(shape) > MAX_RANK or math.prod(shape) > MAX_ELEMENTS:
            limits = f"up to {MAX_RANK} dimensions and {MAX_ELEMENTS} elements"
            raise DeclinedError(f"'{value.name}' has shape {list(shape)}; the ACME NPU takes {limits}")
    return LOWERINGS[node.op_type](view, node)


__all__ = ["OPERATORS", "lowered", "why_not"]
