"""Gradients."""

from __future__ import annotations

from mace_core.graph.attribute import AttributeKind as K
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import Empty, of_kind
from mace_core.operators.training import DOMAIN

attribute_rules(
    "Gradient",
    domain=DOMAIN,
    rules={
        "xs": of_kind(K.STRINGS, empty=Empty.REFUSED),
        "y": of_kind(K.STRING),
        "zs": of_kind(K.STRINGS),
    },
)
