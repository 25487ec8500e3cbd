"""Control flow whose way is known before the run."""

from __future__ import annotations

from typing import ClassVar

from mace_core.graph import Graph, Node, Value
from mace_core.graph.names import free_name
from mace_core.optimizer.infra import GraphPass, PassContext, replace_values


class InlineDecidedIf(GraphPass):
    """Replaces an If whose condition is a constant by the branch it takes."""

    name: ClassVar[str] = "inline decided If"

    def run(self, graph: Graph, context: PassContext) -> int:
        decided = [node for node in graph.nodes if _taken_branch(node) is not None]
        for node in decided:
            body = _taken_branch(node)
            if body is not None:
                _inline(graph, node, body)
        return len(decided)


def _taken_branch(node: Node) -> Graph | None:
    """The branch an If takes, where its condition is a constant."""
    condition = node.input(0)
    if node.domain or node.op_type != "If" or condition is None or condition.constant is None:
        return None
    taken = bool(condition.constant.numpy().reshape(-1)[0])
    branch: Graph = node.attr("then_branch" if taken else "else_branch")
    return branch


def _inline(graph: Graph, node: Node, body: Graph) -> None:
    """Put the nodes of ``body`` where ``node`` stands."""
    _make_names_unique(graph, body, node)
    position = graph.nodes.index(node)
    graph.initializers.update(body.initializers)
    inlined = list(body.nodes)
    replaced: dict[Value, Value] = {}
    for inner, outer in zip(body.outputs, node.outputs, strict=False):
        if outer is None:
            continue
        if outer in graph.outputs:
            # A graph output keeps its name.
            inlined.append(Node("Identity", [inner], [outer], name=f"{node.name}/{outer.name}", source=node.source))
        else:
            replaced[outer] = inner
    graph.nodes[position : position + 1] = inlined
    replace_values(graph, replaced)


def _make_names_unique(graph: Graph, body: Graph, node: Node) -> None:
    """Rename what clashes: sibling bodies may use the same names for values of their own."""
    taken = {value.name for value in graph.inputs} | set(graph.initializers)
    taken.update(value.name for member in graph.nodes for value in member.outputs if value is not None)
    own = [value for member in body.nodes for value in member.outputs if value is not None]
    for value in (*own, *body.initializers.values()):
        value.name = _free(value.name, node, taken)
    body.initializers = {value.name: value for value in body.initializers.values()}
    node_names = {member.name for member in graph.nodes}
    for member in body.nodes:
        member.name = _free(member.name, node, node_names)


def _free(name: str, node: Node, taken: set[str]) -> str:
    """``name``, under that of ``node`` where it is taken, and with a number where that is taken too; now it is."""
    return free_name(f"{node.name}/{name}" if name in taken else name, taken)
