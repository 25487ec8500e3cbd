"""Runs a graph for any input signature: one plan per signature, the least recently used dropped."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.errors import StrictPlacementError
from mace_core.graph import Graph, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.host.fork_safe import fork_safe_lock, fork_safe_rlock, unforked
from mace_core.provider.poison import poison_byte
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.growing import GrowingArray
from mace_core.scheduler.host.control_flow import ControlFlow
from mace_core.scheduler.host.core_nodes import make_core_node
from mace_core.scheduler.host.recurrence import Turns
from mace_core.scheduler.numerics import NumericsCheck
from mace_core.scheduler.planning import notify
from mace_core.scheduler.planning.devices import DevicePool
from mace_core.scheduler.planning.in_place import of_body, of_rest, with_growing
from mace_core.scheduler.planning.inlining import Inlined, Inlining
from mace_core.scheduler.planning.partition import UnplacedNodesError
from mace_core.scheduler.planning.placement import Compiler, PlacedStage, place
from mace_core.scheduler.planning.plan import build_plan
from mace_core.scheduler.planning.remembered import RememberedPlacements
from mace_core.scheduler.planning.signatures import check_declared_outputs
from mace_core.scheduler.planning.stages import Stage, cut_stage, fragment
from mace_core.scheduler.running.contents import frozen, is_plain
from mace_core.scheduler.running.plans import AnyPlan, GraphPlan
from mace_core.scheduler.running.structures import Form, Structures
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor

if TYPE_CHECKING:
    from mace_core.scheduler.growing import Growing
    from mace_core.scheduler.planning.model import PreparedModel
    from mace_core.scheduler.planning.stored_structures import RestoredStage, StoredStructures
    from mace_core.scheduler.planning.structure_files import StoredFamily
    from mace_core.scheduler.running.computed import ComputedConstants
    from mace_core.symbolic import Trace

Resolve = Callable[[Graph, Mapping[Value, ValueType], Mapping[Value, Tensor]], Resolution]
PlanKey = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Planner:
    """What all graphs of a session share when they are planned.

    Attributes:
        label: how messages call the model.
        pool: the devices.
        compile_with: compiles, through the cache where there is one.
        resolve: shapes per signature, through the cache where there is one.
        remembered: placements of earlier processes, where there is a cache.
        pin: the device a node is pinned to, or None.
        strict: no node may run but on the devices named.
        capacity: plans kept per graph, and as many sets of sizes of plans for many signatures.
        numerics: what every step's results are checked for; None where they are not.  Every node is a step of its own
            then, so that nothing a provider fuses stays hidden.
        opset_imports: versions per domain; they hold for nested graphs too.
        is_told: whether plugins that observe sessions hear of it.
        keep_sized: the model with which plans of symbolic sizes are stored for later processes; None: they are not.
        sizes_at_once: whether the first signature of a graph is planned with symbols already, one for each size that
            may be one; for tests of symbolic plans.
        lock: one thread plans at a time, and backends are asked by one thread at a time.
        counting: guards the tables of plans and who uses them; held for an instant only.
        constants: computes those constants of the model that are not stored; None where all are.
        inlining: puts the branches of decided Ifs in their place.
    """

    label: str
    pool: DevicePool
    compile_with: Compiler
    resolve: Resolve
    remembered: RememberedPlacements
    pin: Callable[[Node], str | None]
    strict: bool
    capacity: int
    opset_imports: Mapping[str, int]
    numerics: NumericsCheck | None = None
    is_told: bool = True
    sizes_at_once: bool = False
    keep_sized: PreparedModel | None = None
    _stored: StoredStructures | None = field(default=None, init=False)
    lock: threading.RLock = field(default_factory=fork_safe_rlock)
    counting: threading.Lock = field(default_factory=fork_safe_lock)
    constants: ComputedConstants | None = None
    inlining: Inlining = field(default_factory=Inlining)

    def plan(
        self,
        graph: Graph,
        feeds: Sequence[Value],
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        trace: Trace | None = None,
        growing: Growing | None = None,
    ) -> GraphPlan:
        """A plan for one signature, or for all that ``trace`` will admit, whose symbols are in ``types`` and ``fixed``.

        ``growing``: what is fed with room to grow.

        Raises:
            ModelError: if the shapes do not fit.
            StrictPlacementError, UnplacedNodesError: if some node runs nowhere.
        """
        poison_byte()  # a bad pattern is an error of its own, not one of the backend that would ask for it first
        with unforked(), self.lock, contextlib.nullcontext() if self.constants is None else self.constants.held():
            resolution = self.resolve(graph, types, fixed)
            resolution.known.update(fixed)
            check_declared_outputs(graph, resolution, self.label)
            given, whole = graph, resolution
            inlined = self.inlining.inlined(graph, resolution)
            graph = inlined.graph
            stage = _cut(graph, inlined.resolution, inlined, trace, growing)
            pins = self._pins(stage.nodes)
            is_stored = self.numerics is None and trace is None and growing is None
            if is_stored:  # with numerics every node is apart, which no record is
                restored = self.remembered.restore(stage, given, types, fixed, self._all_pins(given))
                if restored is not None:
                    return self._planned(stage, restored, feeds)
            from mace_core.scheduler.planning.expansion import expand_unclaimed

            expanded, answers = expand_unclaimed(graph, stage, self.pool, self.resolve, pinned=pins)
            if expanded is not graph:
                resolution = self.resolve(expanded, types, fixed)
                resolution.known.update(fixed)
                stage = _cut(expanded, resolution, inlined, trace, growing)
                pins = self._pins(stage.nodes)
            try:
                placed = place(
                    stage,
                    self.pool,
                    pins=pins,
                    strict=self.strict,
                    compile_with=self.compile_with,
                    name=graph.name,
                    capabilities=answers,
                    apart=self.numerics is not None,
                )
            except UnplacedNodesError as error:
                raise UnplacedNodesError(error.unplaced, self.label) from error.__cause__
            except StrictPlacementError as error:
                raise StrictPlacementError(f"{self.label}: {error}", error.unplaced) from error.__cause__
            if expanded is graph and is_stored:
                self.remembered.store(placed, stage, given, types, fixed, self._all_pins(given))
            elif expanded is graph:
                stage = stage._replace(resolution=whole)
            return self._planned(stage, placed, feeds)

    def stored(self) -> StoredStructures:
        """Plans of symbolic sizes of earlier processes, where there may be any."""
        if self._stored is None:
            from mace_core.scheduler.planning.stored_structures import StoredStructures

            assert self.keep_sized is not None
            self._stored = StoredStructures(self.keep_sized, self.pool, strict=self.strict)
        return self._stored

    def stored_family(
        self,
        graph: Graph,
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        growing: Growing | None = None,
    ) -> StoredFamily | None:
        """What the cache has of plans for this signature and those that differ from it in numbers alone; None where
        nothing is stored."""
        if self.keep_sized is None or self.numerics is not None:
            return None
        pins = self._all_pins(graph)
        return self.stored().family(graph, types, fixed, pins, growing, at_once=self.sizes_at_once)

    def is_remembered(self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> bool:
        """Whether an earlier process planned this signature in numbers, so that there is something to restore."""
        return self.numerics is None and self.remembered.has(graph, types, fixed, self._all_pins(graph))

    def restored(
        self,
        graph: Graph,
        feeds: Sequence[Value],
        entry: memoryview,
        numbers: Sequence[int],
        growing: Growing | None = None,
    ) -> tuple[GraphPlan, RestoredStage]:
        """A plan of symbolic sizes that was stored, for a signature of these ``numbers``, and what was read of it.

        Raises:
            UnfitError: if what is stored is of no use.
        """

        def cut(resolution: Resolution, trace: Trace) -> Stage:
            inlined = self.inlining.inlined(graph, resolution)
            return _cut(inlined.graph, inlined.resolution, inlined, trace, growing)

        with unforked(), self.lock, contextlib.nullcontext() if self.constants is None else self.constants.held():
            found = self.stored().restore(graph, entry, numbers, cut, growing)
            return self._planned(found.stage, found.placed, feeds), found

    def _planned(self, stage: Stage, placed: PlacedStage, feeds: Sequence[Value]) -> GraphPlan:
        """The plan of a stage that is placed, and what comes after it."""
        if self.is_told:
            notify.partitioned(self.label, stage, placed.partitioning)
        try:
            plan = build_plan(stage, placed, self.pool, feeds, functools.partial(self._control_flow, stage))
        except BaseException:
            placed.close()
            raise
        if stage.trace is not None:
            from mace_core.scheduler.planning.sizes import StageSizes

            plan.sizes = StageSizes(plan, stage.trace)
        if self.numerics is not None:
            plan.numerics, plan.single = self.numerics, None
        rest = None
        if stage.rest is not None:
            rest = GraphRunner(
                self,
                stage.rest,
                stage.rest_feeds,
                fixed=stage.rest_fixed or {},
                contents=stage.rest_contents,
                growing=of_rest(stage),
            )
        return GraphPlan(plan, rest, self.pool, self.counting)

    def _pins(self, nodes: Sequence[Node]) -> dict[Node, str]:
        return {node: device for node in nodes if (device := self.pin(node)) is not None}

    def _all_pins(self, graph: Graph) -> dict[Node, str]:
        """Of nested graphs too: the branch of an If may come to stand in its place."""
        found = self._pins(graph.nodes)
        for node in graph.nodes:
            for body in node.subgraphs():
                found.update(self._all_pins(body))
        return found

    def _control_flow(
        self, stage: Stage, node: Node, types: Mapping[Value, ValueType], known: Mapping[Value, Tensor]
    ) -> ControlFlow:
        def make_body(body: Graph) -> GraphRunner:
            return self._body(body, types, known, of_body(stage, node))

        return make_core_node(node, known, make_body, opset_imports=self.opset_imports)

    def _body(
        self,
        body: Graph,
        types: Mapping[Value, ValueType],
        known: Mapping[Value, Tensor],
        growing: Growing | None = None,
    ) -> GraphRunner:
        captured = [value for value in body.captures() if value.constant is None]
        fixed = {v: known[v] for v in captured if v in known and not isinstance(known[v], SymbolicTensor)}
        feeds = [value for value in captured if value not in fixed]
        graph = fragment(body, body.nodes, [*body.inputs, *captured], body.outputs, name=body.name)
        graph.opset_imports = dict(self.opset_imports)
        sizes = [value for value in feeds if value in known]
        if growing is not None:
            feeds.append(growing.capacity)
        runner = GraphRunner(
            self,
            graph,
            [*body.inputs, *feeds],
            fixed=fixed,
            contents=sizes,
            outer_types=types,
            varying=body.inputs,
            growing=growing,
        )
        runner.captures = feeds
        return runner


class GraphRunner:
    """A graph, run with plans made as signatures come.

    Attributes:
        graph: its outputs are what a run returns.
        feeds: values given at each run, in order.
        captures: for a nested body, the outer values among the feeds.
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
            values = self.settled(values)
            plan = self.plan_for(values)
        return self._run(plan, values, context)

    def run_turns(self, turns: Turns, context: RunContext) -> None:
        """At least one turn of a body, and as many as can be run without coming back to Python."""
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
        found: dict[Value, RuntimeValue] = {}
        held = [plan]
        try:
            while True:
                found.update(zip(plan.plan.stage.outputs, plan.execute(values, context), strict=True))
                runner = plan.rest
                if runner is None:
                    return [found[value] for value in self.graph.outputs]
                values = runner.settled([found[value] for value in runner.feeds])
                plan = runner.plan_for(values)
                held.append(plan)
        finally:
            for plan in held:
                plan.release()

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
            stale = [
                key for key, plan in self._plans.items() if uses_device is None or uses_device in plan.plan.devices
            ]
            dropped = [self._plans.pop(key) for key in stale]
            self._lasting.difference_update(stale)
            if self.last_plan in dropped:
                self.last_plan = None
        for plan in dropped:
            plan.release()
        self._structures.drop(uses_device)

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


def _cut(graph: Graph, resolution: Resolution, inlined: Inlined, trace: Trace | None, growing: Growing | None) -> Stage:
    """The first stage of a graph in which branches stand in the place of Ifs."""
    stage = cut_stage(graph, resolution, trace)._replace(scopes=inlined.scopes, decided=inlined.decided)
    return with_growing(stage, growing)
