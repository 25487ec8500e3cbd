"""Elementwise operators in the forms that more devices have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import given, kept, made
from mace_core.topology.rule import RuleBuilder, rule

_UNARY = (
    "Abs", "Ceil", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus",
    "Softsign", "Sqrt", "Tanh", "Cast", "ThresholdedRelu", "Selu", "Celu",
)  # fmt: skip
_BINARY = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Or",
    "Pow", "PRelu", "Sub", "Where", "Xor",
)  # fmt: skip
_LARGEST_POWER = 8


@rule("elementwise operator on fewer axes", *_UNARY, *_BINARY, exact=True)
def merged_axes(b: RuleBuilder, node: Node) -> bool:
    """Neighboring axes that all operands have, or that all but some lack altogether, are one axis."""
    out = b.shape(made(node))
    if len(out) < 4 or any(output is not None for output in node.outputs[1:]):
        return False
    operands = [value for value in node.inputs[:1] if value is not None]
    if node.op_type in _BINARY:
        operands = [value for value in node.inputs if value is not None]
    shapes = [(1,) * (len(out) - len(b.shape(v))) + tuple(b.shape(v)) for v in operands]
    groups: list[list[int]] = []
    for axis, size in enumerate(out):
        spread = tuple(shape[axis] != size for shape in shapes)  # who is broadcast along it
        before = groups[-1][-1] if groups else None
        if before is not None and (
            1 in (size, out[before]) or spread == tuple(shape[before] != out[before] for shape in shapes)
        ):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if not _same_spread(groups, shapes, out) or len(groups) >= len(out):
        return False
    merged: dict[Value, Value] = {}
    for value, shape in zip(operands, shapes, strict=True):
        if len(b.shape(value)) > 1 or math.prod(b.shape(value)) > 1:
            merged[value] = b.reshaped(value, [math.prod(shape[axis] for axis in group) for group in groups])
    inputs = [value if value is None else merged.get(value, value) for value in node.inputs]
    b.reshaped(b.op(node.op_type, inputs, kept(node)), out, into=made(node))
    return True


def _same_spread(groups: list[list[int]], shapes: list[tuple[int, ...]], out: tuple[int, ...]) -> bool:
    """Whether every operand has all of a group or one element of it."""
    for group in groups:
        whole = math.prod(out[axis] for axis in group)
        for shape in shapes:
            if math.prod(shape[axis] for axis in group) not in (1, whole):
                return False
    return True


@rule("Clip with both bounds", "Clip", exact=True)
def both_bounds(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if "min" in node.attributes or "max" in node.attributes or b.opset < 11 or not b.dtype(x).is_float:
        return False
    low, high = node.input(1), node.input(2)
    if low is not None and high is not None:
        return False
    limits = np.finfo(b.dtype(x).numpy) if b.dtype(x).label != "bfloat16" else None
    if limits is None:
        return False
    bounds = [
        low or b.constant(np.asarray(-np.inf, limits.dtype)),
        high or b.constant(np.asarray(np.inf, limits.dtype)),
    ]
    b.op("Clip", [x, *bounds], into=made(node))
    return True


@rule("Clip as Max and Min", "Clip", exact=True)
def max_and_min(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    low: Any = node.input(1)
    high: Any = node.input(2)
    if b.opset < 11:
        low = b.scalar_like(node.attr("min"), x) if "min" in node.attributes else None
        high = b.scalar_like(node.attr("max"), x) if "max" in node.attributes else None
    steps = [(name, bound) for name, bound in (("Max", low), ("Min", high)) if bound is not None]
    if not steps:
        b.op("Identity", [x], into=made(node))
        return True
    value = x
    for index, (name, bound) in enumerate(steps):
        value = b.op(name, [value, bound], into=made(node) if index == len(steps) - 1 else None)
    return True


@rule("operator of many inputs, two at a time", "Sum", "Max", "Min", "Mean")
def two_at_a_time(b: RuleBuilder, node: Node) -> bool:
    values = [value for value in node.inputs if value is not None]
    name = "Add" if node.op_type in ("Sum", "Mean") else node.op_type
    is_mean = node.op_type == "Mean"
    if len(values) < (3 if name == node.op_type else 2):
        return False
    value = values[0]
    for index, other in enumerate(values[1:]):
        is_last = index == len(values) - 2 and not is_mean
        value = b.op(name, [value, other], into=made(node) if is_last else None)
    if is_mean:
        b.op("Div", [value, b.scalar_like(len(values), value)], into=made(node))
    return True


@rule("Pow by a small whole number as products", "Pow")
def products(b: RuleBuilder, node: Node) -> bool:
    x, exponent = given(node, 0), b.content(given(node, 1))
    if exponent is None or exponent.size != 1 or b.shape(x) != b.shape(made(node)):
        return False
    number = float(exponent.reshape(-1)[0])
    if number == 0.5 and b.dtype(x).is_float:
        b.op("Sqrt", [x], into=made(node))
        return True
    if number != int(number) or not 1 <= number <= _LARGEST_POWER:
        return False
    if number == 1:
        b.op("Identity", [x], into=made(node))
        return True
    value = x
    for index in range(int(number) - 1):
        value = b.op("Mul", [value, x], into=made(node) if index == int(number) - 2 else None)
    return True


@rule("Tan as sine over cosine", "Tan")
def tangent(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    b.op("Div", [b.op("Sin", [x]), b.op("Cos", [x])], into=made(node))
    return True


@rule("IsNaN as a comparison with itself", "IsNaN", exact=True)
def not_itself(b: RuleBuilder, node: Node) -> bool:
    if b.opset < 11:
        return False  # Equal is of whole numbers
    x = given(node, 0)
    b.op("Not", [b.op("Equal", [x, x])], into=made(node))
    return True


@rule("Gelu spelled out", "Gelu")
def gelu_spelled_out(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if node.attr("approximate", "none") in ("tanh", b"tanh"):
        cubed = b.op("Mul", [b.op("Mul", [x, x]), x])
        inner = b.op("Add", [x, b.op("Mul", [cubed, b.scalar_like(0.044715, x)])])
        bent = b.op("Tanh", [b.op("Mul", [inner, b.scalar_like(math.sqrt(2 / math.pi), x)])])
    else:
        bent = b.op("Erf", [b.op("Mul", [x, b.scalar_like(math.sqrt(0.5), x)])])
    half = b.op("Mul", [x, b.scalar_like(0.5, x)])
    b.op("Mul", [half, b.op("Add", [bent, b.scalar_like(1, x)])], into=made(node))
    return True


@rule("Mish spelled out", "Mish")
def mish_spelled_out(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    b.op("Mul", [x, b.op("Tanh", [b.op("Softplus", [x])])], into=made(node))
    return True


@rule("Softplus spelled out", "Softplus")
def softplus_spelled_out(b: RuleBuilder, node: Node) -> bool:
    """max(x, 0) + log(1 + exp(-|x|)): no overflow."""
    x = given(node, 0)
    small = b.op("Log", [b.op("Add", [b.op("Exp", [b.op("Neg", [b.op("Abs", [x])])]), b.scalar_like(1, x)])])
    b.op("Add", [b.op("Relu", [x]), small], into=made(node))
    return True


@rule("HardSwish as a product with HardSigmoid", "HardSwish")
def hard_swish(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    b.op("Mul", [x, b.op("HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5})], into=made(node))
    return True


@rule("HardSigmoid spelled out", "HardSigmoid")
def hard_sigmoid(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    scaled = b.op("Mul", [x, b.scalar_like(float(node.attr("alpha", 0.2)), x)])
    moved = b.op("Add", [scaled, b.scalar_like(float(node.attr("beta", 0.5)), x)])
    b.op("Min", [b.op("Relu", [moved]), b.scalar_like(1, x)], into=made(node))
    return True


@rule("LeakyRelu as Max or Min of products", "LeakyRelu")
def leaky(b: RuleBuilder, node: Node) -> bool:
    x, alpha = given(node, 0), float(node.attr("alpha", 0.01))
    low = b.op("Mul", [x, b.scalar_like(alpha, x)])
    b.op("Max" if alpha <= 1 else "Min", [x, low], into=made(node))
    return True


@rule("Celu, Selu and Elu by Exp", "Celu", "Selu", "Elu")
def exponential(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    default = {"Celu": 1.0, "Elu": 1.0, "Selu": 1.67326319217681884765625}[node.op_type]
    alpha = float(node.attr("alpha", default))
    scale = float(node.attr("gamma", 1.05070102214813232421875)) if node.op_type == "Selu" else 1.0
    low = b.op("Min", [x, b.scalar_like(0, x)])
    if node.op_type == "Celu":
        low = b.op("Div", [low, b.scalar_like(alpha, x)])
    low = b.op("Mul", [b.op("Sub", [b.op("Exp", [low]), b.scalar_like(1, x)]), b.scalar_like(alpha, x)])
    both = b.op("Add", [b.op("Relu", [x]), low], into=made(node) if scale == 1.0 else None)
    if scale != 1.0:
        b.op("Mul", [both, b.scalar_like(scale, x)], into=made(node))
    return True


@rule("Greater and Less or equal by Not", "GreaterOrEqual", "LessOrEqual", exact=True)
def not_less(b: RuleBuilder, node: Node) -> bool:
    """Of whole numbers: with NaN it would not be the same."""
    if not b.dtype(given(node, 0)).is_integer:
        return False
    other = "Less" if node.op_type == "GreaterOrEqual" else "Greater"
    b.op("Not", [b.op(other, node.inputs)], into=made(node))
    return True
