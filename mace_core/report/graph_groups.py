"""The nodes of a model in groups that can be closed: the modules of the author's model, the scopes in its names, or
pieces of the order in which nodes run.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mace_core.graph import Graph, Node

MOST_TOGETHER = 60
"""Nodes directly within a group; more are divided into pieces, where the model is large."""

ALL_AT_ONCE = 120
"""Nodes of a model that needs no pieces."""

MOST_DEEP = 30
"""Groups within each other; what a longer path says behind them is left out."""

_ENOUGH = 0.5
"""The share of nodes that must tell their module, or have a scope in their name, for that to be used."""


@dataclass(slots=True)
class Group:
    """Nodes and groups within one; ``path`` tells it apart from all others.

    Attributes:
        label: what it is called.
        path: names of the groups around it, and its own.
        members: what is in it, in the order of the graph.
    """

    label: str
    path: tuple[str, ...] = ()
    members: list[Group | Node] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        """All nodes in it, those of groups within too."""
        found: list[Node] = []
        for member in self.members:
            found += member.nodes() if isinstance(member, Group) else [member]
        return found


def groups_of(graph: Graph) -> Group:
    """The outermost group, which is the model; bodies of control flow are groups beside their node."""
    root = Group("the model")
    _fill(root, graph, _paths(graph))
    count = len(root.nodes())
    _simplify(root)
    while len(root.members) == 1 and isinstance(only := root.members[0], Group):  # all of it: says nothing
        root.members = only.members
    if count > ALL_AT_ONCE:
        _divide(root)
    return root


def _fill(root: Group, graph: Graph, paths: Mapping[Node, tuple[str, ...]]) -> None:
    known: dict[tuple[str, ...], Group] = {root.path: root}

    def group(path: tuple[str, ...]) -> Group:
        if path not in known:
            around = group(path[:-1])
            known[path] = made = Group(_label(path[len(root.path) :]), path)
            around.members.append(made)
        return known[path]

    for node in graph.nodes:
        if is_constant(node):
            continue
        place = group((*root.path, *paths.get(node, ())))
        bodies = list(node.subgraphs())
        if not bodies:
            place.members.append(node)
            continue
        whole = Group(f"{node.op_type} {node.name}", (*place.path, f"\0{node.name}"), [])
        place.members.append(whole)
        for name, body in zip(_body_names(node), bodies, strict=True):
            inner = Group(name, (*whole.path, name))
            _fill(inner, body, _paths(body))
            whole.members.append(inner)
        whole.members.append(node)  # after its bodies, whose results it gives


def is_constant(node: Node) -> bool:
    """Whether a node only gives a constant: shown with what reads it, as initializers are."""
    return node.op_type == "Constant" and not node.domain


def _body_names(node: Node) -> list[str]:
    names = []
    for name, attribute in node.attributes.items():
        if attribute.kind.name == "GRAPH":
            names.append(name)
        elif attribute.kind.name == "GRAPHS":
            names += [f"{name} {number}" for number in range(len(attribute.value))]
    return names


def _paths(graph: Graph) -> dict[Node, tuple[str, ...]]:
    """The groups around each node that has any."""
    nodes = [node for node in graph.nodes if not is_constant(node)]
    needed = _ENOUGH * len(nodes)
    modules = {
        node: _parts(origin.module) for node in nodes if (origin := graph.origin_of(node)) is not None and origin.module
    }
    if modules and len(modules) >= needed:
        return modules
    scopes = {node: parts for node in nodes if (parts := _parts(node.name.replace(".", "\1").rpartition("/")[0]))}
    scopes = {node: tuple(part.replace("\1", ".") for part in path) for node, path in scopes.items()}
    return scopes if scopes and len(scopes) >= needed else {}


def _parts(path: str) -> tuple[str, ...]:
    separator = "/" if "/" in path else "."
    return tuple(part for part in path.split(separator) if part)[:MOST_DEEP]


def _label(path: Sequence[str]) -> str:
    """Its own name, with that of what is around it where it is a number."""
    if len(path) > 1 and path[-1].isdigit():
        return f"{path[-2]}.{path[-1]}"
    return path[-1]


def _simplify(group: Group) -> None:
    """Groups of a single node are dissolved, and those of a single group become one with it."""
    members: list[Group | Node] = []
    for member in group.members:
        if isinstance(member, Group):
            _simplify(member)
            while len(member.members) == 1 and isinstance(inner := member.members[0], Group):
                member = Group(f"{member.label} / {inner.label}", inner.path, inner.members)
            if len(member.members) == 1:
                members += member.members
                continue
        members.append(member)
    group.members = members


def _divide(group: Group) -> None:
    """What has too much directly in it gets pieces of neighbors."""
    for member in group.members:
        if isinstance(member, Group):
            _divide(member)
    while len(group.members) > MOST_TOGETHER:
        count = len(group.members)
        pieces = min(MOST_TOGETHER, -(-count // MOST_TOGETHER)) if count <= MOST_TOGETHER**2 else MOST_TOGETHER
        cuts = [count * number // pieces for number in range(pieces + 1)]
        members: list[Group | Node] = []
        for number, (first, last) in enumerate(itertools.pairwise(cuts)):
            inside = group.members[first:last]
            piece = Group("", (*group.path, f"\0piece {number} of {pieces}"), inside)
            piece.label = _summary(piece.nodes())
            members.append(piece)
        group.members = members


def _summary(nodes: Sequence[Node]) -> str:
    counted = Counter(node.op_type for node in nodes).most_common()
    shown = ", ".join(f"{op} ×{count}" if count > 1 else op for op, count in counted[:3])
    return shown + (" …" if len(counted) > 3 else "")
