"""A stage plan in use: its idle instances, what comes after it, and who still needs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy.typing as npt

from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.host.recurrence import Recurrence, Turns
from mace_core.scheduler.planning.devices import DevicePool
from mace_core.scheduler.planning.plan import ControlStep, StagePlan, Storage
from mace_core.scheduler.running.executor import StageInstance
from mace_core.scheduler.running.poisoned import new_instance
from mace_core.scheduler.running.sampling import sampling_of
from mace_core.scheduler.running.short_plans import short_plan
from mace_core.scheduler.values import RuntimeValue, are_plain

if TYPE_CHECKING:
    from mace_core.graph import Value
    from mace_core.scheduler.planning.sizes import StageValues
    from mace_core.scheduler.running.runner import GraphRunner
    from mace_core.scheduler.running.structures import Signature
    from mace_core.scheduler.running.turn_tables import TurnTable
    from mace_core.scheduler.running.turning import TurnState


class Place(NamedTuple):
    """Where a number of a signature comes from: a size of a feed along an axis, or an element of its content."""

    feed: int
    at: int
    is_content: bool


@dataclass(frozen=True, slots=True)
class PlanNumbers:
    """Which numbers of a signature the symbols of a plan are.

    Attributes:
        symbols: for each symbol the positions of the numbers that it stands for, which are equal.
        fixed: the other positions, and what numbers are there.
        places: where the numbers come from.
    """

    symbols: tuple[tuple[int, ...], ...]
    fixed: tuple[tuple[int, int], ...]
    places: tuple[Place, ...]


class GraphPlan:
    """A stage plan with its idle instances and what comes after it.  Freed when nobody uses it any more.

    Attributes:
        counting: guards ``users``.
        followed: how often it was the last of several stages.
        can_follow: whether native code may go on to it from the stages before.
    """

    def __init__(self, plan: StagePlan, rest: GraphRunner | None, pool: DevicePool, counting: threading.Lock) -> None:
        self.plan = plan
        self.sizes: StageValues | None = None
        hands_on = any(plan.registers[register].storage is Storage.INPUT for register in plan.results)
        self.is_single = plan.single is not None and rest is None and not hands_on  # what is fed stays the caller's
        self._is_straight = self.is_single and _is_straight(plan)
        self.rest = rest
        self._pool = pool
        self.arenas = pool.arenas
        self._idle: list[StageInstance] = []
        self.counting = counting
        self._turns: TurnTable | None = None
        self._has_turns = True
        self._idle_turns: list[TurnState] = []
        self._making = fork_safe_lock()
        self._short = short_plan(plan)
        self._takes_arrays = plan.single is not None and not plan.grown
        self.followed = 0
        self.can_follow = True
        self.signature: Signature | None = None  # where it is for one alone
        self.users = 1  # changed under `counting` alone
        self._sampling = sampling_of(plan)
        self._generation = pool.retain()

    @property
    def shared(self) -> GraphPlan:
        """What is the same for all sizes."""
        return self

    def release(self) -> None:
        """One user fewer; the last one frees everything."""
        with self.counting:
            self.users -= 1
            last = self.users == 0
        if last:
            self._free()

    def execute_single(
        self,
        arrays: Sequence[npt.NDArray[Any]],
        cancel: CancelFlag | None,
        targets: Mapping[Value, npt.NDArray[Any]] | None = None,
        sizes: StageValues | None = None,
    ) -> list[npt.NDArray[Any]]:
        """Run a plan that is a single step on host memory, fed contiguous arrays; ``sizes`` for a plan that has any,
        ``targets`` as of a `RunContext`."""
        instance = self._ready(sizes)
        try:
            results = instance.run_single(arrays, cancel, None, targets)
        except BaseException:
            self._give_up(instance)
            raise
        self._idle.append(instance)
        return results

    @property
    def is_straight(self) -> bool:
        """Whether `execute_at` runs it."""
        return self._is_straight and (self._sampling is None or self._sampling.is_over)

    def result_shapes(self, sizes: StageValues | None) -> list[tuple[int, ...]]:
        """Of the results of a plan that is straight."""
        decided = {} if sizes is None else {index: shape for index, shape, _ in sizes.registers}
        found = []
        for register in self.plan.results:
            shape = decided.get(register, self.plan.registers[register].shape)
            assert shape is not None
            found.append(shape)
        return found

    def execute_at(
        self,
        feeds: Sequence[int],
        results: Sequence[int],
        cancel: CancelFlag | None,
        sizes: StageValues | None = None,
    ) -> None:
        """As `execute_single`, with addresses of what is fed and of where the results are written."""
        instance = self._ready(sizes)
        try:
            instance.run_at(feeds, results, cancel)
        except BaseException:
            self._give_up(instance)
            raise
        self._idle.append(instance)

    def execute(
        self, values: Sequence[RuntimeValue], context: RunContext, sizes: StageValues | None = None
    ) -> list[RuntimeValue]:
        """Run this stage; ``sizes`` for a plan that has any."""
        if context.profile is None and (context.targets is None or not context.targets_among(self.plan.stage.outputs)):
            if self._takes_arrays and are_plain(values):
                return self.execute_single(values, context.cancel, sizes=sizes)
            if self._short is not None:
                results = self._short.run(values, context, sizes)
                if results is not None:
                    return results
        instance = self._ready(sizes)
        try:
            results = instance.run(values, context)
        except BaseException:
            # Interrupted at any point, with work perhaps still queued: not to be used again.
            self._give_up(instance)
            raise
        self._idle.append(instance)
        return results

    def run_turns(
        self,
        turns: Turns,
        values: Sequence[RuntimeValue],
        context: RunContext,
        sizes: StageValues | None = None,
        numbers: PlanNumbers | None = None,
    ) -> bool:
        """Run as many ``turns`` as can be without coming back to Python; whether there was any.

        ``values`` are the inputs of the first; ``sizes`` and ``numbers`` are for a plan that has any.
        """
        if not self._has_turns:
            return False
        try:
            state = self._idle_turns.pop()
        except IndexError:
            made = self._new_turns(turns.recurrence, numbers)
            if made is None:
                return False
            state = made
        instance = self._ready(sizes)
        try:
            ran = state.run(instance, turns, values, context)
        except BaseException:
            self._discard(instance)
            raise
        self._idle.append(instance)
        self._idle_turns.append(state)
        self._has_turns = ran is not None
        return bool(ran)

    def _ready(self, sizes: StageValues | None) -> StageInstance:
        """An instance with memory for a run of these sizes."""
        try:
            instance = self._idle.pop()
        except IndexError:
            instance = new_instance(self.plan, self._sampling)
        try:
            if sizes is not None:
                instance.resize(sizes)
            if instance.needs_arena:
                self.arenas.equip(instance, self._idle)
        except BaseException:
            self._discard(instance)
            raise
        return instance

    def _new_turns(self, recurrence: Recurrence, numbers: PlanNumbers | None) -> TurnState | None:
        """State for turns; None where they need Python."""
        from mace_core.scheduler.running.turning import TurnState, make_turn_table

        with self._making:
            if self._turns is None:
                self._turns = make_turn_table(self.plan, recurrence, numbers)
        if self._turns is None:
            self._has_turns = False
            return None
        return TurnState(self._turns, self.plan, recurrence)

    def _give_up(self, instance: StageInstance) -> None:
        """After a run that failed."""
        try:
            instance.undo()
        finally:
            self._discard(instance)

    def give_up_idle(self) -> int:
        """Free what no run is using of what runs work in, in bodies of loops too; how many of them."""
        count = 0
        while True:
            try:
                instance = self._idle.pop()
            except IndexError:
                break
            self._discard(instance)
            count += 1
        self._idle_turns.clear()
        return count + sum(step.control.give_up_kept() for step in self.plan.steps if isinstance(step, ControlStep))

    def _discard(self, instance: StageInstance) -> None:
        self.arenas.forget(instance)
        instance.close()

    def _free(self) -> None:
        for instance in self._idle:
            self._discard(instance)
        self._idle.clear()
        for step in self.plan.steps:
            if isinstance(step, ControlStep):
                step.control.close()
        self.plan.placed.close()
        if self.rest is not None:
            self.rest.close()
        self._pool.release(self._generation)


class SizedPlan:
    """A plan of symbolic sizes with the sizes of one signature; stands where a `GraphPlan` does."""

    __slots__ = ("counting", "is_single", "numbers", "plan", "rest", "shared", "sizes", "users")

    def __init__(self, shared: GraphPlan, sizes: StageValues, numbers: PlanNumbers, counting: threading.Lock) -> None:
        """``shared`` has been retained for it."""
        self.shared = shared
        self.numbers = numbers
        self.counting = counting
        self.sizes = sizes
        self.plan = shared.plan
        self.is_single = shared.is_single
        self.rest = shared.rest
        self.users = 1  # changed under `counting` alone

    def release(self) -> None:
        """One user fewer; the last one lets go of the plan."""
        with self.counting:
            self.users -= 1
            last = self.users == 0
        if last:
            self.shared.release()

    def execute_single(
        self,
        arrays: Sequence[npt.NDArray[Any]],
        cancel: CancelFlag | None,
        targets: Mapping[Value, npt.NDArray[Any]] | None = None,
    ) -> list[npt.NDArray[Any]]:
        """As `GraphPlan.execute_single`."""
        return self.shared.execute_single(arrays, cancel, targets, self.sizes)

    def execute_at(self, feeds: Sequence[int], results: Sequence[int], cancel: CancelFlag | None) -> None:
        """As `GraphPlan.execute_at`."""
        self.shared.execute_at(feeds, results, cancel, self.sizes)

    def execute(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        """As `GraphPlan.execute`."""
        return self.shared.execute(values, context, self.sizes)

    def run_turns(self, turns: Turns, values: Sequence[RuntimeValue], context: RunContext) -> bool:
        """As `GraphPlan.run_turns`."""
        return self.shared.run_turns(turns, values, context, self.sizes, self.numbers)


def _is_straight(plan: StagePlan) -> bool:
    """Whether all results are memory of the right size before the run, and nothing is written but these."""
    step = plan.single
    fresh = all(plan.registers[register].storage is Storage.FRESH for register in plan.results)
    return step is not None and fresh and not plan.grown and not step.writes_over


AnyPlan: TypeAlias = "GraphPlan | SizedPlan"
