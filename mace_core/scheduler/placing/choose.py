"""The best placement that the searches find, held to the limits that a user sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mace_core.scheduler.placing.baselines import first_takes_all, greedy_neighbours, heft
from mace_core.scheduler.placing.coarse import coarsened
from mace_core.scheduler.placing.frontier import Found, Frontier
from mace_core.scheduler.placing.objective import Objective
from mace_core.scheduler.placing.predict import Prediction, predict
from mace_core.scheduler.placing.problem import NOWHERE, Assignment, Problem

_STATES, _FEW_STATES = 32, 8
"""Kept by the search, and by those for further candidates."""

_ROUNDS = 6
_REFINING_ROUNDS = 2
_PENALTY = 3e-5
"""Seconds that a launch is made dearer by at first, to find placements of fewer partitions."""


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

    The known rules are among the candidates.  So of those that keep the limits none is cheaper than the result, but
    for what it is allowed to cost more to be at home (``gain`` and ``seconds``).

    Args:
        home: the device that units leave only where that pays.
    """
    limits = limits or Limits()
    known: dict[Assignment, Prediction] = {}

    def told(assignment: Assignment) -> Prediction:
        found = known.get(assignment)
        if found is None:
            found = known[assignment] = predict(problem, assignment)
        return found

    others = {name: told(found) for name, found in _rules(problem, home)}
    frontier = Frontier(problem)
    searched = frontier.cheapest(objective.additive(problem), limit=_STATES)
    told(searched.assignment)
    if len(problem.devices) > 1:
        _search(frontier, objective, told, searched, limits.partitions)
    ordered = sorted(known.values(), key=objective.of)
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


def _search(
    frontier: Frontier,
    objective: Objective,
    told: Callable[[Assignment], Prediction],
    searched: Found,
    partitions: int,
) -> None:
    """Further candidates: with fewer partitions, where there are too many, and where the quantity is no sum.

    Both are multipliers (Lagrangian relaxation): a launch becomes dearer while there are too many partitions and
    cheaper while there are fewer than allowed; the time of the busiest device becomes dearer each time.
    """
    problem = frontier.problem
    is_sum = objective not in (Objective.THROUGHPUT, Objective.OVERLAPPED)
    weights = [1.0] * len(problem.devices)
    penalty, least, most = 0.0, 0.0, 0.0
    latest, tried = told(searched.assignment), {searched.assignment}
    for _ in range(_ROUNDS):
        if len(latest.pieces) > partitions:
            least = max(least, penalty)
            penalty = (least * most) ** 0.5 if least and most > least else max(_PENALTY, 8 * penalty)
        elif penalty:
            most = penalty
            penalty = (least * most) ** 0.5 if least else most / 8
        elif is_sum:
            return
        if not is_sum:
            busiest = max(latest.busy)
            if busiest <= 0:
                return
            weights = [weight * (0.7 + 0.6 * load / busiest) for weight, load in zip(weights, latest.busy, strict=True)]
        found = frontier.cheapest(objective.additive(problem, weights), penalty=penalty, limit=_FEW_STATES)
        latest = told(found.assignment)
        if is_sum and found.assignment in tried and len(latest.pieces) <= partitions:
            return
        tried.add(found.assignment)


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
    least = objective.of(best)
    most = least + max(limits.gain * least, floor)
    back = []
    for piece in best.pieces:
        if piece.device != home and all(problem.seconds[unit][home] != NOWHERE for unit in piece.units):
            saved = sum(problem.seconds[unit][home] - problem.seconds[unit][piece.device] for unit in piece.units)
            back.append((saved, piece.units))
    for _, units in sorted(back):  # those whose absence saves least first
        assignment = list(best.assignment)
        for unit in units:
            assignment[unit] = home
        nearest = predict(problem, assignment)
        if objective.of(nearest) < most and len(nearest.pieces) <= allowed:
            best = nearest
    whole = objective.of(stay)
    saved = whole - least
    if best.assignment != stay.assignment and saved < max(limits.gain * whole, floor) and len(stay.pieces) <= allowed:
        what = "energy" if objective is Objective.ENERGY else "time"
        share = max(saved, 0.0) / whole if whole else 0.0
        return stay, f"leaving {problem.devices[home]} would save {share:.1%} of the {what}"
    return best, ""
