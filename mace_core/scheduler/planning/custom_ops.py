"""Custom operators in a model: finds them and brings in the provider that runs them.  Free where none is used."""

from __future__ import annotations

from collections.abc import Iterator

from mace_core.errors import PluginError
from mace_core.graph import Graph, Node
from mace_core.provider.registry import CUSTOM, Registry


def provide_custom_ops(graph: Graph, registry: Registry) -> bool:
    """Whether some node of ``graph`` is a custom operator; if so, their provider is one of ``registry``'s afterwards.

    Packages that publish operators of the model's domains are imported first.

    Raises:
        PluginError: if such a package fails and an operator is not known without it.
    """
    nodes = list(_foreign_nodes(graph))
    if not nodes:
        return False
    from mace_core.operators.custom.registry import find_custom_op, load_custom_ops

    problems = load_custom_ops(node.domain for node in nodes)
    known = [node for node in nodes if find_custom_op(node.domain, node.op_type) is not None]
    for node in nodes:
        if node.domain in problems and node not in known:
            raise PluginError(
                f"node '{node.name}' is the custom operator {node.qualified_op}, and {problems[node.domain]}"
            )
    if known and CUSTOM not in registry.names():
        from mace_core.scheduler.host.custom_ops import CustomOpsProvider

        registry.register(CustomOpsProvider)
    return bool(known)


def _foreign_nodes(graph: Graph) -> Iterator[Node]:
    """Nodes of domains that are not the standard's, those of nested graphs included."""
    for node in graph.nodes:
        if node.domain and not node.domain.startswith("ai.onnx"):
            yield node
        for body in node.subgraphs():
            yield from _foreign_nodes(body)
