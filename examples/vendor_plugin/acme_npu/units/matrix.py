"""Matrix products, softmax and normalization."""

from __future__ import annotations

import math

import numpy as np

from acme_npu.units.registry import OPERATORS, Array, DeclinedError, Lowered, fixed, kernel, operand, unit
from mace_core.graph import GraphView, Node

OPERATORS["MatMul"] = np.matmul


@unit("MatMul")
def matmul_node(view: GraphView, node: Node) -> Lowered:
    if view.constant(node.inputs[1]) is None:
        raise DeclinedError("the second operand of MatMul is not constant, and the ACME NPU keeps it in weight memory")
    return Lowered((operand(node, 0), operand(node, 1)))


@unit("Gemm")
def gemm_node(view: GraphView, node: Node) -> Lowered:
    settings = {
        "alpha": float(node.attr("alpha", 1.0)),
        "beta": float(node.attr("beta", 1.0)),
        "transposed": [bool(node.attr("transA", 0)), bool(node.attr("transB", 0))],
    }
    return Lowered(tuple(value for value in node.inputs if value is not None), settings)


@kernel("Gemm")
def gemm(
    a: Array, b: Array, c: Array | None = None, *, alpha: float, beta: float, transposed: tuple[bool, bool]
) -> Array:
    found = np.float32(alpha) * ((a.T if transposed[0] else a) @ (b.T if transposed[1] else b))
    return found if c is None else found + np.float32(beta) * c


@unit("Softmax")
def softmax_node(view: GraphView, node: Node) -> Lowered:
    """Before opset 13 all axes from ``axis`` on were taken together, and it was 1 where none is given."""
    x = operand(node, 0)
    rank = len(view.shape(x))
    flattens = view.opset() < 13
    axis = int(node.attr("axis", 1 if flattens else -1))
    return Lowered((x,), {"axis": axis % rank if axis < 0 else axis, "flattens": flattens})


@kernel("Softmax")
def softmax(x: Array, *, axis: int, flattens: bool) -> Array:
    if flattens:
        return _softmax(x.reshape(math.prod(x.shape[:axis]), -1), 1).reshape(x.shape)
    return _softmax(x, axis)


def _softmax(x: Array, axis: int) -> Array:
    if x.size == 0:
        return x
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    found: Array = powers / powers.sum(axis=axis, keepdims=True)
    return found


@unit("BatchNormalization")
def batch_normalization_node(view: GraphView, node: Node) -> Lowered:
    """Folded into one factor and one summand per channel when the program is assembled."""
    if any(value is not None for value in node.outputs[1:]):
        raise DeclinedError("BatchNormalization with statistics as outputs trains, and the ACME NPU does not")
    if view.opset() < 9:
        raise DeclinedError(f"BatchNormalization as in opset {view.opset()} is not supported")
    scale, bias, mean, variance = (fixed(view, node, index) for index in range(1, 5))
    if scale is None or bias is None or mean is None or variance is None:
        raise DeclinedError("BatchNormalization lacks its statistics")
    factor = scale / np.sqrt(variance + np.float32(node.attr("epsilon", 1e-5)))
    return Lowered((operand(node, 0),), {"factor": factor.tolist(), "summand": (bias - mean * factor).tolist()})


@kernel("BatchNormalization")
def batch_normalization(x: Array, *, factor: list[float], summand: list[float]) -> Array:
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return x * np.array(factor, np.float32).reshape(shape) + np.array(summand, np.float32).reshape(shape)
