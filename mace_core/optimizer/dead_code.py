"""Dead code: nodes whose results nobody needs, and constants nobody reads."""

from __future__ import annotations

from typing import ClassVar

from mace_core.graph import Graph, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.optimizer.infra import GraphPass, PassContext, remove_nodes


class RemoveDeadCode(GraphPass):
    """Removes nodes that no output depends on, and initializers that nothing reads."""

    name: ClassVar[str] = "remove dead code"

    def run(self, graph: Graph, context: PassContext) -> int:
        needed: set[Value] = set(graph.outputs)
        dead: set[Node] = set()
        for node in reversed(graph.nodes):
            if any(value in needed for value in node.outputs if value is not None):
                needed.update(value for value in node.inputs if value is not None)
                needed.update(captured_values(node))
            else:
                dead.add(node)
        remove_nodes(graph, dead)
        unread = [name for name, value in graph.initializers.items() if value not in needed]
        for name in unread:
            del graph.initializers[name]
        return len(dead) + len(unread)
