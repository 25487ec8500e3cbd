"""Products with a constant behind a DequantizeLinear, and Gathers from one, read the constant as it is stored."""

from __future__ import annotations

import math

from mace_core.graph import Attribute, AttributeKind, GraphView, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.tensor import DType
from mace_cpu.quantized.low_bits.stored import LOW_BITS, stored_weights
from mace_cpu.quantized.low_bits.tables import stored_gather
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.registry import Notes, before_lowering

SMALLEST_WEIGHTS = 16 << 10
"""Fewer numbers are as well turned into floats."""

MOVES = frozenset({"Transpose", "Identity", "Cast"})


class _LowBitsView(GraphView):
    """A view with other nodes in the place of some."""

    def __init__(self, view: GraphView, nodes: list[Node]) -> None:
        vars(self).update(vars(view))
        self._users = None
        self.nodes = tuple(nodes)


@before_lowering(turn=2)
def multiply_stored_weights(view: GraphView, _settings: Settings, _notes: Notes) -> GraphView:
    """``view`` with nodes of `LOW_BITS` for each MatMul, Gemm and Gather whose constants the packed kernels take."""
    producers = {value: node for node in view.nodes for value in node.outputs if value is not None}
    replaced: dict[Node, list[Node]] = {}
    for node in view.nodes:
        found = None if node.domain else _product(view, node, producers) or _gather(view, node, producers)
        if found is not None:
            replaced[node] = found
    if not replaced:
        return view
    nodes = [part for node in view.nodes for part in replaced.get(node, (node,))]
    return _LowBitsView(view, _needed(view, nodes, {producers[_weights(node)] for node in replaced}))


def _weights(node: Node) -> Value:
    """The former floats of a node that has been replaced."""
    return need(node.input(0 if node.op_type == "Gather" else 1))


def _gather(view: GraphView, node: Node, producers: dict[Value, Node]) -> list[Node] | None:
    """The node that stands for a Gather; None where it is something else."""
    if node.op_type != "Gather":
        return None
    source = producers.get(need(node.input(0)))
    if source is None or source.op_type != "DequantizeLinear" or source.domain:
        return None
    stored = view.tensor_type(need(source.input(0)))
    if stored is None or not stored.is_concrete or math.prod(stored.concrete_shape) < SMALLEST_WEIGHTS:
        return None
    made = stored_gather(view, node, source)
    return None if made is None else [made]


def _needed(view: GraphView, nodes: list[Node], weights: set[Node]) -> list[Node]:
    """``nodes`` without those before former weights that nobody reads any more."""
    read = {value for node in nodes for value in (*node.inputs, *captured_values(node))}
    read |= set(view.outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node in weights and not any(value in read for value in node.outputs):
            continue
        kept.append(node)
    return kept[::-1]


def _product(view: GraphView, node: Node, producers: dict[Value, Node]) -> list[Node] | None:
    """The nodes that stand for a MatMul or a Gemm; None where it is something else."""
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    x, weights, result = need(node.input(0)), need(node.input(1)), need(node.output(0))
    kind = view.tensor_type(result)
    if kind is None or kind.dtype is not DType.FLOAT32 or view.constant(x) is not None:
        return None
    if node.op_type == "Gemm" and (
        node.attr("transA", 0) or node.attr("alpha", 1.0) != 1 or (node.attr("beta", 1.0) != 1 and node.input(2))
    ):
        return None
    transposed = bool(node.op_type == "Gemm" and node.attr("transB", 0))
    source = producers.get(weights)
    while source is not None and source.op_type in MOVES and not source.domain:
        if source.op_type == "Transpose":
            transposed = not transposed
        source = producers.get(need(source.input(0)))
    if source is None or source.op_type != "DequantizeLinear" or source.domain:
        return None
    stored = view.tensor_type(need(source.input(0)))
    if stored is None or not stored.is_concrete or math.prod(stored.concrete_shape) < SMALLEST_WEIGHTS:
        return None
    attributes = {"axis": int(source.attr("axis", 1)), "block_size": int(source.attr("block_size", 0))}
    addend = node.input(2) if node.op_type == "Gemm" else None
    target = result if addend is None else Value(f"{result.name}/product", kind)
    made = Node(
        node.op_type,
        [x, *source.inputs],
        [None],
        name=node.name,
        domain=LOW_BITS,
        attributes={
            name: Attribute(AttributeKind.INT, number)
            for name, number in {**attributes, "transposed": int(transposed)}.items()
        },
        source=node.source,
    )
    made.outputs[0] = target  # the original node stays the producer of its own values
    if stored_weights(view, made) is None:
        return None
    if addend is None:
        return [made]
    added = Node("Add", [target, addend], [None], name=f"{node.name}/add", source=node.source)
    added.outputs[0] = result
    return [made, added]
