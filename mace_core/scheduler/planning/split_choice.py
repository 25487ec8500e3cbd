"""Which nodes are split over devices: those that pins ask for, and those where the policy's prediction says it pays."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mace_core.errors import MaceError
from mace_core.graph import Graph, Node
from mace_core.provider import Capability, DeviceKind
from mace_core.scheduler.costs.work import work_of
from mace_core.scheduler.host.core_nodes import runs_in_core
from mace_core.scheduler.placing.objective import Objective
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.partition import Offer, Partition
from mace_core.scheduler.planning.pins import shares_of
from mace_core.scheduler.planning.placement import NumbersNeededError, PlacedStage, ask_capability, views_of
from mace_core.scheduler.planning.split_costs import PartCosts, balanced, weights_of
from mace_core.scheduler.planning.split_ways import SPLIT, Way, ways_of, why_whole
from mace_core.scheduler.planning.splitting import Part, Splitting, shared_out
from mace_core.scheduler.planning.stages import Stage

if TYPE_CHECKING:
    from mace_core.scheduler.costs.rates import Rates
    from mace_core.scheduler.planning.decisions import Decision

_log = logging.getLogger("mace")

LEAST_SECONDS = 200e-6
"""What splitting has to save at least: two devices that are told to begin, and a join, are not free."""

_MOST_SPLITS = 8
"""Nodes of a stage that are split by a policy: those that save most."""

Recut: TypeAlias = "Callable[[Graph], Stage]"


class SplitStage(NamedTuple):
    """A stage in which some nodes may be in parts.

    Attributes:
        stage: to be placed.
        pins: of its nodes, each to one device.
        answers: what devices said of the stage already.
        notes: sentences about what is split.
        reasons: of nodes, why they are where they are.
    """

    stage: Stage
    pins: Mapping[Node, str]
    answers: Mapping[str, Capability]
    notes: tuple[str, ...] = ()
    reasons: Mapping[Node, str] = {}

    def told(self, placed: PlacedStage) -> PlacedStage:
        """``placed``, with what is to be said of parts."""
        if not self.reasons and not self.notes:
            return placed
        found = placed.partitioning
        placements = dict(found.placements)
        for node, reason in self.reasons.items():
            own = placements[node]
            is_elsewhere = node in self.pins and own.device != self.pins[node]
            words = f"{reason}; {own.reason}" if is_elsewhere else reason
            placements[node] = own._replace(reason=words)
        return placed._replace(partitioning=found._replace(placements=placements, splits=self.notes))


def split_nodes(
    stage: Stage,
    pool: DevicePool,
    pins: Mapping[Node, str],
    answers: Mapping[str, Capability],
    recut: Recut,
    *,
    may_pay: bool = True,
) -> SplitStage:
    """``stage`` with those nodes in parts that pins or the policy want so.

    Args:
        pins: of nodes, to one device or to several.
        answers: what devices said of the stage.
        recut: from a graph to its stage.
        may_pay: whether the policy is asked as well.

    Raises:
        NumbersNeededError: if a pin asks for parts and sizes are not decided.
    """
    asked = _asked_for(stage, pool, pins, recut)
    if asked is not None:
        return asked
    found = SplitStage(stage, pins, answers)
    is_whole = pool.policy.split is None or stage.trace is not None or stage.growing is not None
    if is_whole or not may_pay or pool.policy.decides_itself:
        return found
    return _worth_it(found, pool, recut) or found


# --- by pins ----------------------------------------------------------------------------------------------------------


def _asked_for(stage: Stage, pool: DevicePool, pins: Mapping[Node, str], recut: Recut) -> SplitStage | None:
    wanted = {node: pin for node, pin in pins.items() if "+" in pin}
    if not wanted:
        return None
    if stage.trace is not None and any(node in wanted for node in stage.nodes):
        raise NumbersNeededError("nodes are pinned to several devices, which compute parts of decided sizes")
    plain = {node: pin for node, pin in pins.items() if node not in wanted}
    work = Splitting(stage)
    reasons: dict[Node, str] = {}
    notes: list[str] = []
    for node in stage.nodes:
        if node not in wanted or work.is_taken(node):
            continue
        why, parts, way = _parts_asked_for(work, node, wanted[node], pool)
        if way is None:
            reasons[node] = f"pinned to {wanted[node]}, but not split: {why}"
            continue
        names = [share.device for share in shares_of(wanted[node])]
        notes.append(f"{_said(node, way, parts, names)}, as pinned")
        reasons.update(_reasons(node, way, parts))
        plain.update((part, name) for each, name in zip(parts, names, strict=True) for part in each.nodes)
    if not notes:
        return SplitStage(stage, plain, {}, (), reasons)
    return SplitStage(recut(work.graph()), plain, {}, tuple(notes), reasons)


def _parts_asked_for(work: Splitting, node: Node, pin: str, pool: DevicePool) -> tuple[str, list[Part], Way | None]:
    """Why not; else the parts, and how the node is cut."""
    shares = shares_of(pin)
    devices = [pool.find(share.device) for share in shares]
    for share, device in zip(shares, devices, strict=True):
        if device is None or pool.refusal(device) or not pool.ready(device):
            return f"{share.device} is not used", [], None
    why = why_whole(node, work.facts)
    if why:
        return why, [], None
    way = ways_of(node, work.facts)[0]
    if way.units < len(shares):
        return f"it has {way.units} {way.what} for {len(shares)} devices", [], None
    weights = [share.weight for share in shares if share.weight is not None]
    if not weights:
        costs = PartCosts(work.chain(node, way), way, work.facts)
        weights = weights_of(costs, [pool.rates_of(device) for device in devices if device is not None])
    return "", work.split(node, way, shared_out(way.units, weights)), way


# --- by the policy ----------------------------------------------------------------------------------------------------


class _Candidate(NamedTuple):
    """A node that two devices may share."""

    saved: float
    node: Node
    way: Way
    units: tuple[int, int]
    devices: tuple[str, str]


def _worth_it(given: SplitStage, pool: DevicePool, recut: Recut) -> SplitStage | None:
    devices = [device for device in pool.candidates() if not device.is_fallback and not device.only_pinned]
    devices = [device for device in devices if pool.ready(device)]
    if len(devices) < 2:
        return None
    rates = {device.name: pool.rates_of(device) for device in devices}
    known = {name: found for name, found in rates.items() if found is not None}
    if len(known) < len(devices) or not _has_large_nodes(given.stage, known.values()):
        return None
    before = _decision(given.stage, pool, devices, known, given.pins, given.answers)
    if before is None:
        return None
    objective = Objective(pool.policy.objective)
    whole = objective.of(before[0].choice.best)
    least = max((pool.policy.split or 0.0) * whole, LEAST_SECONDS)
    candidates = _candidates(given, devices, known, before[0], least)
    for chosen in (candidates[:_MOST_SPLITS], candidates[:1] if len(candidates) > 1 else []):
        if not chosen:
            continue
        found = _tried(given, chosen, recut)
        after = _decision(found.stage, pool, devices, known, found.pins, {})
        if after is not None:
            took = objective.of(after[0].choice.best)
            if whole - took >= least:
                words = f"{took * 1e3:.3g} ms predicted, {whole * 1e3:.3g} ms without"
                return found._replace(answers=after[1], notes=(f"{'; '.join(found.notes)}: {words}",))
        _log.info("splitting %s does not pay", ", ".join(one.node.name for one in chosen))
        for node in given.stage.graph.nodes:  # the parts took their place there
            for value in node.outputs:
                if value is not None:
                    value.producer = node
    return None


def _has_large_nodes(stage: Stage, rates: Iterable[Rates]) -> bool:
    """Whether some node takes, on every device, more than splitting has to save."""
    nodes = [node for node in stage.nodes if node.op_type in SPLIT and not node.domain]
    works = [work_of(node, lambda value: stage.types.get(value, value.type)) for node in nodes]
    each = list(rates)
    return any(min(one.seconds(work) for one in each) > LEAST_SECONDS for work in works)


def _decision(
    stage: Stage,
    pool: DevicePool,
    devices: Sequence[SessionDevice],
    rates: Mapping[str, Rates],
    pins: Mapping[Node, str],
    answers: Mapping[str, Capability],
) -> tuple[Decision, dict[str, Capability]] | None:
    """What the policy decides for the stage, and what the devices said; None where that cannot be told."""
    from mace_core.scheduler.planning.decisions import decide

    view = views_of(stage, [Partition("", stage.nodes)], stage.graph.name)[0]
    found = dict(answers)
    try:
        for device in devices:
            if device.name not in found:
                found[device.name] = ask_capability(device, view)
    except MaceError as error:  # placing asks again, and tells
        _log.info("nothing is split: %s", error)
        return None
    offers = [Offer(device.name, found[device.name]) for device in devices]
    control_flow = frozenset(node for node in stage.nodes if runs_in_core(node))
    decision = decide(pool.policy, view, offers, rates, pins, control_flow)
    return None if decision is None else (decision, found)


def _candidates(
    given: SplitStage,
    devices: Sequence[SessionDevice],
    rates: Mapping[str, Rates],
    decision: Decision,
    least: float,
) -> list[_Candidate]:
    """Nodes whose parts may be done sooner than the whole; those that save most first."""
    work = Splitting(given.stage)
    kinds = {device.name: device.device.kind for device in devices}
    problem = decision.stated.problem
    unit_of = {node: unit for unit, nodes in enumerate(decision.stated.units) for node in nodes}
    found: list[_Candidate] = []
    for node in given.stage.nodes:
        if node in given.pins or not (ways := ways_of(node, work.facts)):
            continue
        unit = unit_of[node]
        here = problem.devices[decision.choice.best.assignment[unit]]
        if here not in rates or problem.seconds[unit][decision.choice.best.assignment[unit]] < least:
            continue
        way = ways[0]
        costs = PartCosts(work.chain(node, way), way, work.facts)
        best: _Candidate | None = None
        for place, there in enumerate(problem.devices):
            shares_cores = kinds.get(there) is DeviceKind.CPU and kinds[here] is DeviceKind.CPU
            if there == here or there not in rates or shares_cores or place not in problem.can_run(unit):
                continue
            tried = _shared(node, way, costs, here, there, rates)
            if tried.saved >= least and (best is None or tried.saved > best.saved):
                best = tried
        if best is not None:
            found.append(best)
    return sorted(found, key=lambda candidate: -candidate.saved)


def _shared(node: Node, way: Way, costs: PartCosts, here: str, there: str, rates: Mapping[str, Rates]) -> _Candidate:
    near, far = rates[here], rates[there]

    def own(count: int) -> float:
        return costs.seconds(near, count / way.units)

    def other(count: int) -> float:
        share = count / way.units
        return far.launch + costs.moving(near, far, share) + costs.seconds(far, share)

    count, took = balanced(way.units, own, other)
    saved = costs.seconds(near, 1.0) - took - costs.joining(near)
    return _Candidate(saved if math.isfinite(saved) else 0.0, node, way, (count, way.units - count), (here, there))


def _tried(given: SplitStage, chosen: Sequence[_Candidate], recut: Recut) -> SplitStage:
    work = Splitting(given.stage)
    pins, reasons, notes = dict(given.pins), {}, []
    for one in chosen:
        if work.is_taken(one.node):
            continue
        parts = work.split(one.node, one.way, one.units)
        notes.append(_said(one.node, one.way, parts, one.devices))
        reasons.update(_reasons(one.node, one.way, parts))
        pins.update((part, name) for each, name in zip(parts, one.devices, strict=True) for part in each.nodes)
    return SplitStage(recut(work.graph()), pins, {}, tuple(notes), reasons)


# --- words ------------------------------------------------------------------------------------------------------------


def _said(node: Node, way: Way, parts: Sequence[Part], devices: Sequence[str]) -> str:
    shares = ", ".join(f"{part.units} on {name}" for part, name in zip(parts, devices, strict=True))
    return f"'{node.name}' is split: of its {way.units} {way.what} {shares}"


def _reasons(node: Node, way: Way, parts: Sequence[Part]) -> dict[Node, str]:
    return {
        inner: f"{part.units} of the {way.units} {way.what} of '{node.name}', which is split"
        for part in parts
        for inner in part.nodes
    }
