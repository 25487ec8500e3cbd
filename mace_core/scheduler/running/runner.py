"""Runs a graph for any input signature: one plan per signature, the least recently used dropped."""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Value
from mace_core.host.fork_safe import unforked
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.growing import GrowingArray
from mace_core.scheduler.host.recurrence import Turns
from mace_core.scheduler.running.contents import frozen, is_plain
from mace_core.scheduler.running.plans import AnyPlan, GraphPlan
from mace_core.scheduler.running.structures import Form, Structures
from mace_core.scheduler.values import RuntimeValue, are_plain
from mace_core.tensor import DType, Tensor, TensorType, ValueType

if TYPE_CHECKING:
    from mace_core.scheduler.growing import Growing
    from mace_core.scheduler.running.chain_states import Unfinished
    from mace_core.scheduler.running.chains import Chain
    from mace_core.scheduler.running.planner import Planner

PlanKey = tuple[Any, ...]


class GraphRunner:
    """A graph, run with plans made as signatures come.

    Attributes:
        graph: its outputs are what a run returns.
        feeds: values given at each run, in order.
        captures: for a nested body, the outer values among the feeds.
        chains: plans of several stages that natively follow each other, in the order in which they are tried.
    """

    def __init__(
        self,
        planner: Planner,
        graph: Graph,
        feeds: Sequence[Value],
        *,
        fixed: Mapping[Value, Tensor] | None = None,
        contents: Sequence[Value] = (),
        outer_types: Mapping[Value, ValueType] | None = None,
        varying: Sequence[Value] = (),
        growing: Growing | None = None,
    ) -> None:
        """``fixed``: values that are the same in every run; ``contents``: feeds whose content decides shapes,
        of which a nested graph may find more; ``varying``: of such a graph, the feeds that change from turn to turn;
        ``growing``: feeds with room to grow, and the last feed says how much."""
        self.planner = planner
        self.graph = graph
        self.feeds = tuple(feeds)
        self.captures: Sequence[Value] = ()
        self._fixed = dict(fixed or {})
        self._contents = frozenset(contents)
        self._outer_types = outer_types or {}
        self._plans: OrderedDict[PlanKey, AnyPlan] = OrderedDict()
        self._lasting: set[PlanKey] = set()  # of those plans that only planning could bring back
        self.chains: list[Chain] = []
        self._chains_made = 0
        self._lock = planner.counting
        self._closed = False
        self.last_plan: AnyPlan | None = None
        self.last_types: Callable[[], Mapping[Value, ValueType]] = dict
        self._varying = frozenset(varying)
        self._is_examined = outer_types is None
        self._growing = growing
        self._structures = Structures(planner, graph, self.feeds, self._contents, growing=growing)

    def run(
        self, values: Sequence[RuntimeValue], context: RunContext, plan: AnyPlan | None = None
    ) -> list[RuntimeValue]:
        """Run all stages; results in the order of ``graph.outputs``.

        ``plan``: of the first stage for these `settled` values, where the caller has it; it is released.
        """
        if plan is None:
            if self.chains and (results := self._chained(values, context)) is not None:
                return results
            values = self.settled(values)
            plan = self.plan_for(values)
        return self._run(plan, values, context)

    def run_turns(self, turns: Turns, context: RunContext) -> None:
        """At least one turn of a body, and as many as can be run without coming back to Python."""
        if self.chains and (results := self._chained(turns.inputs(), context)) is not None:
            turns.take(results)
            return
        values = self.settled(turns.inputs())
        plan = self.plan_for(values)
        if context.profile is None:
            try:
                if plan.run_turns(turns, values, context):
                    plan.release()
                    return
            except BaseException:
                plan.release()
                raise
        turns.take(self._run(plan, values, context))

    def _run(self, plan: AnyPlan, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        """Run all stages, the first with ``plan``, which is released."""
        held = [plan]
        try:
            results = plan.execute(values, context)
            if plan.rest is None:
                return self._picked(dict(zip(plan.plan.stage.outputs, results, strict=True)))
            found: dict[Value, RuntimeValue] = dict(zip(plan.plan.stage.outputs, results, strict=True))
            self._go_on(plan.rest, found, held, context)
            if context.profile is None:
                self._chain(held)
            return self._picked(found)
        finally:
            for plan in held:
                plan.release()

    def _go_on(
        self, runner: GraphRunner | None, found: dict[Value, RuntimeValue], held: list[AnyPlan], context: RunContext
    ) -> None:
        """Run the stages from that of ``runner`` on; what they hand over goes to ``found``, their plans to ``held``"""
        while runner is not None:
            values = runner.settled([found[value] for value in runner.feeds])
            plan = runner.plan_for(values)
            held.append(plan)
            found.update(zip(plan.plan.stage.outputs, plan.execute(values, context), strict=True))
            runner = plan.rest

    def _picked(self, found: Mapping[Value, RuntimeValue]) -> list[RuntimeValue]:
        return [found[value] for value in self.graph.outputs]

    # --- stages that have run in a row, see `chains` ----------------------------------------------------------------

    def run_chain(
        self, arrays: Sequence[npt.NDArray[Any]], shapes: Sequence[tuple[int, ...]], cancel: CancelFlag | None
    ) -> list[RuntimeValue] | None:
        """The results, where stages are known that natively follow each other and the first holds for these shapes.

        Args:
            arrays: what is fed, row-major and aligned, of the element types that were fed before.
            shapes: of the arrays, as they were when they were looked at.
            cancel: asks the run to stop.
        """
        for chain in self.chains:
            found = chain.run(arrays, shapes, cancel)
            if found is None:
                continue
            self.last_types = functools.partial(self.array_types, shapes, chain.dtypes)
            if isinstance(found, list):
                return found
            return self._finish_chain(chain, found, RunContext() if cancel is None else RunContext(cancel))
        return None

    def _chained(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue] | None:
        """As `run_chain`, for values of any kind."""
        if (
            context.profile is not None
            or context.targets_among(self.graph.outputs)  # a chain makes its results itself
            or not are_plain(values)
            or not all(chain.takes(values) for chain in self.chains)
        ):
            return None
        return self.run_chain(values, [value.shape for value in values], context.cancel)

    def _finish_chain(self, chain: Chain, run: Unfinished, context: RunContext) -> list[RuntimeValue]:
        """Go on from the stage whose plan in the chain does not hold."""
        before = chain.plans[run.stage - 1]
        held: list[AnyPlan] = []
        values = run.values
        try:
            self._go_on(before.rest, values, held, context)
            self._chain([*chain.plans[: run.stage], *held])
            return self._picked(values)
        finally:
            for plan in held:
                plan.release()

    def _chain(self, plans: Sequence[AnyPlan]) -> None:
        """Let plans that ran in a row be a chain from now on.

        Those that hold for many sizes come first: the others, as for a count of 0, would send every run behind them
        through Python.
        """
        from mace_core.scheduler.running.chains import MOST_CHAINS, MOST_MADE, make_chain

        last = plans[-1].shared
        last.followed += 1
        if last.followed < 2:
            return  # many models are run only once
        with self.planner.lock:
            known = next((chain for chain in self.chains if chain.is_of(plans)), None)
            if known is not None:
                others = [chain for chain in self.chains if chain is not known]
                self.chains = sorted([known, *others], key=lambda chain: -chain.sized_plans)
                return
            is_wanted = last.can_follow and self._chains_made < MOST_MADE
            made = make_chain(plans, self.graph.outputs) if is_wanted else None
            if made is None:
                last.can_follow = False
                return
            self._chains_made += 1
            ordered = sorted([made, *self.chains], key=lambda chain: -chain.sized_plans)
            kept, dropped = ordered[:MOST_CHAINS], ordered[MOST_CHAINS:]
            with self._lock:
                if self._closed:
                    kept, dropped = [], [made, *self.chains]
                self.chains = kept
        for chain in dropped:
            chain.release()

    def settled(self, values: Sequence[RuntimeValue]) -> Sequence[RuntimeValue]:
        """``values`` with copies of those whose content decides shapes: nobody can change these any more.

        The memory is the caller's, whose threads may write to it at any moment.  Key, shapes, tables of kernels and the
        run itself have to see one and the same content, else a kernel would write beyond its room; and a plan, which
        outlives the run, must not refer to memory that will hold something else.
        """
        if not self._is_examined:
            self._examine(values)
        if not self._contents:
            return values
        return [
            frozen(value) if feed in self._contents else value for feed, value in zip(self.feeds, values, strict=True)
        ]

    def _examine(self, values: Sequence[RuntimeValue]) -> None:
        """Find out, with the first values, which further feeds decide shapes with their content."""
        with self.planner.lock:
            if self._is_examined:
                return
            from mace_core.scheduler.planning.deciding import deciding_inputs, may_decide

            types = self.types_of(values)
            contents = {
                feed: Tensor.from_numpy(value)
                for feed, value in zip(self.feeds, values, strict=True)
                if feed not in self._contents and is_plain(value) and may_decide(self._outer_types.get(feed, feed.type))
            }
            if contents:
                given = {**self._fixed, **self._decided(values)}
                known_types = {value: TensorType(tensor.dtype, tensor.shape) for value, tensor in given.items()}
                with unforked():
                    found = deciding_inputs(self.graph, {**types, **known_types}, given, contents, self.planner.resolve)
                if found:
                    self._structures = Structures(
                        self.planner,
                        self.graph,
                        self.feeds,
                        self._contents | found,
                        self._varying & found,
                        growing=self._growing,
                    )
                    self._contents |= found
            self._is_examined = True

    def plan_for(self, values: Sequence[RuntimeValue]) -> AnyPlan:
        """The plan of this signature, made now if it is new; the caller releases it.  ``values`` are `settled`."""
        key = self.key_of(values)
        plan = self.find(key)
        if plan is not None:
            return plan
        form = None
        if all(type(value) is np.ndarray or type(value) is GrowingArray for value in values):
            shapes, dtypes = [value.shape for value in values], [value.dtype for value in values]
            pairs = zip(self.feeds, values, strict=True) if self._contents else ()
            form = Form.of(shapes, dtypes, [value for feed, value in pairs if feed in self._contents])
            plan = self.admitted(key, form, functools.partial(self.array_types, shapes, dtypes))
            if plan is not None:
                return plan
        return self.make(key, self.types_of(values), self._decided(values), form)

    def array_types(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype[Any]]) -> dict[Value, ValueType]:
        """Types of arrays that are fed."""
        found = zip(self.feeds, dtypes, shapes, strict=True)
        return {feed: TensorType(DType.from_numpy(dtype), shape) for feed, dtype, shape in found}

    def key_of(self, values: Sequence[RuntimeValue]) -> PlanKey:
        if not self._contents:
            return tuple([value.shape if isinstance(value, np.ndarray) else None for value in values])
        return tuple(
            [
                (value.shape if isinstance(value, np.ndarray) else None)
                if feed not in self._contents or not is_plain(value)
                else (value.shape, value.tobytes())
                for feed, value in zip(self.feeds, values, strict=True)
            ]
        )

    def find(self, key: PlanKey) -> AnyPlan | None:
        """The plan kept under ``key``, retained for the caller."""
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
                plan.users += 1
            return plan

    def make(
        self,
        key: PlanKey,
        types: Mapping[Value, ValueType],
        contents: Mapping[Value, Tensor] | None = None,
        form: Form | None = None,
    ) -> AnyPlan:
        """Plan a signature and keep it; the caller releases it."""
        with self.planner.lock:
            plan = self.find(key)  # another thread may have been faster
            if plan is not None:
                return plan
            fixed = {**self._fixed, **(contents or {})}
            all_types = {**types, **{value: TensorType(tensor.dtype, tensor.shape) for value, tensor in fixed.items()}}
            plan = self._structures.find(all_types, fixed, form)
            if plan is None:
                plan = self.planner.plan(self.graph, self.feeds, all_types, fixed, growing=self._growing)
                plan.signature = self._structures.signature(all_types, fixed)
                self._structures.planned(plan.signature)
            dropped = self._keep(key, plan, lambda: types, is_made=True)
        for old in dropped:
            old.release()
        return plan

    def _keep(
        self, key: PlanKey, plan: AnyPlan, types: Callable[[], Mapping[Value, ValueType]], *, is_made: bool = False
    ) -> list[AnyPlan]:
        """Keep a new plan, for the caller to release, too; plans to be released that were kept too long.

        ``is_made``: one was planned for it, with numbers or for many signatures.
        """
        dropped: list[AnyPlan] = []
        with self._lock:
            plan.users += 1
            if self._closed:
                dropped.append(plan)
            else:
                replaced = self._plans.pop(key, None)  # another thread met the same signature at the same moment
                if replaced is not None:
                    dropped.append(replaced)
                self._lasting.discard(key)
                self._plans[key] = plan
            if is_made:
                self._lasting = {key for key, plan in self._plans.items() if self._lasts(plan)}
            dropped += self._surplus()
            self.last_plan, self.last_types = plan, types
        return dropped

    def _surplus(self) -> list[AnyPlan]:
        """The least recently used plans over the number that is kept, taken out.

        Plans that only planning could bring back are counted apart: sizes, which are computed in microseconds, must not
        drive them out.
        """
        plans, lasting, capacity = self._plans, self._lasting, self.planner.capacity
        dropped: list[AnyPlan] = []
        while len(plans) - len(lasting) > capacity:
            dropped.append(plans.pop(next(key for key in plans if key not in lasting)))
        while len(lasting) > capacity:
            oldest = next(key for key in plans if key in lasting)
            lasting.remove(oldest)
            dropped.append(plans.pop(oldest))
        return dropped

    def _lasts(self, plan: AnyPlan) -> bool:
        """Whether ``plan`` is for one signature, and no plan for many would do for that."""
        signature = plan.signature if isinstance(plan, GraphPlan) else None
        return signature is not None and not self._structures.admits(signature)

    @property
    def refusal(self) -> str:
        """Why shapes are planned one by one, where a plan for many could not be made; else ""."""
        return self._structures.refusal

    @property
    def has_contents(self) -> bool:
        """Whether the content of some feed decides shapes."""
        return bool(self._contents)

    @property
    def has_structures(self) -> bool:
        """Whether there is a plan of symbolic sizes."""
        return self._structures.is_used

    def admitted(
        self, key: PlanKey, form: Form, types: Callable[[], Mapping[Value, ValueType]] | None = None
    ) -> AnyPlan | None:
        """A plan of symbolic sizes that holds for a new signature, kept under ``key``; the caller releases it.  None
        where none of those there are does.  ``types``: of what is fed, for those who ask for them later."""
        with self.planner.lock:
            plan = self._structures.admitted(form)
            dropped = [] if plan is None else self._keep(key, plan, types or dict)
        for old in dropped:
            old.release()
        return plan

    def types_of(self, values: Sequence[RuntimeValue]) -> dict[Value, ValueType]:
        """Concrete types of what is fed; declared ones for what is not a tensor."""
        types: dict[Value, ValueType] = {}
        for feed, value in zip(self.feeds, values, strict=True):
            declared = self._outer_types.get(feed, feed.type)
            if isinstance(value, np.ndarray) and (declared is None or isinstance(declared, TensorType)):
                types[feed] = TensorType(DType.from_numpy(value.dtype), value.shape)
            elif declared is not None:
                types[feed] = declared
        return types

    def output_types(self, values: Sequence[RuntimeValue]) -> list[ValueType | None]:
        """Types of the results for these inputs, as far as they can be told without a run."""
        values = self.settled(values)
        fixed = {**self._fixed, **self._decided(values)}
        known_types = {value: TensorType(tensor.dtype, tensor.shape) for value, tensor in fixed.items()}
        resolution = self.planner.resolve(self.graph, {**self.types_of(values), **known_types}, fixed)
        return [resolution.types.get(value, value.type) for value in self.graph.outputs]

    def plans(self) -> list[AnyPlan]:
        """The plans kept, least recently used first."""
        with self._lock:
            return list(self._plans.values())

    def drop_plans(self, uses_device: str | None = None) -> None:
        """Forget plans (those that use a device); they are freed when their runs are over."""
        with self._lock:
            stale = [key for key, plan in self._plans.items() if uses_device is None or _uses(plan, uses_device)]
            dropped = [self._plans.pop(key) for key in stale]
            self._lasting.difference_update(stale)
            if self.last_plan in dropped:
                self.last_plan = None
            chains = [chain for chain in self.chains if uses_device is None or chain.uses(uses_device)]
            self.chains = [chain for chain in self.chains if chain not in chains]
        for chain in chains:
            chain.release()
        for plan in dropped:
            plan.release()
        self._structures.drop(uses_device)

    def give_up_kept(self) -> int:
        """Free the plans that nothing is running, but for the latest, and what runs are given to work in; how many."""
        with self._lock:
            unused = [key for key, plan in self._plans.items() if plan.users == 1 and plan is not self.last_plan]
            dropped = [self._plans.pop(key) for key in unused]
            self._lasting.difference_update(unused)
            kept = list(self._plans.values())
            chains = list(self.chains)
        for plan in dropped:
            plan.release()
        count = len(dropped) + sum(chain.give_up_idle() for chain in chains)
        for plan in kept:
            count += plan.shared.give_up_idle()
            if plan.rest is not None:
                count += plan.rest.give_up_kept()
        return count

    def give_up_plans(self) -> int:
        """Free all that nothing is running, the latest plans and what they were made from too; how many plans."""
        with self._lock:
            chained = Counter(id(plan) for chain in self.chains for plan in chain.plans)
            is_idle = all(plan.users <= 1 + chained[id(plan)] for plan in self._plans.values())
            count = len(self._plans) if is_idle else 0
        if count:
            self.drop_plans()
        return count

    def close(self) -> None:
        """Free all plans that nobody is using; those in use are freed when their runs are over."""
        with self._lock:
            self._closed = True
        self.drop_plans()

    def _decided(self, values: Sequence[RuntimeValue]) -> dict[Value, Tensor]:
        return {
            feed: Tensor.from_numpy(value)
            for feed, value in zip(self.feeds, values, strict=True)
            if feed in self._contents and is_plain(value)
        }


def _uses(plan: AnyPlan, device: str) -> bool:
    """Whether a plan, or a stage that is planned while it runs, uses a device; `Planner.counting` is held."""
    if device in plan.plan.devices:
        return True
    return plan.rest is not None and any(_uses(later, device) for later in plan.rest._plans.values())
