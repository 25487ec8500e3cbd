"""Puts parts of a node, and what joins their results, in the node's place.

With the node go the element-wise nodes behind it that nobody else reads, so that devices fuse them with each part, and
the dequantizations in front of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mace_core.graph import Graph, Node, Value
from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.scheduler.costs.work import ELEMENTWISE
from mace_core.scheduler.planning.split_ways import Cut, Facts, Way
from mace_core.scheduler.planning.stages import Stage, fragment, node_reads
from mace_core.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Link:
    """A node that goes along: what is cut of it, and the axis of its result along which parts are joined."""

    node: Node
    cuts: tuple[Cut, ...]
    axis: int


@dataclass(slots=True)
class Part:
    """The nodes that compute one part, and how many units of how many that is."""

    nodes: list[Node] = field(default_factory=list)
    units: int = 0
    share: float = 0.0


class Splitting:
    """Nodes of a stage that are computed in parts, until `graph` puts them together."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.facts = Facts(stage)
        self._readers: dict[Value, list[Node]] = {}
        for node in stage.graph.nodes:
            for value in node_reads(node):
                self._readers.setdefault(value, []).append(node)
        self._own = set(stage.nodes)
        self._makers = {v: node for node in stage.nodes for v in node.outputs if v is not None}
        self._handed = {*stage.outputs, *stage.graph.outputs}
        names = [node.name for node in stage.graph.nodes]
        names += [value.name for node in stage.graph.nodes for value in (*node.inputs, *node.outputs) if value]
        self._names = set(names)
        self._instead: dict[Node, list[Node]] = {}  # what stands in the place of a node
        self._gone: set[Node] = set()

    def is_taken(self, node: Node) -> bool:
        """Whether parts stand in the place of the node already."""
        return node in self._gone

    def chain(self, node: Node, way: Way) -> list[Link]:
        """The node and those behind it that go along."""
        found = [Link(node, way.cuts, way.axis)]
        while (following := self._following(found[-1], way.each)) is not None:
            found.append(following)
        return found

    def split(self, node: Node, way: Way, units: Sequence[int]) -> list[Part]:
        """Compute ``node`` in parts of so many units, none of them 0."""
        chain = self.chain(node, way)
        last = chain[-1].node.outputs[0]
        assert last is not None and sum(units) == way.units and all(units), "each part has something to do"
        ends = list(itertools.accumulate(units))
        parts, joined, own = [], [], []
        for count, end in zip(units, ends, strict=True):
            part = Part([], count, count / way.units)
            slices: list[Node] = []
            joined.append(self._part(chain, way, end - count, end, part.nodes, slices))
            parts.append(part)
            own += [*slices, *part.nodes]
        maker = last.producer
        join = Node(
            "Concat",
            joined,
            [last],
            name=self._name(f"{node.name}/join"),
            attributes={"axis": Attribute(AttributeKind.INT, chain[-1].axis)},
            source=node.source,
        )
        assert maker is not None
        self._instead[node] = [*own, join]
        self._gone.update(link.node for link in chain)
        return parts

    def graph(self) -> Graph:
        """The graph of the stage with the parts in it."""
        given = self.stage.graph
        gone = self._gone | self._unread()
        nodes = [one for node in given.nodes for one in self._instead.get(node, () if node in gone else (node,))]
        found = fragment(given, nodes, given.inputs, given.outputs, name=given.name)
        found.opset_imports = dict(given.opset_imports)
        return found

    def _unread(self) -> set[Node]:
        """Dequantizations that only nodes read which are not there any more."""
        found = set()
        for node in self.stage.nodes:
            results = [value for value in node.outputs if value is not None]
            if node.op_type == "DequantizeLinear" and not self._handed.intersection(results):
                readers = [reader for value in results for reader in self._readers.get(value, ())]
                if readers and all(reader in self._gone for reader in readers):
                    found.add(node)
        return found

    def _following(self, link: Link, each: int) -> Link | None:
        """The node behind, if it alone reads the result, works element by element on it and is cut in the same way."""
        value = link.node.outputs[0]
        assert value is not None
        readers = self._readers.get(value, [])
        if value in self._handed or len(readers) != 1:
            return None
        node = readers[0]
        if node.domain or node.op_type not in ELEMENTWISE or node not in self._own:
            return None
        places = [place for place, read in enumerate(node.inputs) if read is value]
        others = [read for read in node.inputs if read is not None and read is not value]
        if len(places) != 1 or any(self.facts.content(read) is None for read in others):
            return None
        for lane in self.facts.lanes(node):
            if (places[0], link.axis) in lane.inputs and not lane.stated:
                cuts = tuple(Cut(place, axis, each) for place, axis in lane.inputs if place != places[0])
                return Link(node, cuts, lane.outputs[0][1])
        return None

    def _part(
        self, chain: Sequence[Link], way: Way, start: int, end: int, nodes: list[Node], slices: list[Node]
    ) -> Value:
        """The nodes of one part; its result.

        Their names say which part it is: caches go by the names of nodes.
        """
        tag = f"{way.tag}[{start}:{end}]"
        previous: Value | None = None
        before: Value | None = None
        for link in chain:
            node = link.node
            cuts = {cut.operand: cut for cut in link.cuts}
            inputs: list[Value | None] = []
            for place, value in enumerate(node.inputs):
                if value is None:
                    inputs.append(None)
                elif value is before:
                    inputs.append(previous)
                elif place in cuts:
                    axis, each = cuts[place].axis, cuts[place].each
                    inputs.append(self._cut(value, axis, start * each, end * each, tag, nodes, slices))
                else:
                    inputs.append(self._whole(value, tag, nodes))
            attributes = dict(node.attributes)
            if way.in_groups and link is chain[0]:
                attributes["group"] = replace(attributes["group"], value=end - start)
            before = node.outputs[0]
            assert before is not None
            previous = Value(self._name(f"{before.name}/{tag}"))
            nodes.append(self._like(node, inputs, previous, tag, attributes))
        assert previous is not None
        return previous

    def _like(
        self, node: Node, inputs: Sequence[Value | None], output: Value, tag: str, attributes: dict[str, Attribute]
    ) -> Node:
        name = self._name(f"{node.name}/{tag}")
        return Node(
            node.op_type, inputs, [output], name=name, domain=node.domain, attributes=attributes, source=node.source
        )

    def _whole(self, value: Value, tag: str, nodes: list[Node]) -> Value:
        """All of a value; what is dequantized is so for each part, next to where it is used."""
        maker = self._makers.get(value)
        if maker is None or maker.op_type != "DequantizeLinear":
            return value
        copy = Value(self._name(f"{value.name}/{tag}"))
        nodes.append(self._like(maker, maker.inputs, copy, tag, dict(maker.attributes)))
        return copy

    def _cut(
        self, value: Value, axis: int, start: int, end: int, tag: str, nodes: list[Node], slices: list[Node]
    ) -> Value:
        """Positions ``start`` to ``end`` along an axis of a value."""
        content = self.facts.content(value)
        if content is not None:
            index = (slice(None),) * axis + (slice(start, end),)
            return Value(self._name(f"{value.name}/{tag}"), constant=Tensor.from_numpy(content.numpy()[index]))
        maker = self._makers.get(value)
        if maker is not None and maker.op_type == "DequantizeLinear" and not maker.domain:
            lane = next((lane for lane in self.facts.lanes(maker) if (0, axis) in lane.outputs), None)
            if lane is not None:
                along = dict(lane.inputs)
                inputs = [
                    self._cut(read, along[place], start, end, tag, nodes, slices)
                    if place in along and read is not None
                    else read
                    for place, read in enumerate(maker.inputs)
                ]
                result = Value(self._name(f"{value.name}/{tag}"))
                nodes.append(self._like(maker, inputs, result, tag, dict(maker.attributes)))
                return result
        result = Value(self._name(f"{value.name}/{tag}"))
        bounds = [
            Value(self._name(f"{result.name}/{what}"), constant=Tensor.from_numpy(np.array([number], np.int64)))
            for what, number in (("start", start), ("end", end), ("axis", axis))
        ]
        slices.append(Node("Slice", [value, *bounds], [result], name=self._name(f"{result.name}/slice")))
        return result

    def _name(self, wanted: str) -> str:
        """A name that nothing else has."""
        candidates = itertools.chain((wanted,), (f"{wanted}_{number}" for number in itertools.count(1)))
        found = next(name for name in candidates if name not in self._names)
        self._names.add(found)
        return found


def shared_out(units: int, weights: Sequence[float]) -> list[int]:
    """So many units in proportion to ``weights``, none without any (there are at least as many units)."""
    total = math.fsum(weights)
    exact = [units * weight / total for weight in weights]
    found = [max(1, math.floor(each)) for each in exact]
    while sum(found) < units:
        found[max(range(len(found)), key=lambda n: exact[n] - found[n])] += 1
    while sum(found) > units:
        found[max(range(len(found)), key=lambda n: found[n] - exact[n] if found[n] > 1 else -math.inf)] -= 1
    return found
