"""Activations, with a bias or without."""

from __future__ import annotations

import math

from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import flag
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import expect, require
from mace_core.operators.context import NodeContext, same_as_first
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.registry import agreement, body, shape_function

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("BiasSoftmax", domain=DOMAIN, rules={"is_inner_broadcast": flag()})


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "BiasSoftmax", domain=DOMAIN)(same_as_first)


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("BiasGelu", "FastGelu", domain=DOMAIN)
def check_bias_along_the_last_axis(ctx: NodeContext) -> None:
    if ctx.has(1):
        require(len(ctx.shape(0)) > 0, "data with a bias must have at least 1 axis")
        expect(ctx, 1, ctx.shape(0)[-1:], what="the bias")


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("Gelu", "BiasGelu", domain=DOMAIN)
def build_gelu(b: BodyBuilder, node: Node) -> bool:
    x = given(node, 0)
    if node.op_type == "BiasGelu":
        x = b.op("Add", [x, given(node, 1)])
    like = given(node, 0)
    bent = b.op("Erf", [b.op("Mul", [x, b.scalar_like(math.sqrt(0.5), like)])])
    half = b.op("Mul", [x, b.scalar_like(0.5, like)])
    b.op("Mul", [half, b.op("Add", [bent, b.scalar_like(1.0, like)])], into=made(node))
    return True


@body("FastGelu", domain=DOMAIN)
def build_fast_gelu(b: BodyBuilder, node: Node) -> bool:
    """The approximation by tanh."""
    like = x = given(node, 0)
    bias = node.input(1)
    if bias is not None:
        x = b.op("Add", [x, bias])
    cubed = b.op("Mul", [b.op("Mul", [x, x]), x])
    inner = b.op("Add", [x, b.op("Mul", [cubed, b.scalar_like(0.044715, like)])])
    bent = b.op("Tanh", [b.op("Mul", [inner, b.scalar_like(math.sqrt(2.0 / math.pi), like)])])
    half = b.op("Mul", [x, b.scalar_like(0.5, like)])
    b.op("Mul", [half, b.op("Add", [bent, b.scalar_like(1.0, like)])], into=made(node))
    return True


@body("QuickGelu", domain=DOMAIN)
def build_quick_gelu(b: BodyBuilder, node: Node) -> bool:
    x = given(node, 0)
    gate = b.op("Sigmoid", [b.op("Mul", [x, b.scalar_like(float(node.attr("alpha", 1.702)), x)])])
    b.op("Mul", [x, gate], into=made(node))
    return True


def activated(b: BodyBuilder, node: Node, value: Value, into: Value) -> bool:
    """The fused activation; False for one that is not known."""
    name = node.attr("activation", "") or ""
    numbers = [float(number) for number in node.attr("activation_params", ()) or ()]
    if name == "LeakyRelu":
        # FusedConv has a list, FusedGemm a number, older forms of it another name
        alpha = numbers[0] if numbers else float(node.attr("activation_alpha", node.attr("leaky_relu_alpha", 0.01)))
        b.op("LeakyRelu", [value], {"alpha": alpha}, into=into)
    elif name == "Clip" and len(numbers) == 2:
        low = b.op("Max", [value, b.scalar_like(numbers[0], given(node, 0))])
        b.op("Min", [low, b.scalar_like(numbers[1], given(node, 0))], into=into)
    elif name == "HardSigmoid" and len(numbers) == 2:
        b.op("HardSigmoid", [value], {"alpha": numbers[0], "beta": numbers[1]}, into=into)
    elif name in ("Relu", "Tanh", "Sigmoid") or name == "":
        b.op(name or "Identity", [value], into=into)
    else:
        return False
    return True
