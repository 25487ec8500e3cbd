"""Operators of com.microsoft, and forms of old opsets, as operators of the standard.

Tried like the bodies of the standard's own functions: for nodes that no device claims, where all of what they are made
of is claimed.
"""

from __future__ import annotations

from mace_core.graph import Graph, GraphView, Node
from mace_core.scheduler.contrib import (
    activation,
    attention,
    embedding,
    grouped_attention,
    low_bits,
    movement,
    normalization,
    products,
    quantized,
    quantized_layers,
)
from mace_core.scheduler.contrib.old_broadcasting import explicit_broadcasting, is_old
from mace_core.scheduler.contrib.registry import BODIES
from mace_core.scheduler.rewriting import built

# Imported for what they register.
_FAMILIES = (
    activation,
    attention,
    embedding,
    grouped_attention,
    low_bits,
    movement,
    normalization,
    products,
    quantized,
    quantized_layers,
)

__all__ = ["contrib_body", "operators"]


def contrib_body(view: GraphView, node: Node) -> Graph | None:
    """What stands for ``node``, or None where this package knows nothing, or the node makes no sense."""
    if not node.domain and is_old(view):
        return built(explicit_broadcasting, view, node)
    return BODIES.build(view, node)


def operators() -> list[str]:
    """The operators of com.microsoft that have a body."""
    return BODIES.operators()
