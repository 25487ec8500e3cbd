"""What a placement is to be good at."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from mace_core.scheduler.placing.predict import Prediction
from mace_core.scheduler.placing.problem import Problem


class Objective(enum.Enum):
    """The quantity that a placement minimizes."""

    LATENCY = "latency"  # seconds of a run, one step after the other
    OVERLAPPED = "overlapped"  # seconds of a run whose branches run at the same time on different devices
    THROUGHPUT = "throughput"  # seconds from result to result, requests in flight on all devices
    ENERGY = "energy"  # joules of a run

    def of(self, prediction: Prediction) -> float:
        """The quantity, with a little of the time of a run so that of two equals the faster one is taken."""
        little = prediction.sequential * 1e-6
        match self:
            case Objective.LATENCY:
                return prediction.sequential
            case Objective.OVERLAPPED:
                return prediction.overlapped + little
            case Objective.THROUGHPUT:
                return prediction.bottleneck + little
            case Objective.ENERGY:
                return prediction.joules + little

    def additive(self, problem: Problem, weights: Sequence[float] | None = None) -> tuple[tuple[float, ...], ...]:
        """Costs of units whose sum stands for the quantity in a search that can only add up.

        ``weights``: for each device how dear its time is; the balance of a pipeline is found by making the time of the
        busiest device dearer, step by step.
        """
        if self is Objective.ENERGY and problem.joules is not None:
            return problem.joules
        if weights is None:
            return problem.seconds
        return tuple(tuple(cost * weight for cost, weight in zip(row, weights, strict=True)) for row in problem.seconds)
