"""A placement decided by cost, as what it means for the devices' offers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mace_core.errors import UsageError, UsageTypeError
from mace_core.graph import GraphView, Node
from mace_core.scheduler.costs.rates import Rates
from mace_core.scheduler.placing.choose import Choice
from mace_core.scheduler.placing.predict import Prediction
from mace_core.scheduler.placing.problem import NOWHERE
from mace_core.scheduler.planning.partition import Costs, Offer, Partition
from mace_core.scheduler.planning.policy import Policy
from mace_core.scheduler.planning.selection import HOST_PROVIDER
from mace_core.scheduler.planning.stating import Stated, state

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

    def costs(self, partitions: Sequence[Partition]) -> Costs:
        """The prediction for the partitions that followed from the decision."""
        problem = self.stated.problem
        unit_of = {node: unit for unit, nodes in enumerate(self.stated.units) for node in nodes}
        numbers = {name: number for number, name in enumerate(problem.devices)}
        made: dict[int, int] = {}
        for number, device in enumerate(self.choice.best.assignment):
            for tensor in problem.outputs[number]:
                made[tensor] = device
        predicted = []
        for part in partitions:
            device = numbers[part.device]
            units = dict.fromkeys(unit_of[node] for node in part.nodes if node in unit_of)
            seconds = problem.launch[device] + sum(problem.seconds[unit][device] for unit in units)
            for tensor in dict.fromkeys(t for unit in units for t in problem.inputs[unit]):
                seconds += problem.moved(problem.tensors[tensor], made.get(tensor, -1), device)
            predicted.append(seconds)
        return Costs(self.summary(), tuple(predicted))

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

    def summary(self) -> str:
        """The choice and the runner-up, in a sentence."""
        best, other = self.choice.best, self.choice.runner_up
        text = f"policy '{self.policy.name}': {_said(self.stated, best)}"
        if self.choice.kept_home:
            text += f" ({self.choice.kept_home})"
        if other is not None:
            text += f"; next best {_said(self.stated, other)}"
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
) -> Decision | None:
    """What ``policy`` decides; None where there is nothing to decide."""
    stated = state(view, offers, rates, pins, control_flow)
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
    return text


def milliseconds(seconds: float) -> str:
    """``0.123 ms``."""
    return f"{seconds * 1e3:.3g} ms"
