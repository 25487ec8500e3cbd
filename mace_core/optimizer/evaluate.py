"""Computing one node on constants, with ``onnx.reference``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from mace_core.graph import Node
from mace_core.tensor import Tensor

logger = logging.getLogger("mace.optimizer")


def evaluate_node(
    node: Node, inputs: Sequence[Tensor | None], opset_imports: Mapping[str, int]
) -> list[Tensor | None] | None:
    """The outputs of ``node`` for constant inputs, or None where the reference implementation can not compute it.

    Left-out outputs are None.  A model that can not be computed at load time is not wrong yet (the node may sit in a
    branch that never runs), so the failure is logged and the node stays.
    """
    from onnx.reference import ReferenceEvaluator

    from mace_core.frontend.onnx.export import node_model

    try:
        model = node_model(node, [None if t is None else (t.dtype, t.shape) for t in inputs], dict(opset_imports))
        evaluator = ReferenceEvaluator(model)
        feeds = {
            name: tensor.numpy()
            for name, tensor in zip(
                [i.name for i in model.graph.input], [t for t in inputs if t is not None], strict=True
            )
        }
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
