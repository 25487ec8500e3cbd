"""Operators of ai.onnx.ml (what scikit-learn's models become) as operators of the standard.

Tried like the bodies of the standard's own functions: for nodes that no device claims, where all of what they are made
of is claimed.  Where the standard is silent, they compute what onnxruntime computes.
"""

from __future__ import annotations

from mace_core.graph import Graph, GraphView, Node
from mace_core.scheduler.ml import labels, linear, preparation, trees, vectors
from mace_core.scheduler.ml.registry import BODIES

# Imported for what they register.
_FAMILIES = (labels, linear, preparation, trees, vectors)

__all__ = ["ml_body"]


def ml_body(view: GraphView, node: Node) -> Graph | None:
    """What stands for ``node``, or None where this package knows nothing, or the node makes no sense."""
    return BODIES.build(view, node)
