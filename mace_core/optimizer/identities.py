"""Nodes that hand their input on unchanged."""

from __future__ import annotations

from collections.abc import Container
from typing import ClassVar

from mace_core.graph import Graph, Node, Value
from mace_core.optimizer.infra import GraphPass, PassContext, final, remove_nodes, replace_values
from mace_core.tensor import TensorType


class RemoveIdentities(GraphPass):
    """Removes Identity, Dropout at inference, Cast to the type at hand, Transpose and Concat that change nothing."""

    name: ClassVar[str] = "remove identities"

    def run(self, graph: Graph, context: PassContext) -> int:
        gone: set[Node] = set()
        replaced: dict[Value, Value] = {}
        outputs = set(graph.outputs)
        read = graph.users().keys() | outputs
        own = {value for node in graph.nodes for value in node.outputs if value is not None}
        for node in graph.nodes:
            source, result = node.input(0), node.output(0)
            if source is None or result is None or not _hands_on(node, context, read):
                continue
            source = final(replaced, source)
            if result in outputs:
                # An output keeps its name: its producer computes it directly, where that is an inner node.
                if source not in own or source in outputs:
                    continue
                _compute_as(source, result)
                replaced[source] = result
            else:
                replaced[result] = source
            gone.add(node)
        remove_nodes(graph, gone)
        replace_values(graph, replaced)
        return len(gone)


def _hands_on(node: Node, context: PassContext, read: Container[Value]) -> bool:
    """Whether the first output of ``node`` always equals its first input."""
    if node.domain:
        return False
    source, result = node.input(0), node.output(0)
    if source is None or result is None:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        return _is_inference_dropout(node, context, read)
    if node.op_type == "Cast":
        return isinstance(source.type, TensorType) and source.type.dtype.value == node.attr("to")
    if node.op_type == "Transpose":
        perm = node.attr("perm")
        return perm is not None and tuple(perm) == tuple(range(len(perm)))
    if node.op_type == "Concat":
        return len(node.inputs) == 1
    return False


def _is_inference_dropout(node: Node, context: PassContext, read: Container[Value]) -> bool:
    mask = node.output(1)
    if mask is not None and mask in read:
        return False
    opset = context.opset_imports.get("", 0)
    if opset < 7:
        return bool(node.attr("is_test", 0))
    training = node.input(2)
    if training is None:
        return True
    return training.constant is not None and not bool(training.constant.numpy())


def _compute_as(source: Value, result: Value) -> None:
    """Let the producer of ``source`` compute ``result`` instead."""
    producer = source.producer
    if producer is None:
        raise ValueError(f"'{source.name}' has no producer")
    producer.outputs = [result if value is source else value for value in producer.outputs]
    result.producer = producer
    if result.type is None:
        result.type = source.type
