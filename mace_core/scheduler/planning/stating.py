"""States the placement of a stage as a problem of numbers: nodes that stay together are units, claims are choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from mace_core.graph import GraphView, Node, Value
from mace_core.provider import Cost
from mace_core.scheduler.costs.rates import Rates
from mace_core.scheduler.costs.work import bytes_of, works_of
from mace_core.scheduler.placing.problem import NOWHERE, Link, Problem, Tensor
from mace_core.scheduler.planning.corrections import correct, with_runs
from mace_core.scheduler.planning.partition import CORE_DEVICE, Offer, dependencies, taken_alone
from mace_core.scheduler.planning.stages import node_reads


class Stated(NamedTuple):
    """A problem, and the nodes that its units stand for; ``no_energy``: devices of which nobody knows the energy."""

    problem: Problem
    units: tuple[tuple[Node, ...], ...]
    no_energy: frozenset[str] = frozenset()


def state(
    view: GraphView,
    offers: Sequence[Offer],
    rates: Mapping[str, Rates],
    pins: Mapping[Node, str],
    control_flow: frozenset[Node],
    times: Mapping[str, Mapping[tuple[str, ...], float]] = MappingProxyType({}),
    runs: Sequence[tuple[Mapping[str, str], float]] = (),
) -> Stated | None:
    """The problem; None where there is nothing to choose, or units that no device takes as a whole.

    Args:
        view: the whole stage.
        offers: what the devices claim, in order of priority.
        rates: of each device that offers anything.
        pins: the device that a node is pinned to; it has no other where that one takes it.
        control_flow: nodes that the core runs where nobody claims them.
        times: by device what partitions took there, by the names of their nodes: they go over rates and claims.
        runs: what whole runs took, with the device of each node, by its name.
    """
    nodes = view.nodes
    position = {node: index for index, node in enumerate(nodes)}
    taken: dict[str, set[int]] = {}
    groups = list(range(len(nodes)))
    for offer in offers:
        placed, cells = taken_alone(nodes, offer, pins)
        taken[offer.device] = {position[node] for node in placed}
        _join(groups, cells)
    before = dependencies(nodes)
    units = _acyclic_units(groups, before)
    names = [offer.device for offer in offers]
    core = [index for node in control_flow if (index := position.get(node)) is not None]
    if core and all(index not in found for found in taken.values() for index in core):
        names.append(CORE_DEVICE)
        taken[CORE_DEVICE] = set(core)
    rows = []
    costs = {offer.device: _stated(offer, lambda cost: cost.seconds) for offer in offers}
    joules = {offer.device: _stated(offer, lambda cost: cost.joules) for offer in offers}
    works = works_of(nodes, view.type)
    for unit in units:
        pinned = next((pins[nodes[i]] for i in unit if nodes[i] in pins), None)
        row = []
        for device in names:
            can_run = taken[device].issuperset(unit) and (pinned is None or device in (pinned, CORE_DEVICE))
            if not can_run:
                row.append(NOWHERE)
            elif device == CORE_DEVICE:
                row.append(0.0)
            else:
                claimed = [costs[device].get(nodes[i]) for i in unit]
                row.append(
                    sum(
                        rates[device].seconds(works[i]) if seconds is None else seconds
                        for i, seconds in zip(unit, claimed, strict=True)
                    )
                )
        if all(seconds == NOWHERE for seconds in row):
            return None
        rows.append(row)
    named = [[nodes[i].name for i in unit] for unit in units]
    for number, device in enumerate(names):
        if known := times.get(device):
            correct(rows, number, rates[device].launch, named, known)
    energies: list[tuple[float | None, ...]] = [
        tuple(
            _energy([joules.get(device, {}).get(nodes[i]) for i in unit], seconds, rates.get(device))
            for device, seconds in zip(names, row, strict=True)
        )
        for unit, row in zip(units, rows, strict=True)
    ]
    if all(row.count(NOWHERE) == len(row) - 1 for row in rows):
        return None
    unknown = {name for row in energies for name, each in zip(names, row, strict=True) if each is None}
    spent = None if unknown else tuple(tuple(each or 0.0 for each in row) for row in energies)
    problem = _problem(view, units, names, [tuple(row) for row in rows], rates, spent)
    problem = with_runs(problem, named, runs)
    return Stated(problem, tuple(tuple(nodes[i] for i in unit) for unit in units), frozenset(unknown))


def _problem(
    view: GraphView,
    units: Sequence[Sequence[int]],
    names: Sequence[str],
    rows: Sequence[tuple[float, ...]],
    rates: Mapping[str, Rates],
    joules: tuple[tuple[float, ...], ...] | None,
) -> Problem:
    home = {view.nodes[i]: number for number, unit in enumerate(units) for i in unit}
    results = set(view.outputs)
    readers: dict[Value, list[int]] = {}
    for node, number in home.items():
        for value in node_reads(node):
            if value.constant is None and view.constant(value) is None:
                readers.setdefault(value, []).append(number)
    tensors = []
    producers: dict[Value, int] = {
        value: number for node, number in home.items() for value in node.outputs if value is not None
    }
    for value in dict.fromkeys([*readers, *results]):
        producer = producers.get(value, -1)
        read = tuple(sorted({number for number in readers.get(value, ()) if number != producer}))
        if read or (value in results and producer >= 0):
            tensors.append(Tensor(producer, read, bytes_of(view.type(value)), value in results and producer >= 0))
    nothing = Rates(source="")
    found = [rates.get(name, nothing) for name in names]
    return Problem(
        tuple(names),
        tuple(rows),
        tuple(tensors),
        tuple(tuple(_through_host(a, b) for b in found) for a in found),
        tuple((each.to_device, each.from_device) for each in found),
        tuple(each.launch for each in found),
        joules=joules,
        names=tuple(view.nodes[unit[0]].name for unit in units),
        alone=CORE_DEVICE,
    )


def _energy(claimed: Sequence[float | None], seconds: float, rates: Rates | None) -> float | None:
    """Joules of a unit on a device: what its provider claims, else its power and its time; None where nobody knows."""
    if seconds == NOWHERE:
        return NOWHERE
    if claimed and all(each is not None for each in claimed):
        return sum(each for each in claimed if each is not None)
    if rates is None:  # the core, which hardly works
        return 0.0
    return None if rates.watts is None else rates.watts * seconds


def _through_host(source: Rates, target: Rates) -> Link:
    down, up = source.from_device, target.to_device
    return Link(down.seconds + up.seconds, down.seconds_per_byte + up.seconds_per_byte)


def _stated(offer: Offer, quantity: Callable[[Cost], float | None]) -> dict[Node, float]:
    """Seconds or joules by node, where the provider states them for its claims; those of a claim are shared equally."""
    found: dict[Node, float] = {}
    for claim in offer.capability.claims:
        whole = None if claim.cost is None else quantity(claim.cost)
        if whole is not None:
            for node in claim.nodes:
                found.setdefault(node, whole / len(claim.nodes))
    return found


def _join(groups: list[int], cells: Sequence[int]) -> None:
    """Make what is together in ``cells`` together in ``groups``."""
    first: dict[int, int] = {}
    for index, cell in enumerate(cells):
        other = first.setdefault(cell, index)
        a, b = _root(groups, index), _root(groups, other)
        groups[max(a, b)] = min(a, b)


def _root(groups: list[int], index: int) -> int:
    while groups[index] != index:
        groups[index] = groups[groups[index]]
        index = groups[index]
    return index


def _acyclic_units(groups: list[int], before: Sequence[set[int]]) -> list[list[int]]:
    """Groups in an order of computation; those that need each other are one (Tarjan's strongly connected components,
    SIAM Journal on Computing 1(2), 1972, without recursion)."""
    members: dict[int, list[int]] = {}
    for index in range(len(groups)):
        members.setdefault(_root(groups, index), []).append(index)
    needs = {
        root: sorted({_root(groups, p) for index in indices for p in before[index]} - {root})
        for root, indices in members.items()
    }
    found: list[list[int]] = []
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    waiting: set[int] = set()
    for start in members:
        if start in number:
            continue
        work = [(start, iter(needs[start]))]
        number[start] = low[start] = len(number)
        stack.append(start)
        waiting.add(start)
        while work:
            root, rest = work[-1]
            for needed in rest:
                if needed not in number:
                    number[needed] = low[needed] = len(number)
                    stack.append(needed)
                    waiting.add(needed)
                    work.append((needed, iter(needs[needed])))
                    break
                if needed in waiting:
                    low[root] = min(low[root], number[needed])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[root])
                if low[root] == number[root]:
                    component: list[int] = []
                    while not component or component[-1] != root:
                        component.append(stack.pop())
                        waiting.discard(component[-1])
                    found.append(sorted(index for each in component for index in members[each]))
    return found
