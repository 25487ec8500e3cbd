"""Sums, products and activations."""

from __future__ import annotations

import numpy as np

from acme_npu.units.registry import OPERATORS, Array, DeclinedError, Lowered, fixed, kernel, operand, unit
from mace_core.graph import GraphView, Node

OPERATORS.update({"Add": np.add, "Sub": np.subtract, "Mul": np.multiply})


@unit("Add", "Sub", "Mul", "Relu", "Sigmoid")
def plain(view: GraphView, node: Node) -> Lowered:
    """Operators without attributes."""
    if node.attributes:
        raise DeclinedError(
            f"{node.op_type} with {next(iter(node.attributes))} as in opset {view.opset()} is not supported"
        )
    return Lowered(tuple(value for value in node.inputs if value is not None))


@kernel("Relu")
def relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0))


@kernel("Sigmoid")
def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -88, 88))), np.float32)


@unit("LeakyRelu")
def leaky_relu_node(view: GraphView, node: Node) -> Lowered:
    return Lowered((operand(node, 0),), {"alpha": float(node.attr("alpha", 0.01))})


@kernel("LeakyRelu")
def leaky_relu(x: Array, *, alpha: float) -> Array:
    return np.asarray(np.where(x < 0, x * np.float32(alpha), x))


@unit("Clip")
def clip_node(view: GraphView, node: Node) -> Lowered:
    """The bounds were attributes before opset 11; each may be left out."""
    if view.opset() < 11:
        bounds = [node.attr("min"), node.attr("max")]
    else:
        found = [fixed(view, node, index) for index in (1, 2)]
        bounds = [None if bound is None else float(bound) for bound in found]
    return Lowered((operand(node, 0),), {"low": bounds[0], "high": bounds[1]})


@kernel("Clip")
def clip(x: Array, *, low: float | None, high: float | None) -> Array:
    if low is not None:
        x = np.maximum(x, np.float32(low))
    if high is not None:
        x = np.minimum(x, np.float32(high))
    return x
