"""What the simulated processor computes, and under which conditions it takes a node."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.tensor import DType

Array = npt.NDArray[np.float32]

MAX_RANK = 4
MAX_ELEMENTS = 1 << 24


def _sigmoid(x: Array) -> Array:
    return (1 / (1 + np.exp(-np.clip(x, -88, 88)))).astype(np.float32)


OPERATORS: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Relu": lambda x: np.maximum(x, np.float32(0)),
    "Sigmoid": _sigmoid,
    "MatMul": np.matmul,
}


def why_not(view: GraphView, node: Node) -> str | None:
    """The reason why the accelerator does not take ``node``; None if it does."""
    if node.domain or node.op_type not in OPERATORS:
        return f"the ACME NPU has no {node.qualified_op} unit; it has {', '.join(sorted(OPERATORS))}"
    for value in (*node.inputs, *node.outputs):
        if value is None:
            continue
        found = view.tensor_type(value)
        if found is None or not found.is_concrete:
            return (
                f"the shape of '{value.name}' is not known before the run, and the ACME NPU compiles for fixed shapes"
            )
        if found.dtype is not DType.FLOAT32:
            return f"'{value.name}' is {found.dtype.label}; the ACME NPU computes in float32"
        shape = found.concrete_shape
        if len(shape) > MAX_RANK or math.prod(shape) > MAX_ELEMENTS:
            limits = f"up to {MAX_RANK} dimensions and {MAX_ELEMENTS} elements"
            return f"'{value.name}' has shape {list(shape)}; the ACME NPU takes {limits}"
    if node.op_type == "MatMul" and view.constant(node.inputs[1]) is None:
        return "the second operand of MatMul is not constant, and the ACME NPU keeps it in weight memory"
    return None
