"""The best placement that the searches find, held to the limits that a user sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mace_core.scheduler.placing.baselines import first_takes_all, greedy_neighbours, heft
from mace_core.scheduler.placing.coarse import coarsened
from mace_core.scheduler.placing.frontier import cheapest
from mace_core.scheduler.placing.objective import Objective
from mace_core.scheduler.placing.predict import Prediction, predict
from mace_core.scheduler.placing.problem import Assignment, Problem

_BALANCING_ROUNDS = 4
_REFINING_ROUNDS = 4
_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
"""Seconds that a launch is made dearer by, to find placements of fewer partitions; each is tried only where the one
before left too many."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What keeps a placement simple.

    Attributes:
        partitions: the most pieces.
        gain: the least share of the cost of a run that leaving the home device must save.
        seconds: the least time that it must save.
    """

    partitions: int = 16
    gain: float = 0.03
    seconds: float = 20e-6


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and what else there was.

    Attributes:
        best: the placement.
        runner_up: the best one that uses other devices; None where there is none.
        others: the known rules by name, and what they would cost.
        is_optimal: no assignment is cheaper by the search's own count.
        kept_home: why a cheaper placement was not taken; "" where the cheapest was.
    """

    best: Prediction
    runner_up: Prediction | None
    others: Mapping[str, Prediction]
    is_optimal: bool
    kept_home: str = ""


def choose(problem: Problem, objective: Objective, *, home: int = 0, limits: Limits | None = None) -> Choice:
    """Search, compare with the known rules, and hold the result to ``limits``.

    The result is never dearer than any of the known rules that keep the limits: they are among the candidates.

    Args:
        home: the device that units leave only where that pays.
    """
    limits = limits or Limits()
    others = {name: predict(problem, found) for name, found in _rules(problem, home)}
    searched = cheapest(problem, objective.additive(problem))
    candidates = {prediction.assignment: prediction for prediction in others.values()}
    for assignment in (searched.assignment, *_balanced(problem, objective)):
        if assignment not in candidates:
            candidates[assignment] = predict(problem, assignment)
    if len(candidates[searched.assignment].pieces) > limits.partitions:
        for penalty in _PENALTIES:
            fewer = predict(
                problem, cheapest(problem, objective.additive(problem), penalty=penalty, limit=64).assignment
            )
            candidates[fewer.assignment] = fewer
            if len(fewer.pieces) <= limits.partitions:
                break
    ordered = sorted(candidates.values(), key=objective.of)
    simple = [found for found in ordered if len(found.pieces) <= limits.partitions]
    best = simple[0] if simple else min(ordered, key=lambda found: len(found.pieces))
    best = _refined(problem, objective, best, max(limits.partitions, len(best.pieces)))
    best, why = _worth_leaving(problem, objective, best, others[_HOME], home, limits)
    runner_up = next((other for other in simple or ordered if set(other.assignment) != set(best.assignment)), None)
    return Choice(best, runner_up, others, searched.is_optimal, why)


_HOME = "home device first"


def _rules(problem: Problem, home: int) -> Iterator[tuple[str, Assignment]]:
    devices = range(len(problem.devices))
    yield "first provider takes all", first_takes_all(problem)
    yield _HOME, first_takes_all(problem, [home, *(d for d in devices if d != home)])
    for device in devices:
        if device != home:
            order = [device, home, *(d for d in devices if d not in (home, device))]
            yield f"{problem.devices[device]} takes all it can", first_takes_all(problem, order)
            yield f"greedy for {problem.devices[device]}", greedy_neighbours(problem, device, home)
    yield "HEFT", heft(problem)


def _balanced(problem: Problem, objective: Objective) -> Iterator[Assignment]:
    """Further candidates where the quantity is no sum: the time of the busiest device made dearer each time."""
    if objective not in (Objective.THROUGHPUT, Objective.OVERLAPPED) or len(problem.devices) < 2:
        return
    weights = [1.0] * len(problem.devices)
    for _ in range(_BALANCING_ROUNDS):
        found = cheapest(problem, objective.additive(problem, weights), limit=16).assignment
        yield found
        busy = predict(problem, found).busy
        most = max(busy)
        if most <= 0:
            return
        weights = [weight * (0.75 + 0.5 * load / most) for weight, load in zip(weights, busy, strict=True)]


def _moves(problem: Problem, prediction: Prediction) -> Iterator[Prediction]:
    """The placements that differ by one piece."""
    coarse = coarsened(problem, prediction)
    at = [piece.device for piece in prediction.pieces]
    for number in range(len(at)):
        for device in coarse.problem.can_run(number):
            if device != at[number]:
                moved = predict(coarse.problem, [*at[:number], device, *at[number + 1 :]])
                yield _in_full(moved, coarse.expanded(moved.assignment))


def _in_full(moved: Prediction, assignment: Assignment) -> Prediction:
    """A coarse prediction, said of the units themselves; its pieces stay those of the coarse problem."""
    return Prediction(assignment, moved.pieces, moved.sequential, moved.overlapped, moved.busy, moved.joules)


def _refined(problem: Problem, objective: Objective, prediction: Prediction, most: int) -> Prediction:
    """Piece by piece to where it costs less, by the whole prediction instead of the search's count."""
    for _ in range(_REFINING_ROUNDS):
        tried = [moved for moved in _moves(problem, prediction) if len(moved.pieces) <= most]
        better = min(tried, key=objective.of, default=None)
        if better is None or objective.of(better) >= objective.of(prediction):
            return prediction
        found = predict(problem, better.assignment)
        if objective.of(found) >= objective.of(prediction) or len(found.pieces) > most:
            return prediction
        prediction = found
    return prediction


def _worth_leaving(
    problem: Problem, objective: Objective, best: Prediction, stay: Prediction, home: int, limits: Limits
) -> tuple[Prediction, str]:
    """Pieces go back home where being away saves too little."""
    allowed = max(limits.partitions, len(best.pieces))
    floor = 0.0 if objective is Objective.ENERGY else limits.seconds
    while True:
        whole = objective.of(best)
        least = max(limits.gain * whole, floor)
        back = [
            moved
            for moved in _moves(problem, best)
            if sum(device == home for device in moved.assignment) > sum(device == home for device in best.assignment)
            and len(moved.pieces) <= allowed
        ]
        nearest = min(back, key=objective.of, default=None)
        if nearest is None or objective.of(nearest) - whole >= least:
            break
        best = predict(problem, nearest.assignment)
    whole = objective.of(stay)
    saved = whole - objective.of(best)
    if best.assignment != stay.assignment and saved < max(limits.gain * whole, floor) and len(stay.pieces) <= allowed:
        what = "energy" if objective is Objective.ENERGY else "time"
        share = max(saved, 0.0) / whole if whole else 0.0
        return stay, f"leaving {problem.devices[home]} would save {share:.1%} of the {what}"
    return best, ""
