"""Operators of ai.onnx.ml (what scikit-learn's models become) as operators of the standard.

Tried like the bodies of the standard's own functions: for nodes that no device claims, where all of what they are made
of is claimed.  Where the standard is silent, they compute what onnxruntime computes.
"""

from __future__ import annotations

import logging

from mace_core.graph import Graph, GraphView, Node
from mace_core.scheduler.ml import labels, linear, preparation, trees, vectors
from mace_core.scheduler.ml.registry import BODIES, DOMAIN
from mace_core.scheduler.rewriting import BodyBuilder

_log = logging.getLogger("mace")

# Imported for what they register.
_FAMILIES = (labels, linear, preparation, trees, vectors)

__all__ = ["ml_body"]


def ml_body(view: GraphView, node: Node) -> Graph | None:
    """What stands for ``node``, or None where this package knows nothing, or the node makes no sense."""
    found = BODIES.get(node.op_type) if node.domain == DOMAIN else None
    if found is None:
        return None
    builder = BodyBuilder(view, node)
    try:
        return builder.graph if found(builder, node) else None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        _log.info("node '%s' (%s) has no body: %s", node.name, node.qualified_op, error)
        return None
