"""Which node goes to which device, and the convex pieces that follow from it.

Devices are asked in order of priority.  A node goes to the first that claims it; an atomic claim is taken whole or not
at all.  Nodes of one device are then gathered into as few pieces as the order of computation allows: piece by piece in
a topological order, so that pieces are convex and do not depend on each other in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from mace_core.errors import MaceError, shorten
from mace_core.graph import Node
from mace_core.graph.graph import captured_values
from mace_core.operators.packages import problem_with
from mace_core.provider import Capability
from mace_core.provider.registry import REFERENCE
from mace_core.scheduler.placing.overlapping import cut_for_overlap
from mace_core.scheduler.placing.pieces import gather_pieces, single_pieces
from mace_core.scheduler.planning.told_costs import Costs

CORE_DEVICE = "core"
"""The name under which control flow, which the core runs itself, shows up."""

PINNED = "pinned by the user"
"""Why a node is where a pin puts it."""


_FIRST_ABLE, _FIRST_CHOICE = _BY_ORDER = "the first device in order that runs it", "first choice"

REFERENCE_DEVICE = f"{REFERENCE}:0"


class Offer(NamedTuple):
    """One device's answer, in order of priority.

    Attributes:
        device: its qualified name.
        capability: what it claims and rejects.
        only_pinned: it may take only nodes that are pinned to it.
        banned: nodes it may not take after all, each with the reason ("compile failed: …").
    """

    device: str
    capability: Capability
    only_pinned: bool = False
    banned: Mapping[Node, str] = MappingProxyType({})


class Placement(NamedTuple):
    """Where a node runs and why; for each device that comes before, why not there."""

    node: Node
    device: str
    reason: str
    declined: Mapping[str, str]


class Partition(NamedTuple):
    """Nodes that run together on one device, in topological order."""

    device: str
    nodes: tuple[Node, ...]


class Partitioning(NamedTuple):
    """Partitions in an order in which they can run, and the placement of every node; ``costs`` where they decided;
    ``splits``: sentences about nodes that several devices compute in parts."""

    partitions: tuple[Partition, ...]
    placements: Mapping[Node, Placement]
    costs: Costs | None = None
    splits: tuple[str, ...] = ()


class UnplacedNodesError(MaceError):
    """Some nodes are claimed by no device."""

    def __init__(self, unplaced: Mapping[Node, Mapping[str, str]], model: str = "") -> None:
        """``unplaced``: for each node the reason of each device; ``model`` as messages call it."""
        self.unplaced = unplaced
        where = f"{model}: " if model else ""
        super().__init__(f"{where}no device runs {summary_of(unplaced)}")


GROUPS_SHOWN = 4
"""Operators with their reasons that an error about nodes without a device lists."""


def summary_of(unplaced: Mapping[Node, Mapping[str, str]]) -> str:
    """``node 'a' (Relu): cpu:0: …; 12 nodes (Conv, the first is 'b'): …``: nodes with the same operator and reasons
    together, the most frequent first."""
    groups: dict[tuple[str, str], list[Node]] = {}
    for node, reasons in unplaced.items():
        whys = "; ".join(f"{device}: {reason}" for device, reason in reasons.items())
        groups.setdefault((node.qualified_op, whys or "no device was asked"), []).append(node)
    texts = []
    for (op, whys), nodes in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = shorten(nodes[0].name, 80)
        who = f"node '{first}' ({shorten(op, 80)})"
        if len(nodes) > 1:
            who = f"{len(nodes)} nodes ({shorten(op, 80)}, the first is '{first}')"
        problem = problem_with(nodes[0].domain)
        texts.append(f"{who}: {shorten(whys, 400)}{'; ' if problem else ''}{shorten(problem, 300)}")
    more = len(texts) - GROUPS_SHOWN
    return "; ".join(texts[:GROUPS_SHOWN]) + (f"; and {more} more kinds of nodes" if more > 0 else "")


def partition(
    nodes: Sequence[Node],
    offers: Sequence[Offer],
    *,
    pins: Mapping[Node, str] | None = None,
    control_flow: frozenset[Node] = frozenset(),
    apart: bool = False,
    reasons: Mapping[Node, str] | None = None,
    seconds: Callable[[Node, str], float] | None = None,
) -> Partitioning:
    """Place ``nodes`` (topologically ordered) on the devices that offer to run them.

    ``pins`` moves a device to the head of the order for single nodes; ``control_flow`` are nodes the core runs itself
    where nobody claims them; ``apart`` leaves every node, or what a device claims as a whole, a partition of its own;
    ``reasons``: why a node is where it is, where more is known than the order of the devices tells; ``seconds``: of a
    node on a device: partitions are cut in two where that lets devices work at the same time.

    Raises:
        UnplacedNodesError: if nobody takes some node.
    """
    work = _Work(nodes, pins or {})
    for offer in offers:
        work.take(offer, respect_pins=True)
    for offer in offers:
        if not offer.only_pinned:
            work.take(offer, respect_pins=False)
    for node in nodes:
        if node not in work.device and node in control_flow:
            work.assign(node, CORE_DEVICE)
    unplaced = {node: work.reasons(node, offers) for node in nodes if node not in work.device}
    if unplaced:
        raise UnplacedNodesError(unplaced)
    placed_on, cells = [work.device[node] for node in nodes], [work.cell[index] for index in range(len(nodes))]
    if apart:
        pieces = single_pieces(placed_on, work.predecessors, cells)
    else:
        pieces = gather_pieces(placed_on, work.predecessors, cells, alone=CORE_DEVICE)
        if seconds is not None and len({device for device, _ in pieces} - {CORE_DEVICE, REFERENCE_DEVICE}) > 1:
            took = [
                0.0 if device in (CORE_DEVICE, REFERENCE_DEVICE) else seconds(node, device)
                for node, device in zip(nodes, placed_on, strict=True)
            ]
            pieces = cut_for_overlap(pieces, work.predecessors, cells, took)
    partitions = tuple(Partition(device, tuple(nodes[i] for i in members)) for device, members in pieces)
    placements = {node: work.placement(node, offers) for node in nodes}
    for node, reason in (reasons or {}).items():
        if placements[node].reason in _BY_ORDER:
            placements[node] = placements[node]._replace(reason=reason)
    return Partitioning(partitions, placements)


def taken_alone(nodes: Sequence[Node], offer: Offer, pins: Mapping[Node, str]) -> tuple[dict[Node, str], Sequence[int]]:
    """What one device would run if there were no others: the nodes, and by number which of all nodes it takes together.

    A node that is pinned elsewhere is not counted out: it is the caller's to see whether that device takes it.
    """
    work = _Work(nodes, {node: device for node, device in pins.items() if device == offer.device})
    work.take(offer, respect_pins=True)
    return work.device, work.cell


def dependencies(nodes: Sequence[Node]) -> list[set[int]]:
    """For each node the indices of the nodes whose results it reads, captured ones included."""
    made = {value: index for index, node in enumerate(nodes) for value in node.outputs if value is not None}
    found: list[set[int]] = []
    for node in nodes:
        reads = [value for value in node.inputs if value is not None]
        reads += captured_values(node)
        found.append({made[value] for value in reads if value in made})
    return found


class _Work:
    """Assignments in progress."""

    def __init__(self, nodes: Sequence[Node], pins: Mapping[Node, str]) -> None:
        self.nodes = nodes
        self.pins = pins
        self.position = {node: index for index, node in enumerate(nodes)}
        self.predecessors = dependencies(nodes)
        self.successors: list[set[int]] = [set() for _ in nodes]
        for index, before in enumerate(self.predecessors):
            for predecessor in before:
                self.successors[predecessor].add(index)
        self.device: dict[Node, str] = {}
        self.cell = list(range(len(nodes)))  # nodes with the same number stay together
        self.members: dict[int, set[int]] = {index: {index} for index in range(len(nodes))}
        self.failed_claims: dict[tuple[Node, str], str] = {}
        self.rejections: dict[str, dict[Node, str]] = {}

    def assign(self, node: Node, device: str) -> None:
        self.device[node] = device

    def take(self, offer: Offer, *, respect_pins: bool) -> None:
        """Give ``offer`` every node it may have."""
        divisible: dict[Node, None] = {}
        for claim in offer.capability.claims:
            if not claim.atomic:
                divisible.update((node, None) for node in claim.nodes if self._free(node, offer, respect_pins))
        for claim in offer.capability.claims:
            if claim.atomic:
                self._take_atomic(claim.nodes, offer, divisible, respect_pins)
        for node in divisible:
            if node not in self.device:
                self.device[node] = offer.device

    def _free(self, node: Node, offer: Offer, respect_pins: bool) -> bool:
        if node in self.device or node in offer.banned or node not in self.position:
            return False
        pinned = self.pins.get(node)
        if respect_pins:
            return pinned == offer.device if (pinned is not None or offer.only_pinned) else True
        return pinned is not None

    def _take_atomic(
        self, nodes: Sequence[Node], offer: Offer, divisible: Mapping[Node, None], respect_pins: bool
    ) -> None:
        """Accept the claim if all its nodes are available and contracting them makes no cycle."""
        taken = [n for n in nodes if self.device.get(n) != offer.device and not self._free(n, offer, respect_pins)]
        if taken:
            self._refuse(nodes, offer, f"its atomic claim needs node '{taken[0].name}', which runs elsewhere")
            return
        group = {member for node in nodes for member in self.members[self.cell[self.position[node]]]}
        between = self._between(group)
        stray = [
            i for i in between if self.device.get(self.nodes[i], "") != offer.device and self.nodes[i] not in divisible
        ]
        if stray:
            self._refuse(
                nodes, offer, f"its atomic claim would make a cycle through node '{self.nodes[stray[0]].name}'"
            )
            return
        group |= between
        label = min(group)
        for index in group:
            self.cell[index] = label
            self.device[self.nodes[index]] = offer.device
        self.members[label] = group

    def _refuse(self, nodes: Sequence[Node], offer: Offer, why: str) -> None:
        for node in nodes:
            self.failed_claims.setdefault((node, offer.device), why)

    def _between(self, group: set[int]) -> set[int]:
        """Nodes outside ``group`` that lie on a path from it back into it, cells counting as one node."""
        behind = self._reach(group, self.successors)
        before = self._reach(group, self.predecessors)
        return (behind & before) - group

    def _reach(self, start: set[int], edges: Sequence[set[int]]) -> set[int]:
        seen = set(start)
        pending = list(start)
        while pending:
            for neighbor in edges[pending.pop()]:
                if neighbor not in seen:
                    whole = self.members[self.cell[neighbor]]
                    seen |= whole
                    pending.extend(whole)
        return seen

    def reasons(self, node: Node, offers: Sequence[Offer], *, until: str | None = None) -> dict[str, str]:
        """Why each device up to ``until`` does not run ``node``."""
        found: dict[str, str] = {}
        for offer in offers:
            if offer.device == until:
                break
            found[offer.device] = self._why_not(node, offer)
        return found

    def _rejections(self, offer: Offer) -> Mapping[Node, str]:
        """The first reason given for each node."""
        found = self.rejections.get(offer.device)
        if found is None:
            found = self.rejections[offer.device] = {}
            for rejection in offer.capability.rejections:
                found.setdefault(rejection.node, rejection.reason)
        return found

    def _why_not(self, node: Node, offer: Offer) -> str:
        if node in offer.banned:
            return offer.banned[node]
        rejected = self._rejections(offer).get(node)
        provider = offer.device.partition(":")[0]
        if rejected is not None:
            return rejected if rejected.strip() else f"the provider '{provider}' rejects it without a reason"
        if (node, offer.device) in self.failed_claims:
            return self.failed_claims[node, offer.device]
        pinned = self.pins.get(node)
        if pinned is not None and pinned != offer.device:
            return f"pinned to {pinned}"
        if offer.only_pinned:
            return "used for pinned nodes only"
        return f"the provider '{provider}' neither claims nor rejects it: report that to its vendor"

    def placement(self, node: Node, offers: Sequence[Offer]) -> Placement:
        device = self.device[node]
        pinned = self.pins.get(node)
        declined = self.reasons(node, offers, until=device)
        if device == CORE_DEVICE:
            flow = any(True for _ in node.subgraphs())
            reason = (
                "control flow, run by the core; its bodies are placed on the devices" if flow else "run by the core"
            )
        elif pinned == device:
            reason = PINNED
        elif pinned is not None:
            offer = next((o for o in offers if o.device == pinned), None)
            why = self._why_not(node, offer) if offer is not None else "no such device is open"
            reason = f"pinned to {pinned}, which declines: {why}"
        elif declined:
            reason = _FIRST_ABLE
        elif device == REFERENCE_DEVICE:
            reason = "no other device was there to ask"
        else:
            reason = _FIRST_CHOICE
        return Placement(node, device, reason, declined)
