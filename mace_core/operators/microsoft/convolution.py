"""Convolutions with what is fused into them."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import AttributeKind as K
from mace_core.graph import Node
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import check_window
from mace_core.operators.attributes.rule import of_kind
from mace_core.operators.bodies import BodyBuilder, given, kept, made
from mace_core.operators.context import NodeContext
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.microsoft.activation import activated
from mace_core.operators.registry import body, rank_check, shape_function, work_estimate
from mace_core.operators.standard.convolution import conv_shape, macs_of_filters
from mace_core.tensor import TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("FusedConv", domain=DOMAIN, rules={"activation": of_kind(K.STRING)})

rank_check("FusedConv", "NhwcConv", "NhwcFusedConv", domain=DOMAIN)(check_window)


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("FusedConv", domain=DOMAIN)
def fused_conv(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), conv_shape(ctx, 0, 1))]


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("FusedConv", domain=DOMAIN)
def build_fused_conv(b: BodyBuilder, node: Node) -> bool:
    value = b.op("Conv", [given(node, 0), given(node, 1), node.input(2)], kept(node, "activation", "activation_params"))
    added = node.input(3)
    if added is not None:
        value = b.op("Add", [value, added])
    return activated(b, node, value, made(node))


# --- work -------------------------------------------------------------------------------------------------------------

work_estimate("FusedConv", domain=DOMAIN, are_macs=True)(macs_of_filters(1))
