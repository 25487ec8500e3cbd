"""Attributes of training operators: named like those of the standard, and a few of their own."""

from __future__ import annotations

from mace_core.graph.attribute import AttributeKind as K
from mace_core.operators.attributes import attribute_rules, declare_attributes
from mace_core.operators.attributes.rule import Empty, of_kind, one_of
from mace_core.operators.training import DOMAIN

declare_attributes(DOMAIN, {}, base="")
attribute_rules(
    "Gradient",
    domain=DOMAIN,
    rules={
        "xs": of_kind(K.STRINGS, empty=Empty.REFUSED),
        "y": of_kind(K.STRING),
        "zs": of_kind(K.STRINGS),
    },
)
attribute_rules("Momentum", domain=DOMAIN, rules={"mode": one_of("standard", "nesterov")})
