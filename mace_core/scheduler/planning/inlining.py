"""An If whose way is decided when a signature is planned: the nodes of the branch it takes stand in its place.

So what is around the If and what is in it is one graph, placed and compiled as a whole.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from mace_core.graph import Graph, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.graph.signature import Resolution
from mace_core.scheduler.planning.stages import fragment
from mace_core.tensor import Tensor, TensorType


class Inlined(NamedTuple):
    """A graph in which the branches of some Ifs stand in their place.

    Attributes:
        graph, resolution: the graph, and what is known of it.
        scopes: the Ifs around nodes of branches, "outer/branch" for example.
        decided: those Ifs.
    """

    graph: Graph
    resolution: Resolution
    scopes: Mapping[Node, str] = MappingProxyType({})
    decided: tuple[Node, ...] = ()


class Inlining:
    """The graphs in which decided Ifs are replaced, each made once: a node of theirs is the same in every plan."""

    def __init__(self) -> None:
        self._made: weakref.WeakKeyDictionary[Graph, dict[tuple[Node | Graph, ...], _Inlined]] = (
            weakref.WeakKeyDictionary()
        )

    def inlined(self, graph: Graph, resolution: Resolution) -> Inlined:
        """``graph`` with the branches that a signature takes; as it is where no If in it is decided."""
        decided = list(_decided(graph.nodes, resolution))
        if not decided or not _names_differ(graph, [branch for _, branch in decided]):
            return Inlined(graph, resolution)
        made = self._made.setdefault(graph, {})
        key = tuple(part for pair in decided for part in pair)
        found = made.get(key)
        if found is None:
            found = made[key] = _inline(graph, dict(decided))
        return Inlined(found.graph, found.resolution(resolution), found.scopes, tuple(node for node, _ in decided))


@dataclass(frozen=True, slots=True)
class _Inlined:
    """A graph without its decided Ifs.

    Attributes:
        links: what each result of such an If is, in its branch.
        names: values of branches that have the names of results now.
        copies: nodes that compute or read such values, with those that stand for them.
        scopes: as in `Inlined`.
    """

    graph: Graph
    links: tuple[tuple[Value, Value], ...]
    names: Mapping[Value, Value]
    copies: Mapping[Node, Node]
    scopes: Mapping[Node, str]

    def resolution(self, found: Resolution) -> Resolution:
        """What is known of the graph."""
        types, known = dict(found.types), dict(found.known)
        for outer, inner in self.links:
            if inner in types:
                types[outer] = types[inner]
            if inner in known:
                known[outer] = known[inner]
        blocked = {
            self.copies.get(node, node): tuple(self.names.get(value, value) for value in values)
            for node, values in found.blocked.items()
        }
        return Resolution(types, known, blocked)


def _decided(nodes: Sequence[Node], resolution: Resolution) -> Iterator[tuple[Node, Graph]]:
    """The Ifs whose condition is known, with the branch they take, those in such branches included."""
    for node in nodes:
        if node.domain or node.op_type != "If":
            continue
        branch = _taken_branch(node, resolution.known)
        if branch is not None and all(_is_tensor(value, resolution) for value in branch.outputs):
            yield node, branch
            yield from _decided(branch.nodes, resolution)


def _taken_branch(node: Node, known: Mapping[Value, Tensor]) -> Graph | None:
    condition = node.input(0)
    if condition is None:
        return None
    content = condition.constant if condition.constant is not None else known.get(condition)
    if content is None or content.size != 1:
        return None
    branch = node.attr("then_branch" if bool(content.numpy().reshape(-1)[0]) else "else_branch")
    return branch if isinstance(branch, Graph) and len(branch.outputs) >= len(node.outputs) else None


def _is_tensor(value: Value, resolution: Resolution) -> bool:
    return isinstance(resolution.types.get(value, value.type), TensorType)


def _names_differ(graph: Graph, branches: Sequence[Graph]) -> bool:
    """Whether all values would have names of their own: providers know them by these."""
    names: set[str] = {value.name for value in graph.inputs}
    for members in (graph.nodes, *(branch.nodes for branch in branches)):
        for value in (value for node in members for value in node.outputs if value is not None):
            if value.name in names:
                return False
            names.add(value.name)
    return True


def _inline(graph: Graph, branches: Mapping[Node, Graph]) -> _Inlined:
    """Results are computed under their own names where nothing else in a branch needs them under the other one."""
    links = {
        outer: inner
        for node, branch in branches.items()
        for inner, outer in zip(branch.outputs, node.outputs, strict=False)
        if outer is not None
    }
    nodes = [node for node in _all_nodes(graph.nodes, branches) if node not in branches]
    made = {value for node in (*nodes, *branches) for value in node.outputs}
    captured = {value for node in nodes for value in captured_values(node)}
    uses = Counter(links.values())
    own = {v for node in graph.nodes if node not in branches for v in node.outputs}  # of the graph itself
    renamed = {
        inner: outer
        for outer, inner in links.items()
        if inner in made and inner not in captured and inner not in own and uses[inner] == 1
    }

    def final(value: Value | None) -> Value | None:
        while value is not None and value in renamed:
            value = renamed[value]
        return value

    copies = {node: _copy(node, [final(v) for v in node.inputs], [final(v) for v in node.outputs]) for node in nodes}
    copies = {node: copy for node, copy in copies.items() if copy is not node}
    placed = []
    for node in _all_nodes(graph.nodes, branches):
        if node not in branches:
            placed.append(copies.get(node, node))
            continue
        for outer in node.outputs:
            if outer is not None and links[outer] not in renamed:
                placed.append(_passing(node, final(links[outer]), final(outer)))
    part = fragment(graph, placed, graph.inputs, graph.outputs, name=graph.name)
    names = {inner: named for inner in renamed if (named := final(inner)) is not None}
    innermost = tuple((names.get(outer, outer), inner) for outer, inner in links.items())
    scopes = {copies.get(node, node): scope for node, scope in _scopes(graph.nodes, branches, "") if scope}
    return _Inlined(part, innermost, names, copies, scopes)


def _all_nodes(nodes: Sequence[Node], branches: Mapping[Node, Graph]) -> Iterator[Node]:
    """The nodes in the order in which they run; an If behind those of its branch."""
    for node in nodes:
        if node in branches:
            yield from _all_nodes(branches[node].nodes, branches)
        yield node


def _scopes(nodes: Sequence[Node], branches: Mapping[Node, Graph], scope: str) -> Iterator[tuple[Node, str]]:
    """Nodes with the Ifs around them that are replaced."""
    for node in nodes:
        if node in branches:
            name = next(key for key, attribute in node.attributes.items() if attribute.value is branches[node])
            yield from _scopes(branches[node].nodes, branches, f"{scope}/{node.name}.{name}".lstrip("/"))
        else:
            yield node, scope


def _copy(node: Node, inputs: list[Value | None], outputs: list[Value | None]) -> Node:
    """``node`` over other values; itself where they are the same."""
    if inputs == node.inputs and outputs == node.outputs:
        return node
    copy = Node(
        node.op_type,
        inputs,
        [None] * len(outputs),
        name=node.name,
        domain=node.domain,
        attributes=node.attributes,
        source=node.source,
    )
    copy.outputs[:] = outputs  # the original nodes stay their producers
    return copy


def _passing(node: Node, inner: Value | None, outer: Value | None) -> Node:
    """A node that gives what a branch returns the name of the If's result."""
    assert outer is not None
    passing = Node("Identity", [inner], [None], name=f"{node.name}/{outer.name}", source=node.source)
    passing.outputs[0] = outer
    return passing
