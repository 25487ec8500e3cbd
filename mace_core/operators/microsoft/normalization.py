"""Normalizations with what is added before."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Node
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import code, count
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import expect, expect_fit, require
from mace_core.operators.context import NodeContext, same_as_first
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.registry import agreement, body, shape_function
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("GroupNorm", domain=DOMAIN, rules={"activation": code(0, 1), "groups": count(required=True)})


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("GroupNorm", domain=DOMAIN)(same_as_first)


@shape_function("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Output, mean, inverse deviation, and the sum of input and skip."""
    shape = ctx.shape(0)
    statistics = TensorType(DType.FLOAT32, (*shape[:-1], 1))
    return [ctx.type(0), statistics, statistics, ctx.type(0)]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=DOMAIN)
def check_skip_normalized(ctx: NodeContext) -> None:
    shape = ctx.shape(0)
    require(len(shape) >= 2, "the data must have at least 2 axes")
    expect_fit(ctx, 1, shape, "the skipping input")
    for index in range(2, ctx.input_count):
        expect(ctx, index, shape[-1:], what=f"input {index}")


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=DOMAIN)
def build_skip_norm(b: BodyBuilder, node: Node) -> bool:
    """Inputs: data, skip, scale, (shift,) bias; the sum that is normalized is the fourth output."""
    simple = node.op_type == "SkipSimplifiedLayerNormalization"
    if node.output(1) is not None or node.output(2) is not None:
        return False
    bias, total = node.input(3 if simple else 4), node.output(3)
    summed = b.op("Add", [given(node, 0), given(node, 1)], into=None if bias is not None else total)
    if bias is not None:
        summed = b.op("Add", [summed, bias], into=total)
    epsilon = {"epsilon": float(node.attr("epsilon", 1e-12)), "axis": -1}
    if simple:
        b.op("SimplifiedLayerNormalization", [summed, given(node, 2)], epsilon, into=made(node))
    else:
        b.op("LayerNormalization", [summed, given(node, 2), node.input(3)], epsilon, into=made(node))
    return True
