"""Faults of ``onnx.reference`` that would make results wrong, and the equivalent forms that avoid them."""

from __future__ import annotations

from collections.abc import Mapping

from mace_core.graph import Attribute, AttributeKind, Node

_INFERENCE_BATCH_NORMALIZATION = range(7, 14)
"""Opsets whose BatchNormalization with one output means inference.

The reference implementation of these versions normalises with statistics of the batch as soon as ``momentum`` is set,
which its default always does (seen in onnx 1.23).
"""


def sound_form(node: Node, opset_imports: Mapping[str, int]) -> tuple[Node, Mapping[str, int]]:
    """The node and opsets to evaluate in place of ``node``; usually the same.

    The returned node shares the values of ``node`` without becoming their producer.
    """
    opset = opset_imports.get("", 0)
    if node.domain or node.op_type != "BatchNormalization" or opset not in _INFERENCE_BATCH_NORMALIZATION:
        return node, opset_imports
    if any(value is not None for value in node.outputs[1:]):
        return node, opset_imports
    kept = {name: attribute for name, attribute in node.attributes.items() if name == "epsilon"}
    kept["training_mode"] = Attribute(AttributeKind.INT, 0)
    twin = Node(node.op_type, node.inputs, (), name=node.name, attributes=kept)
    twin.outputs = node.outputs[:1]
    return twin, {**opset_imports, "": 15}
