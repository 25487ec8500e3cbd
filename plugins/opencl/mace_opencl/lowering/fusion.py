"""Which elementwise nodes become one kernel, and which of those ride on the product or convolution before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mace_core.graph import GraphView, Node, Value

MAX_TENSORS = 12
"""Tensors one fused kernel reads at most."""


@dataclass(slots=True, eq=False)
class Group:
    """Elementwise nodes in topological order; the last one's output is the only one seen outside.

    Attributes:
        anchor: the product or convolution whose result the group takes over before it is stored; or None.
    """

    nodes: list[Node]
    anchor: Node | None = None
    members: set[Node] = field(default_factory=set)

    @property
    def root(self) -> Node:
        return self.nodes[-1]

    @property
    def result(self) -> Value:
        found = self.root.outputs[0]
        assert found is not None
        return found


def plan_groups(
    view: GraphView,
    is_elementwise: Callable[[Node], bool],
    can_anchor: Callable[[Node, Group], bool],
) -> dict[Node, Group]:
    """The group of each elementwise node and of each anchor that found one."""
    groups: dict[Node, Group] = {}
    for node in reversed(view.nodes):
        if is_elementwise(node):
            group = _joinable(view, node, groups)
            if group is None:
                group = Group([])
            group.nodes.insert(0, node)
            group.members.add(node)
            groups[node] = group
    for node in reversed(view.nodes):
        if node in groups:
            continue
        group = _only_user(view, node, groups)
        if group is not None and group.anchor is None and can_anchor(node, group):
            group.anchor = node
            groups[node] = group
    return groups


def _only_user(view: GraphView, node: Node, groups: dict[Node, Group]) -> Group | None:
    """The one group that all readers of the node's only output belong to; the shapes must be the same."""
    result = node.outputs[0]
    if result is None or view.is_output(result):
        return None
    owners = {id(groups[user]) if user in groups and user in groups[user].members else 0 for user in view.users(result)}
    if len(owners) != 1 or 0 in owners:
        return None
    group = groups[view.users(result)[0]]
    return group if view.shape(result) == view.shape(group.result) else None


def _joinable(view: GraphView, node: Node, groups: dict[Node, Group]) -> Group | None:
    group = _only_user(view, node, groups)
    if group is None:
        return None
    inside = {value for member in group.nodes for value in member.outputs} | set(node.outputs)
    reads = {value for member in (node, *group.nodes) for value in member.inputs if value is not None}
    return group if len(reads - inside) <= MAX_TENSORS else None
