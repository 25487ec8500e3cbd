"""Stages that run one after the other as one native call, where one decides the sizes of the next.

A node such as NonZero ends a stage: what lies behind it has sizes that only the run tells.  A chain is made of plans
that have run in a row.  Native code runs the first, reads the sizes it found, looks whether the second plan holds for
them, computes what follows from them, and goes on.  Where a plan does not hold, Python goes on with another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy.typing as npt

from mace_core.graph import Value
from mace_core.provider.execution import CancelFlag
from mace_core.provider.poison import poison_byte
from mace_core.scheduler.planning.plan import Storage
from mace_core.scheduler.running.plans import AnyPlan, GraphPlan, PlanNumbers, SizedPlan
from mace_core.scheduler.running.stage_tables import make_stage_table, numbers_of
from mace_core.scheduler.running.turn_tables import TurnTable
from mace_core.scheduler.values import RuntimeValue

if TYPE_CHECKING:
    from mace_core.scheduler.running.chain_states import ChainState, Unfinished

_NEVER = CancelFlag()

MOST_CHAINS = 4
"""Of one graph, at a time."""

MOST_MADE = 32
"""Of one graph, in all: plans that take turns at driving each other out are run through Python."""


class Source(NamedTuple):
    """Where a value of a chain is: among what is fed to it, or among the outputs of a stage's step.

    Attributes:
        stage: that computes it; -1: it is fed.
        position: among what is fed, or among the outputs.
    """

    stage: int
    position: int


class Chain:
    """Plans of stages that native code runs one after the other.

    Attributes:
        plans: of the stages.
        tables, numbers: of each plan.
        sources: where each value that is fed, or that a stage hands over, comes from.
        outputs: what a run gives.
        dtypes: of what is fed.
        sized_plans: how many of the plans are for many sizes.
    """

    def __init__(
        self,
        plans: Sequence[GraphPlan],
        tables: Sequence[TurnTable],
        numbers: Sequence[PlanNumbers],
        sources: dict[Value, Source],
        outputs: Sequence[Value],
    ) -> None:
        """The plans are retained until `release`."""
        self.plans = plans
        self.tables = tables
        self.numbers = numbers
        self.sources = sources
        self.outputs = outputs
        first = plans[0].plan
        self._ranks = [len(first.registers[r].shape or ()) for r in first.feeds]
        self.dtypes = [first.registers[r].dtype.numpy for r in first.feeds]
        self.sized_plans = sum(plan.plan.sizes is not None for plan in plans)
        self._idle: list[ChainState] = []
        self._users = 1
        self._counting = plans[0].counting
        with self._counting:
            for plan in plans:
                plan.users += 1

    def takes(self, values: Sequence[npt.NDArray[Any]]) -> bool:
        """Whether arrays are of the element types of what is fed."""
        return [value.dtype for value in values] == self.dtypes

    def is_of(self, plans: Sequence[AnyPlan]) -> bool:
        """Whether it was made of these plans, whatever their sizes are."""
        return len(plans) == len(self.plans) and all(
            mine is other.shared for mine, other in zip(self.plans, plans, strict=True)
        )

    def uses(self, device: str) -> bool:
        return any(device in plan.plan.devices for plan in self.plans)

    def run(
        self, arrays: Sequence[npt.NDArray[Any]], shapes: Sequence[tuple[int, ...]], cancel: CancelFlag | None
    ) -> list[RuntimeValue] | Unfinished | None:
        """The outputs; None where the first plan does not hold, or the chain is given up.

        Args:
            arrays: what is fed: of the first plan's element types, row-major and aligned.
            shapes: of the arrays, as they were when they were looked at.
            cancel: asks the run to stop.
        """
        if list(map(len, shapes)) != self._ranks:
            return None
        with self._counting:
            if not self._users:
                return None
            self._users += 1
        try:
            try:
                state = self._idle.pop()
            except IndexError:
                state = self._new_state()
            try:
                found = state.run(arrays, shapes, cancel or _NEVER)
            except BaseException:
                state.close()
                raise
            self._idle.append(state)
            return found
        finally:
            self.release()

    def release(self) -> None:
        """One user fewer; the last one lets go of the plans."""
        with self._counting:
            self._users -= 1
            last = self._users == 0
        if last:
            while self._idle:
                self._idle.pop().close()
            for plan in self.plans:
                plan.release()

    def give_up_idle(self) -> int:
        """Free the states that no run is using; how many."""
        count = 0
        while True:
            try:
                state = self._idle.pop()
            except IndexError:
                return count
            state.close()
            count += 1

    def prepare(self) -> bool:
        """Make the state of a run; whether there can be any."""
        try:
            self._idle.append(self._new_state())
        except ValueError:
            return False
        return True

    def _new_state(self) -> ChainState:
        from mace_core.scheduler.running.chain_states import ChainState

        return ChainState(self)


def make_chain(plans: Sequence[AnyPlan], outputs: Sequence[Value]) -> Chain | None:
    """The chain of plans that have run in a row, with these results; None where a stage needs Python."""
    if poison_byte() is not None:
        return None
    tables: list[TurnTable] = []
    numbers: list[PlanNumbers] = []
    for plan in plans:
        known = plan.numbers if isinstance(plan, SizedPlan) else numbers_of(plan.plan)
        table = None if known is None else make_stage_table(plan.plan, known)
        if known is None or table is None:
            return None
        tables.append(table)
        numbers.append(known)
    sources = _sources(plans, outputs)
    if sources is None or not _can_be_read(plans, numbers, sources):
        return None
    chain = Chain([plan.shared for plan in plans], tables, numbers, sources, tuple(outputs))
    if not chain.prepare():
        chain.release()
        return None
    return chain


def _sources(plans: Sequence[AnyPlan], outputs: Sequence[Value]) -> dict[Value, Source] | None:
    """Where all values come from; None where one is a constant, or is fed and handed out again."""
    first = plans[0].plan
    found = {first.registers[r].value: Source(-1, i) for i, r in enumerate(first.feeds)}
    fed = set(found)
    for number, plan in enumerate(plans):
        step = plan.plan.single
        assert step is not None
        for index, register in enumerate(step.outputs):
            found[plan.plan.registers[register].value] = Source(number, index)
    wanted = [*outputs, *(plan.plan.registers[r].value for plan in plans for r in plan.plan.feeds)]
    if not all(value in found for value in wanted) or fed.intersection(outputs):
        return None
    return found


def _can_be_read(plans: Sequence[AnyPlan], numbers: Sequence[PlanNumbers], sources: dict[Value, Source]) -> bool:
    """Whether native code can read all numbers of the signatures: content of what is fed may change meanwhile."""
    for plan, known in zip(plans, numbers, strict=True):
        registers = plan.plan.registers
        symbols = (position for positions in known.symbols if len(positions) > 1 for position in positions)
        if any(known.places[position].is_content for position in symbols):
            return False
        contents = {place.feed for place in known.places if place.is_content}
        if any(sources[registers[plan.plan.feeds[feed]].value].stage < 0 for feed in contents):
            return False
        if any(registers[r].storage is not Storage.INPUT for r in plan.plan.feeds):
            return False
    return True
