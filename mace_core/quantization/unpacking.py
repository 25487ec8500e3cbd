"""Weights that a model keeps narrower than it uses them, made floats: as such they can be quantized like any others.

Exporters store weights as 8-bit or 16-bit numbers behind a Cast, with a Mul for the scale. The optimizer leaves that as
it is, since a session can compute it later and the file stays small; here the file is written anew.
"""

from __future__ import annotations

from collections.abc import Collection

from mace_core.graph import Graph, Node, Value
from mace_core.optimizer.constants import can_fold, replace_by_constants
from mace_core.optimizer.evaluate import ConstantFacts
from mace_core.optimizer.infra import remove_nodes

WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}
"""By operator, the input that holds its weights."""


def unpack_weights(graph: Graph, operators: Collection[str]) -> None:
    """Compute, in place, what these operators read as weights and constants alone decide."""
    makers: dict[Value, Node] = {}
    for node in graph.nodes:
        if can_fold(node) and all(v is None or v.constant is not None or v in makers for v in node.inputs):
            makers |= {value: node for value in node.outputs if value is not None}
    wanted = [
        node.inputs[WEIGHTS[node.op_type]] for node in graph.nodes if node.op_type in operators and not node.domain
    ]
    needed: set[Node] = set()
    waiting = [makers[value] for value in wanted if value in makers]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += [makers[value] for value in node.inputs if value in makers]
    nodes = [node for node in graph.nodes if node in needed]
    if not nodes:
        return
    facts = ConstantFacts(graph, nodes, graph.opset_imports, may_grow=True)
    gone: set[Node] = set()
    for node in nodes:
        contents = facts.contents(node)
        if contents is not None:
            replace_by_constants(graph, node, contents)
            gone.add(node)
    remove_nodes(graph, gone)
