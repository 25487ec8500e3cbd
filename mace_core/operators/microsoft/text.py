"""Texts."""

from __future__ import annotations

from mace_core.graph import AttributeKind as K
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import Empty, flag, of_kind, size
from mace_core.operators.microsoft import DOMAIN

attribute_rules("TfIdfVectorizer", domain=DOMAIN, rules={})
attribute_rules(
    "Tokenizer",
    domain=DOMAIN,
    rules={"mark": flag(), "mincharnum": size(), "separators": of_kind(K.STRINGS, empty=Empty.ALLOWED)},
)
