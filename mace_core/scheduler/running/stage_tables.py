"""What one stage of a chain computes from the sizes that come to it, as tables (`mace_core.native.turns`).

A stage is run as one turn that hands nothing to a next one.  Behind its feeds comes one more: the numbers of its
signature (`mace_core.scheduler.running.structures`), which say what its symbols are, and whether its plan holds.
"""

from __future__ import annotations

from mace_core.scheduler.host.recurrence import Recurrence
from mace_core.scheduler.planning.plan import StagePlan, Storage
from mace_core.scheduler.running.plans import Place, PlanNumbers
from mace_core.scheduler.running.turn_tables import CARRIED, TableMaker, TurnTable, UnsuitedError, Written, is_plain

ONCE = Recurrence(-1, -1, -1, (), (), ())
"""Nothing leads from a stage to a next turn of it."""


def numbers_of(plan: StagePlan) -> PlanNumbers | None:
    """The numbers of a plan for one signature; None where contents are among them."""
    if plan.sizes is not None or plan.stage.trace is not None:
        return None
    places: list[Place] = []
    fixed: list[tuple[int, int]] = []
    for feed, register in enumerate(plan.feeds):
        found = plan.registers[register]
        if found.value in plan.stage.known or found.shape is None:
            return None
        for axis, size in enumerate(found.shape):
            fixed.append((len(places), size))
            places.append(Place(feed, axis, False))
    return PlanNumbers((), tuple(fixed), tuple(places))


def make_stage_table(plan: StagePlan, numbers: PlanNumbers) -> TurnTable | None:
    """The table for a plan with these numbers; None where the stage needs Python."""
    step, registers = plan.single, plan.registers
    if step is None or plan.numerics is not None or plan.grown or step.writes_over:
        return None
    computed = all(registers[r].storage in (Storage.FRESH, Storage.DYNAMIC) for r in step.outputs)
    if not computed or not all(is_plain(registers[r]) for r in (*plan.feeds, *step.outputs)):
        return None
    return _StageMaker(plan, step, ONCE, numbers).make()


class _StageMaker(TableMaker):
    """Results of planned shapes are carried values, to feeds that nobody reads."""

    def _table(self) -> TurnTable:
        plan, numbers = self.plan, self.numbers
        assert numbers is not None
        fed = len(plan.feeds)
        carried: list[tuple[int, Written]] = []
        for register in self.step.outputs:
            if plan.registers[register].storage is Storage.FRESH:
                self._place(register, CARRIED, len(carried))
                carried.append((fed + 1 + len(carried), self._written(register)))
        for symbol, (first, *_) in enumerate(numbers.symbols):
            feed, at, is_wide = self._read(first, fed)
            self._contents.append((symbol, feed, at, is_wide))
        for position, number in numbers.fixed:
            feed, at, is_wide = self._read(position, fed)
            self._checks.append((feed, at, is_wide, number))
        return self._finished(carried, [], [], self._guard_rows(), fed + 1 + len(carried), -1)

    def _read(self, position: int, numbers: int) -> tuple[int, int, bool]:
        """The feed, the element and whether it has 64 bits, where a number of the signature is read."""
        assert self.numbers is not None
        place = self.numbers.places[position]
        if not place.is_content:
            return numbers, position, True
        if place.feed >= len(self.plan.feeds):
            raise UnsuitedError
        return place.feed, place.at, self._is_wide(place.feed)
