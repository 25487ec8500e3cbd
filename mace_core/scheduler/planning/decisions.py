"""A placement decided by cost, as what it means for the devices' offers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mace_core.errors import UsageError, UsageTypeError
from mace_core.graph import GraphView, Node
from mace_core.scheduler.costs.rates import Rates
from mace_core.scheduler.placing.choose import Choice
from mace_core.scheduler.placing.predict import Prediction
from mace_core.scheduler.placing.problem import NOWHERE
from mace_core.scheduler.planning.model_times import placement_key
from mace_core.scheduler.planning.partition import CORE_DEVICE, Offer, Partition
from mace_core.scheduler.planning.policy import Policy
from mace_core.scheduler.planning.selection import HOST_PROVIDER
from mace_core.scheduler.planning.stating import Stated, state
from mace_core.scheduler.planning.told_costs import Costs, Elsewhere, Placed, milliseconds

_log = logging.getLogger("mace")

_MEASURES = {"overlapped": "latency"}
"""What objectives are called in explanations, where their names say too little."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided for a stage, with the numbers that it went by."""

    policy: Policy
    stated: Stated
    choice: Choice

    @property
    def quantity(self) -> str:
        """What is least; "" where only the policy knows."""
        if self.policy.objective == "energy" and self.stated.problem.joules is None:
            return "latency"
        return _MEASURES.get(self.policy.objective, self.policy.objective)

    def device_of(self) -> dict[Node, str]:
        """Where each node is to run."""
        names = self.stated.problem.devices
        return {
            node: names[device]
            for unit, device in zip(self.stated.units, self.choice.best.assignment, strict=True)
            for node in unit
        }

    def restricted(self, offers: Sequence[Offer]) -> list[Offer]:
        """The offers without the nodes that are to run elsewhere."""
        chosen = self.device_of()
        found = []
        for offer in offers:
            elsewhere = {
                node: f"the policy '{self.policy.name}' has it on {device}"
                for node, device in chosen.items()
                if device != offer.device
            }
            found.append(offer._replace(banned={**elsewhere, **offer.banned}))
        return found

    def reasons(self) -> dict[Node, str]:
        """Why each node is where it is, one sentence for each partition."""
        best = self.choice.best
        found: dict[Node, str] = {}
        for piece in best.pieces:
            time = f"predicted {milliseconds(piece.seconds)}"
            if piece.moving:
                time += f" and {milliseconds(piece.moving)} for its inputs"
            text = f"by the policy '{self.policy.name}': {time}"
            if self.quantity:
                text = f"least {self.quantity} {text}"
            other = _elsewhere(self, piece.units, piece.device)
            if other is not None:
                text += f"; on {other[0]} {milliseconds(other[1])}"
            for unit in piece.units:
                for node in self.stated.units[unit]:
                    found[node] = text
        return found

    def costs(self, partitions: Sequence[Partition], nodes: Sequence[Node]) -> Costs:
        """The prediction for the partitions that followed from the decision; ``nodes``: all, in order."""
        best, other = self.choice.best, self.choice.runner_up
        unit_of = {node: unit for unit, each in enumerate(self.stated.units) for node in each}
        units = [list(dict.fromkeys(unit_of[node] for node in part.nodes if node in unit_of)) for part in partitions]
        position = {node: place for place, node in enumerate(nodes)}
        elsewhere = () if other is None else tuple(self._elsewhere(other, each, position) for each in units)
        return Costs(
            self.policy.name,
            self._placed(best, unit_of, nodes),
            None if other is None else self._placed(other, unit_of, nodes),
            self._remarks(),
            tuple(self._seconds(best.assignment, each) for each in units),
            elsewhere,
        )

    def _placed(self, prediction: Prediction, unit_of: Mapping[Node, int], nodes: Sequence[Node]) -> Placed:
        names, assignment = self.stated.problem.devices, prediction.assignment
        where = [(node.name, names[assignment[unit_of[node]]] if node in unit_of else CORE_DEVICE) for node in nodes]
        return Placed(_said(self.stated, prediction), placement_key(where))

    def _seconds(self, assignment: Sequence[int], units: Sequence[int]) -> float:
        """The units, a launch for each device, and what they read brought there."""
        problem = self.stated.problem
        seconds = sum(problem.launch[device] for device in {assignment[unit] for unit in units})
        seconds += sum(problem.seconds[unit][assignment[unit]] for unit in units)
        for tensor, device in dict.fromkeys((t, assignment[unit]) for unit in units for t in problem.inputs[unit]):
            producer = problem.tensors[tensor].producer
            seconds += problem.moved(problem.tensors[tensor], assignment[producer] if producer >= 0 else -1, device)
        return seconds

    def _elsewhere(self, other: Prediction, units: Sequence[int], position: Mapping[Node, int]) -> Elsewhere:
        """Where another placement has some units; ``position``: of the nodes, in their order."""
        names, own = self.stated.problem.devices, set(units)
        pieces = [piece for piece in other.pieces if own.intersection(piece.units)]
        is_apart = all(own.issuperset(piece.units) for piece in pieces)
        parts = tuple((names[piece.device], self._names(piece.units, position)) for piece in pieces if is_apart)
        used = dict.fromkeys(names[other.assignment[unit]] for unit in units)
        return Elsewhere(" and ".join(used), self._seconds(other.assignment, units), parts)

    def _names(self, units: Sequence[int], position: Mapping[Node, int]) -> tuple[str, ...]:
        nodes = [node for unit in units for node in self.stated.units[unit]]
        return tuple(node.name for node in sorted(nodes, key=lambda node: position[node]))

    def node_seconds(self) -> Callable[[Node, str], float]:
        """What was predicted for a node on a device; the time of a unit is shared equally."""
        problem = self.stated.problem
        numbers = {name: number for number, name in enumerate(problem.devices)}
        shares = {
            node: tuple(cost / len(nodes) for cost in problem.seconds[unit])
            for unit, nodes in enumerate(self.stated.units)
            for node in nodes
        }

        def seconds(node: Node, device: str) -> float:
            took = shares[node][numbers[device]] if node in shares and device in numbers else 0.0
            return took if took < NOWHERE else 0.0

        return seconds

    def _remarks(self) -> str:
        text = f" ({self.choice.kept_home})" if self.choice.kept_home else ""
        if self.policy.objective == "energy" and self.stated.problem.joules is None:
            text += f"; nobody tells the energy of {' and '.join(sorted(self.stated.no_energy))}: time decides instead"
        return text


def decide(
    policy: Policy,
    view: GraphView,
    offers: Sequence[Offer],
    rates: Mapping[str, Rates],
    pins: Mapping[Node, str],
    control_flow: frozenset[Node],
    times: Mapping[str, Mapping[tuple[str, ...], float]] = MappingProxyType({}),
    runs: Sequence[tuple[Mapping[str, str], float]] = (),
) -> Decision | None:
    """What ``policy`` decides; None where there is nothing to decide.

    Args:
        times, runs: see `state`.
    """
    stated = state(view, offers, rates, pins, control_flow, times, runs)
    if stated is None:
        return None
    choice = policy.decide(stated.problem, _home(offers))
    if policy.decides_itself:
        _check(policy, stated, choice)
    return Decision(policy, stated, choice)


def _check(policy: Policy, stated: Stated, choice: object) -> None:
    """
    Raises:
        UsageError: if what a policy of one's own decided is no placement.
    """
    if not isinstance(choice, Choice):
        raise UsageTypeError(f"policy '{policy.name}' decided {choice!r}, which is not a Choice")
    assignment, problem = choice.best.assignment, stated.problem
    if len(assignment) != problem.units:
        raise UsageError(f"policy '{policy.name}' names {len(assignment)} devices for {problem.units} units")
    for unit, device in enumerate(assignment):
        if device not in problem.can_run(unit):
            raise UsageError(
                f"policy '{policy.name}' has node '{problem.names[unit]}' on device number {device}, which does not"
                " run it; Problem.can_run tells which do"
            )


def _home(offers: Sequence[Offer]) -> int:
    """The device that works on the host's memory, where there is one: leaving it has to pay."""
    return next((n for n, offer in enumerate(offers) if offer.device.startswith(f"{HOST_PROVIDER}:")), 0)


def _elsewhere(decision: Decision, units: Sequence[int], device: int) -> tuple[str, float] | None:
    """The device on which the same units would take least, but for ``device``."""
    problem = decision.stated.problem
    found = [
        (sum(problem.seconds[unit][other] for unit in units) + problem.launch[other], other)
        for other in range(len(problem.devices))
        if other != device and all(other in problem.can_run(unit) for unit in units)
    ]
    if not found:
        return None
    seconds, other = min(found)
    return problem.devices[other], seconds


def _said(stated: Stated, prediction: Prediction) -> str:
    names = dict.fromkeys(stated.problem.devices[piece.device] for piece in prediction.pieces)
    count = len(prediction.pieces)
    text = (
        f"{' and '.join(names)}, {milliseconds(prediction.sequential)} predicted"
        f" in {count} partition{'s' if count != 1 else ''}"
    )
    if prediction.overlapped < 0.99 * prediction.sequential:
        text += f", {milliseconds(prediction.overlapped)} with devices at work at the same time"
    elif prediction.overlapped > 1.01 * prediction.sequential:
        text += f", {milliseconds(prediction.overlapped)} by what runs on these devices took"
    return text
