"""Computing one node on constants, with ``onnx.reference``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from mace_core.graph import Graph, Node, Value
from mace_core.tensor import Tensor, TensorType

logger = logging.getLogger("mace.optimizer")


def evaluate_node(
    node: Node, inputs: Sequence[Tensor | None], opset_imports: Mapping[str, int]
) -> list[Tensor | None] | None:
    """The outputs of ``node`` for constant inputs, or None where the reference implementation can not compute it.

    Left-out outputs are None.  A model that can not be computed at load time is not wrong yet (the node may sit in a
    branch that never runs), so the failure is logged and the node stays.
    """
    from onnx.reference import ReferenceEvaluator

    from mace_core.frontend.onnx.export import to_onnx

    try:
        graph = _alone(node, inputs, opset_imports)
        evaluator = ReferenceEvaluator(to_onnx(graph))
        given = [tensor.numpy() for tensor in inputs if tensor is not None]
        feeds = {value.name: array for value, array in zip(graph.inputs, given, strict=True)}
        results = evaluator.run(None, feeds)
    except Exception as error:  # the reference implementation raises whatever its numpy code raises
        logger.info("node '%s' (%s) is not folded: %s", node.name, node.op_type, error)
        return None
    arrays = iter(results)
    outputs: list[Tensor | None] = []
    for value in node.outputs:
        array = next(arrays) if value is not None else None
        if array is not None and not isinstance(array, np.ndarray | np.generic):
            return None
        outputs.append(None if array is None else Tensor.from_numpy(np.asarray(array)))
    return outputs


def _alone(node: Node, inputs: Sequence[Tensor | None], opset_imports: Mapping[str, int]) -> Graph:
    """A graph of a copy of ``node`` whose inputs are fed."""
    graph = Graph(node.name)
    graph.opset_imports = dict(opset_imports)
    operands: list[Value | None] = []
    for index, tensor in enumerate(inputs):
        value = None if tensor is None else Value(f"i{index}", TensorType(tensor.dtype, tensor.shape))
        operands.append(value)
        if value is not None:
            graph.inputs.append(value)
    results = [None if value is None else Value(f"o{i}", value.type) for i, value in enumerate(node.outputs)]
    copy = Node(node.op_type, operands, results, name=node.name, domain=node.domain, attributes=node.attributes)
    graph.nodes.append(copy)
    graph.outputs = [value for value in results if value is not None]
    return graph
