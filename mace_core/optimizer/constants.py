"""Constants: Constant nodes become initializers, and what depends on constants alone is computed once."""

from __future__ import annotations

import logging
import math
from typing import ClassVar

import numpy as np

from mace_core.graph import AttributeKind, Graph, Node, Value
from mace_core.optimizer.common_subexpressions import NON_DETERMINISTIC
from mace_core.optimizer.evaluate import evaluate_node
from mace_core.optimizer.infra import GraphPass, PassContext, remove_nodes
from mace_core.tensor import Tensor

logger = logging.getLogger("mace.optimizer")

MAX_GROWTH_BYTES = 1 << 20
"""A folded node may need this much more memory than the constants it replaces (a Range or Expand can blow up)."""

MAX_TEXT = 1 << 16
"""Characters of texts that are put together when a model is loaded: each of them takes up to four bytes."""

KEPT = frozenset({"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"})
"""Never folded: providers recognise quantised weights by these nodes."""


class LiftConstants(GraphPass):
    """Turns Constant nodes into initializers."""

    name: ClassVar[str] = "lift constants"

    def run(self, graph: Graph, context: PassContext) -> int:
        gone: set[Node] = set()
        for node in graph.nodes:
            if node.domain or node.op_type != "Constant" or node.outputs[0] is None:
                continue
            tensor = constant_payload(node)
            if tensor is None:
                continue
            _make_initializer(graph, node.outputs[0], tensor)
            gone.add(node)
        remove_nodes(graph, gone)
        return len(gone)


class FoldConstants(GraphPass):
    """Computes nodes whose inputs are all constants, with the onnx library's reference implementation."""

    name: ClassVar[str] = "fold constants"

    def run(self, graph: Graph, context: PassContext) -> int:
        gone: set[Node] = set()
        for node in graph.nodes:
            if _can_fold(node) and _fold(graph, node, context):
                gone.add(node)
        remove_nodes(graph, gone)
        return len(gone)


def constant_payload(node: Node) -> Tensor | None:
    """The tensor a Constant node stands for; None for forms kept as nodes (sparse tensors)."""
    for name, attribute in node.attributes.items():
        if name == "value" and attribute.kind is AttributeKind.TENSOR:
            tensor: Tensor = attribute.value
            return tensor
        if name == "value_float":
            return Tensor.from_numpy(np.array(attribute.value, np.float32))
        if name == "value_int":
            return Tensor.from_numpy(np.array(attribute.value, np.int64))
        if name == "value_floats":
            return Tensor.from_numpy(np.array(attribute.value, np.float32))
        if name == "value_ints":
            return Tensor.from_numpy(np.array(attribute.value, np.int64))
        if name == "value_string":
            return Tensor.from_numpy(np.array(attribute.value, dtype=object))
        if name == "value_strings":
            return Tensor.from_numpy(np.array(attribute.value, dtype=object))
    return None


def _can_fold(node: Node) -> bool:
    if node.domain or node.op_type in KEPT or node.op_type in NON_DETERMINISTIC or node.op_type == "Constant":
        return False
    if any(True for _ in node.subgraphs()):
        return False
    return all(value is None or value.constant is not None for value in node.inputs)


def _fold(graph: Graph, node: Node, context: PassContext) -> bool:
    tensors = [None if value is None else value.constant for value in node.inputs]
    if _may_blow_up(node, tensors):
        return False
    results = evaluate_node(node, tensors, context.opset_imports)
    if results is None or any(r is None and v is not None for r, v in zip(results, node.outputs, strict=True)):
        return False
    taken = sum(tensor.nbytes for tensor in set(tensors) if tensor is not None)  # one read twice is there once
    if sum(tensor.nbytes for tensor in results if tensor is not None) > taken + MAX_GROWTH_BYTES:
        return False
    for value, tensor in zip(node.outputs, results, strict=True):
        if value is not None and tensor is not None:
            _make_initializer(graph, value, tensor)
    return True


def _may_blow_up(node: Node, tensors: list[Tensor | None]) -> bool:
    """Whether computing the node could take far more memory than its inputs, judged before computing it."""
    if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Resize", "Upsample", "Pad", "Range", "OneHot", "EyeLike"):
        shape = tensors[0] if node.op_type == "ConstantOfShape" else tensors[-1]
        if node.op_type in ("ConstantOfShape", "Expand") and shape is not None:
            return math.prod(max(int(d), 1) for d in shape.numpy().reshape(-1)) > MAX_GROWTH_BYTES // 8
        if node.op_type == "Range" and all(t is not None and t.size == 1 for t in tensors):
            start, limit, delta = (float(t.numpy().reshape(-1)[0]) for t in tensors if t is not None)
            return delta == 0 or abs((limit - start) / delta) > MAX_GROWTH_BYTES // 8
        return True
    if node.op_type in ("StringConcat", "StringSplit"):
        return sum(len(item) for t in tensors if t is not None for item in t.payload.reshape(-1)) > MAX_TEXT
    if node.op_type in ("MatMul", "Gemm", "Conv", "Einsum", "ConvTranspose"):
        return sum(t.size for t in tensors if t is not None) > MAX_GROWTH_BYTES
    return False


def _make_initializer(graph: Graph, value: Value, tensor: Tensor) -> None:
    constant = Value(value.name, None, tensor)
    value.constant = constant.constant
    value.type = constant.type
    value.producer = None
    graph.initializers[value.name] = value
