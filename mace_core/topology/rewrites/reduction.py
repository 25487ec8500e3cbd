"""Reductions and normalizations in the forms that more devices have."""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import Attribute, AttributeKind, Node, Value
from mace_core.operators.bodies import given, made
from mace_core.topology.rule import RuleBuilder, rule

_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_LONGEST_SUM = 4096


def _axes(b: RuleBuilder, node: Node) -> list[int]:
    """Of a reduction, from zero on, in order; empty where it reduces nothing."""
    rank = len(b.shape(given(node, 0)))
    axes = [int(axis) for axis in node.attr("axes") or b.ints(1)]
    if not axes:
        return [] if int(node.attr("noop_with_empty_axes", 0)) else list(range(rank))
    return sorted(axis % rank for axis in axes)


@rule("reduction over fewer axes", *_REDUCTIONS)
def merged_reduction(b: RuleBuilder, node: Node) -> bool:
    x, shape, axes = given(node, 0), b.shape(given(node, 0)), _axes(b, node)
    if len(shape) < 4 or not axes:
        return False
    groups: list[tuple[bool, list[int]]] = []
    for axis in range(len(shape)):
        is_reduced = axis in axes
        if groups and groups[-1][0] == is_reduced:
            groups[-1][1].append(axis)
        else:
            groups.append((is_reduced, [axis]))
    if len(groups) >= len(shape):
        return False
    merged = b.reshaped(x, [math.prod(shape[axis] for axis in group) for _, group in groups])
    small = b.reduced(node.op_type, merged, [i for i, (is_reduced, _) in enumerate(groups) if is_reduced], keep=True)
    b.reshaped(small, b.shape(made(node)), into=made(node))
    return True


@rule("norms and logarithms of sums spelled out", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare")
def spelled_out(b: RuleBuilder, node: Node) -> bool:
    x, axes, keep = given(node, 0), _axes(b, node), bool(int(node.attr("keepdims", 1)))
    if not axes:
        return False
    op = node.op_type
    inner = b.op("Abs", [x]) if op == "ReduceL1" else x if op == "ReduceLogSum" else b.op("Mul", [x, x])
    is_sum = op in ("ReduceL1", "ReduceSumSquare")
    total = b.reduced("ReduceSum", inner, axes, keep=keep, into=made(node) if is_sum else None)
    if not is_sum:
        b.op("Sqrt" if op == "ReduceL2" else "Log", [total], into=made(node))
    return True


@rule("ReduceLogSumExp with the largest taken out", "ReduceLogSumExp")
def log_sum_exp(b: RuleBuilder, node: Node) -> bool:
    x, axes = given(node, 0), _axes(b, node)
    if not axes or not b.dtype(x).is_float:
        return False
    top = b.reduced("ReduceMax", x, axes, keep=True)
    total = b.reduced("ReduceSum", b.op("Exp", [b.op("Sub", [x, top])]), axes, keep=True)
    result = b.op("Add", [b.op("Log", [total]), top])
    b.reshaped(result, b.shape(made(node)), into=made(node))
    return True


@rule("ReduceMean over pictures as GlobalAveragePool", "ReduceMean")
def global_mean(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if len(b.shape(x)) != 4 or _axes(b, node) != [2, 3]:
        return False
    b.reshaped(b.op("GlobalAveragePool", [x]), b.shape(made(node)), into=made(node))
    return True


@rule("global pooling as a reduction", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    axes = list(range(2, len(b.shape(x))))
    names = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
    if node.op_type == "GlobalLpPool":
        p = int(node.attr("p", 2))
        if p not in (1, 2):
            return False
        b.reduced("ReduceL1" if p == 1 else "ReduceL2", x, axes, keep=True, into=made(node))
        return True
    b.reduced(names[node.op_type], x, axes, keep=True, into=made(node))
    return True


@rule("LpNormalization as a division by the norm", "LpNormalization")
def normalized(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    axis = int(node.attr("axis", -1)) % len(b.shape(x))
    norm = b.reduced("ReduceL1" if int(node.attr("p", 2)) == 1 else "ReduceL2", x, [axis], keep=True)
    tiny = b.scalar_like(float(np.finfo(np.float32).tiny), x)  # a vector of zeros stays one
    b.op("Div", [x, b.op("Max", [norm, tiny])], into=made(node))
    return True


def _scaled(b: RuleBuilder, node: Node, x: Value, scale: Value, shift: Value | None) -> None:
    if shift is None:
        b.op("Mul", [x, scale], into=made(node))
    else:
        b.op("Add", [b.op("Mul", [x, scale]), shift], into=made(node))


def _standardized(b: RuleBuilder, x: Value, axes: list[int], epsilon: float) -> Value:
    centered = b.op("Sub", [x, b.reduced("ReduceMean", x, axes, keep=True)])
    variance = b.reduced("ReduceMean", b.op("Mul", [centered, centered]), axes, keep=True)
    return b.op("Div", [centered, b.op("Sqrt", [b.op("Add", [variance, b.scalar_like(epsilon, x)])])])


@rule("InstanceNormalization spelled out", "InstanceNormalization")
def instance_norm(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    rank = len(b.shape(x))
    standard = _standardized(b, x, list(range(2, rank)), float(node.attr("epsilon", 1e-5)))
    column = (1, -1, *[1] * (rank - 2))
    _scaled(b, node, standard, b.reshaped(given(node, 1), column), b.reshaped(given(node, 2), column))
    return True


@rule("GroupNormalization as InstanceNormalization", "GroupNormalization")
def group_norm(b: RuleBuilder, node: Node) -> bool:
    x, groups = given(node, 0), int(node.attr("num_groups"))
    shape = b.shape(x)
    if b.opset < 21 or b.dtype(x).label != "float32":
        return False  # before, scale and bias were for groups
    flat = b.reshaped(x, (shape[0], groups, math.prod(shape[1:]) // groups))
    ones, zeros = (np.full(groups, number, np.float32) for number in (1, 0))
    standard = b.op(
        "InstanceNormalization",
        [flat, b.constant(ones), b.constant(zeros)],
        {"epsilon": float(node.attr("epsilon", 1e-5))},
    )
    column = (1, -1, *[1] * (len(shape) - 2))
    whole = b.reshaped(standard, shape)
    _scaled(b, node, whole, b.reshaped(given(node, 1), column), b.reshaped(given(node, 2), column))
    return True


@rule("LayerNormalization spelled out", "LayerNormalization")
def layer_norm(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if any(output is not None for output in node.outputs[1:]) or b.dtype(x).label != "float32":
        return False
    rank = len(b.shape(x))
    axis = int(node.attr("axis", -1)) % rank
    standard = _standardized(b, x, list(range(axis, rank)), float(node.attr("epsilon", 1e-5)))
    _scaled(b, node, standard, given(node, 1), node.input(2))
    return True


@rule("BatchNormalization as a product and a sum", "BatchNormalization")
def batch_norm(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if int(node.attr("training_mode", 0)) or any(output is not None for output in node.outputs[1:]):
        return False
    scale, shift, mean, variance = (given(node, index) for index in range(1, 5))
    deviation = b.op("Sqrt", [b.op("Add", [variance, b.scalar_like(float(node.attr("epsilon", 1e-5)), variance)])])
    factor = b.op("Div", [scale, deviation])
    offset = b.op("Sub", [shift, b.op("Mul", [mean, factor])])
    column = (1, -1, *[1] * (len(b.shape(x)) - 2))
    _scaled(b, node, x, b.reshaped(factor, column), b.reshaped(offset, column))
    return True


@rule("Softmax over the last axis of a matrix", "Softmax", "LogSoftmax", "Hardmax")
def matrix_softmax(b: RuleBuilder, node: Node) -> bool:
    x, shape = given(node, 0), b.shape(given(node, 0))
    is_old = b.opset < 13
    axis = int(node.attr("axis", 1 if is_old else -1)) % len(shape)
    if is_old:  # over all axes from the given one on
        rows = math.prod(shape[:axis])
        if len(shape) == 2 and axis == 1:
            return False
        flat = b.op(node.op_type, [b.reshaped(x, (rows, math.prod(shape[axis:])))], {"axis": 1})
        b.reshaped(flat, shape, into=made(node))
        return True
    if len(shape) <= 2 and axis == len(shape) - 1:
        return False
    perm = [*(i for i in range(len(shape)) if i != axis), axis]
    turned = x if perm == sorted(perm) else b.turned(x, perm)
    rows = math.prod(shape) // max(shape[axis], 1)
    flat = b.op(node.op_type, [b.reshaped(turned, (rows, shape[axis]))], {"axis": -1})
    back = [perm.index(i) for i in range(len(shape))]
    moved = [shape[i] for i in perm]
    if back == sorted(back):
        b.reshaped(flat, shape, into=made(node))
    else:
        b.turned(b.reshaped(flat, moved), back, into=made(node))
    return True


@rule("LogSoftmax spelled out", "LogSoftmax")
def log_softmax(b: RuleBuilder, node: Node) -> bool:
    x, shape = given(node, 0), b.shape(given(node, 0))
    if b.opset < 13:
        return False
    axes = [int(node.attr("axis", -1)) % len(shape)]
    moved = b.op("Sub", [x, b.reduced("ReduceMax", x, axes, keep=True)])
    total = b.reduced("ReduceSum", b.op("Exp", [moved]), axes, keep=True)
    b.op("Sub", [moved, b.op("Log", [total])], into=made(node))
    return True


@rule("Softmax spelled out", "Softmax")
def softmax(b: RuleBuilder, node: Node) -> bool:
    x, shape = given(node, 0), b.shape(given(node, 0))
    if b.opset < 13:
        return False
    axes = [int(node.attr("axis", -1)) % len(shape)]
    grown = b.op("Exp", [b.op("Sub", [x, b.reduced("ReduceMax", x, axes, keep=True)])])
    b.op("Div", [grown, b.reduced("ReduceSum", grown, axes, keep=True)], into=made(node))
    return True


@rule("CumSum as a product with a triangle of ones", "CumSum")
def running_sum(b: RuleBuilder, node: Node) -> bool:
    x, shape = given(node, 0), b.shape(given(node, 0))
    axis = b.ints(1)[0] % len(shape)
    size = shape[axis]
    if b.dtype(x).label != "float32" or not 0 < size <= _LONGEST_SUM:
        return False
    ones = np.triu(np.ones((size, size), np.float32), 1 if int(node.attr("exclusive", 0)) else 0)
    if int(node.attr("reverse", 0)):
        ones = np.ascontiguousarray(ones.T)
    perm = [*(i for i in range(len(shape)) if i != axis), axis]
    rows = math.prod(shape) // size
    flat = b.reshaped(x if perm == sorted(perm) else b.turned(x, perm), (rows, size))
    summed = b.op("MatMul", [flat, b.constant(ones)])
    if perm == sorted(perm):
        b.reshaped(summed, shape, into=made(node))
    else:
        back = [perm.index(i) for i in range(len(shape))]
        b.turned(b.reshaped(summed, [shape[i] for i in perm]), back, into=made(node))
    return True


@rule("ArgMax and ArgMin as TopK of one", "ArgMax", "ArgMin", exact=True)
def top_one(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if int(node.attr("select_last_index", 0)) or b.opset < 11:
        return False
    rank = len(b.shape(x))
    attributes = {"axis": int(node.attr("axis", 0)) % rank, "largest": int(node.op_type == "ArgMax"), "sorted": 1}
    _, places = b.several("TopK", [x, b.constant([1], "int64")], 2)
    b.graph.nodes[-1].attributes.update({key: Attribute(AttributeKind.INT, one) for key, one in attributes.items()})
    b.reshaped(places, b.shape(made(node)), into=made(node))
    return True
