"""Stages that run nothing but one node of the core on what they are fed, or nothing at all: an If around a whole model.

They need neither memory nor registers, so an instance of the plan would be work without a use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_core.scheduler.context import RunContext
from mace_core.scheduler.growing import GrowingArray
from mace_core.scheduler.planning.plan import ControlStep, Register, StagePlan, Storage
from mace_core.scheduler.running.step_bindings import unplanned_shape
from mace_core.scheduler.values import RuntimeValue

if TYPE_CHECKING:
    from mace_core.scheduler.planning.sizes import StageValues


@dataclass(slots=True, eq=False)
class ShortPlan:
    """What to do with the values fed.

    Attributes:
        step: the node, if there is one.
        inputs: positions of what it reads.
        results: positions of the stage's results among what was fed and, behind it, what the node computed.
        planned: of what the node computes: the registers whose shape is planned.
    """

    step: ControlStep | None
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    planned: tuple[tuple[int, int, Register], ...]

    def run(
        self, values: Sequence[RuntimeValue], context: RunContext, sizes: StageValues | None
    ) -> list[RuntimeValue] | None:
        """The results; None where a value is not simply an array or an object, which takes the long way."""
        for value in values:
            if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, GrowingArray):
                return None
        if self.step is None:
            return [values[position] for position in self.results]
        computed = self.step.control.run([values[position] for position in self.inputs], context)
        if self.planned:
            self._check(self.step, computed, sizes)
        found = [*values, *computed]
        return [found[position] for position in self.results]

    def _check(self, step: ControlStep, computed: Sequence[RuntimeValue], sizes: StageValues | None) -> None:
        """
        Raises:
            ProviderBugError: if a result has another shape than was planned.
        """
        sized = {} if sizes is None else {register: shape for register, shape, _ in sizes.registers}
        for position, number, register in self.planned:
            value = computed[position]
            shape = sized.get(number, register.shape)
            if isinstance(value, np.ndarray) and value.dtype != object and value.shape != shape and shape is not None:
                raise unplanned_shape(step, register, value.shape, shape)


def short_plan(plan: StagePlan) -> ShortPlan | None:
    """The short form of a plan that has one."""
    if len(plan.steps) > 1 or plan.numerics is not None:
        return None
    step = plan.steps[0] if plan.steps else None
    if step is not None and not isinstance(step, ControlStep):
        return None
    places = {register: position for position, register in enumerate(plan.feeds)}
    inputs = () if step is None else step.inputs
    if step is not None:
        places.update({register: len(plan.feeds) + i for i, register in enumerate(step.outputs)})
    if not all(register in places for register in (*inputs, *plan.results)):
        return None
    if any(plan.registers[register].storage not in (Storage.INPUT, Storage.OBJECT) for register in plan.feeds):
        return None
    planned = [
        (position, number, plan.registers[number])
        for position, number in enumerate(() if step is None else step.outputs)
        if plan.registers[number].shape is not None and plan.registers[number].storage is not Storage.OBJECT
    ]
    return ShortPlan(step, tuple(places[r] for r in inputs), tuple(places[r] for r in plan.results), tuple(planned))
