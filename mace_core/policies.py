"""Policies of one's own: how an application or a plugin decides which device runs what.

    class Longest(Policy):
        def decide(self, problem: Problem, home: int) -> Choice:
            return choice_of(problem, [...])  # the number of a device for each unit

    Session("model.onnx", devices=["opencl", "cpu"], policy=Longest("longest"))

A plugin adds policies by name with the hook ``mace_register_policies``.
"""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.errors import UsageError
from mace_core.scheduler.placing.choose import Choice, Limits, choose
from mace_core.scheduler.placing.objective import Objective
from mace_core.scheduler.placing.predict import Piece, Prediction, predict
from mace_core.scheduler.placing.problem import NOWHERE, Link, Problem, Tensor
from mace_core.scheduler.planning.policy import LATENCY, Policy

__all__ = [
    "LATENCY",
    "NOWHERE",
    "Choice",
    "Limits",
    "Link",
    "Objective",
    "Piece",
    "Policy",
    "Prediction",
    "Problem",
    "Tensor",
    "choice_of",
    "choose",
    "predict",
]


def choice_of(problem: Problem, assignment: Sequence[int]) -> Choice:
    """A choice that is known beforehand: for each unit the number of its device.

    Raises:
        UsageError: if a unit has no device, or one that cannot run it.
    """
    if len(assignment) != problem.units:
        raise UsageError(f"a placement names {len(assignment)} devices for {problem.units} units")
    for unit, device in enumerate(assignment):
        if device not in problem.can_run(unit):
            raise UsageError(f"a placement has unit {unit} on device {device}, which does not run it")
    return Choice(predict(problem, assignment), None, {}, is_optimal=False)
