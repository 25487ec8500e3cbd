"""What all graphs of one session are planned with, and planning one signature, or all that a plan may serve."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mace_core.errors import StrictPlacementError
from mace_core.graph import Graph, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.host.fork_safe import fork_safe_lock, fork_safe_rlock, unforked
from mace_core.provider.poison import poison_byte
from mace_core.scheduler.host.control_flow import ControlFlow
from mace_core.scheduler.host.core_nodes import make_core_node
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
from mace_core.scheduler.running.plans import GraphPlan
from mace_core.scheduler.running.runner import GraphRunner
from mace_core.tensor import Tensor, ValueType
from mace_core.tensor.symbolic import SymbolicTensor

if TYPE_CHECKING:
    from mace_core.scheduler.growing import Growing
    from mace_core.scheduler.planning.model import PreparedModel
    from mace_core.scheduler.planning.stored_structures import RestoredStage, StoredStructures
    from mace_core.scheduler.planning.structure_files import StoredFamily
    from mace_core.scheduler.running.computed import ComputedConstants
    from mace_core.symbolic import Trace

Resolve = Callable[[Graph, Mapping[Value, ValueType], Mapping[Value, Tensor]], Resolution]


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
        with unforked(), self.lock, contextlib.nullcontext() if self.constants is None else self.constants.held():
            return self._planned(*self.placed(graph, types, fixed, trace, growing), feeds)

    def placed(
        self,
        graph: Graph,
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        trace: Trace | None = None,
        growing: Growing | None = None,
    ) -> tuple[Stage, PlacedStage]:
        """The first stage of a graph, placed and compiled, or restored; the arguments are those of `plan`.

        Raises:
            ModelError, StrictPlacementError, UnplacedNodesError: as `plan`.
        """
        poison_byte()  # a bad pattern is an error of its own, not one of the backend that would ask for it first
        with unforked(), self.lock, contextlib.nullcontext() if self.constants is None else self.constants.held():
            resolution = self._resolved(graph, types, fixed)
            check_declared_outputs(graph, resolution, self.label)
            given, whole = graph, resolution
            inlined = self.inlining.inlined(graph, resolution)
            graph = inlined.graph
            stage = _cut(graph, inlined.resolution, inlined, trace, growing)
            pins = self._all_pins(stage.nodes)
            is_stored, times = self.numerics is None and trace is None and growing is None, None
            if is_stored:  # with numerics every node is apart, which no record is
                times = self.remembered.times(given, types, fixed)
                restored = self.remembered.restore(stage, given, types, fixed, self._all_pins(given.nodes))
                if restored is not None:
                    return stage, restored._replace(times=times)
            from mace_core.scheduler.planning.expansion import expand_unclaimed
            from mace_core.scheduler.planning.split_choice import split_nodes

            expanded, answers = expand_unclaimed(graph, stage, self.pool, self.resolve, pinned=pins)
            if expanded is not graph:
                stage = _cut(expanded, self._resolved(expanded, types, fixed), inlined, trace, growing)
                pins = self._all_pins(stage.nodes)

            def recut(split: Graph) -> Stage:
                return _cut(split, self._resolved(split, types, fixed), inlined, trace, growing)

            shared = split_nodes(stage, self.pool, pins, answers, recut, may_pay=self.numerics is None)
            stage = shared.stage
            try:
                placed = place(
                    stage,
                    self.pool,
                    pins=shared.pins,
                    strict=self.strict,
                    compile_with=self.compile_with,
                    name=graph.name,
                    capabilities=shared.answers,
                    apart=self.numerics is not None,
                    times=times,
                )
            except UnplacedNodesError as error:
                raise UnplacedNodesError(error.unplaced, self.label) from error.__cause__
            except StrictPlacementError as error:
                raise StrictPlacementError(f"{self.label}: {error}", error.unplaced) from error.__cause__
            placed = shared.told(placed)
            is_as_given = stage.graph is graph
            if is_as_given and is_stored:
                self.remembered.store(placed, stage, given, types, fixed, self._all_pins(given.nodes))
            elif is_as_given:
                stage = stage._replace(resolution=whole)
            return stage, placed

    def _resolved(self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> Resolution:
        found = self.resolve(graph, types, fixed)
        found.known.update(fixed)
        return found

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
        if self.keep_sized is None or self.numerics is not None or self.pool.policy.decides_itself:
            return None
        pins = self._all_pins(graph.nodes)
        return self.stored().family(graph, types, fixed, pins, growing, at_once=self.sizes_at_once)

    def is_remembered(self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> bool:
        """Whether an earlier process planned this signature in numbers, so that there is something to restore."""
        return self.numerics is None and self.remembered.has(graph, types, fixed, self._all_pins(graph.nodes))

    def is_packaged(self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor]) -> bool:
        """Whether this signature was compiled ahead of time, so that a plan for many would compile it again."""
        if self.numerics is not None or not self.remembered.has_package:
            return False
        return self.remembered.is_packaged(graph, types, fixed, self._all_pins(graph.nodes))

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

    def _all_pins(self, nodes: Sequence[Node]) -> dict[Node, str]:
        """Of nested graphs too: the branch of an If may come to stand in its place."""
        found = {node: device for node in nodes if (device := self.pin(node)) is not None}
        for node in nodes:
            for body in node.subgraphs():
                found.update(self._all_pins(body.nodes))
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


def _cut(graph: Graph, resolution: Resolution, inlined: Inlined, trace: Trace | None, growing: Growing | None) -> Stage:
    """The first stage of a graph in which branches stand in the place of Ifs."""
    stage = cut_stage(graph, resolution, trace)._replace(scopes=inlined.scopes, decided=inlined.decided)
    return with_growing(stage, growing)
