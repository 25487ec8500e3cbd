"""The form of a node whose results have no elements: whatever the operator does, it does to nothing."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Graph, GraphView, Node
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.registry import is_deterministic
from mace_core.tensor import TensorType


def empty_results(view: GraphView, node: Node) -> Graph | None:
    """Tensors without elements for every output; None where some output has elements, or its shape is not known.

    A body often cannot be built for a size of 0, by which it would divide.  Of an operator that no package describes
    nothing is known, not even its results' shapes.
    """
    if not is_deterministic(node.domain, node.op_type):
        return None
    builder = BodyBuilder(view, node)
    for output in builder.graph.outputs:
        found = view.tensor_type(output)
        if not isinstance(found, TensorType) or not found.is_concrete or 0 not in found.concrete_shape:
            return None
        builder.op("Identity", [builder.constant(np.empty(found.concrete_shape, found.dtype.numpy))], into=output)
    return builder.graph
