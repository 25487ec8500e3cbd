"""What every attribute may be, decided in one place for all operators, providers and sources of graphs.

Two halves.  What needs no shapes is settled when a graph is made ready (`settle_attributes`): kinds, allowed values,
ranges, and lists without elements, which are taken away where they mean the same as no list.  What needs the rank of
the data (lengths of lists, axes) is checked when shapes are resolved (`mace_core.operators.attributes.ranks`).
Whoever reads attributes behind that meets only what both let pass.
"""

from mace_core.operators.attributes.settle import (
    attribute_rules,
    declare_attributes,
    rule_for,
    rules_of,
    settle_attributes,
)

__all__ = ["attribute_rules", "declare_attributes", "rule_for", "rules_of", "settle_attributes"]
