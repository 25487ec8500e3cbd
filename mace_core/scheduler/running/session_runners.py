"""The graphs that a session runs: the whole model, and what is left of it for some of its outputs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mace_core.errors import ModelError, UsageError
from mace_core.faults import FaultLimits
from mace_core.graph import Graph, Value
from mace_core.host.memory import memory_needed
from mace_core.scheduler.growing import with_room
from mace_core.scheduler.planning.devices import DevicePool, PoolWithout
from mace_core.scheduler.planning.flags import Flags, signature_key
from mace_core.scheduler.planning.stages import subset
from mace_core.scheduler.running.failover import Failover
from mace_core.scheduler.running.planner import Planner
from mace_core.scheduler.running.plans import AnyPlan
from mace_core.scheduler.running.pressure import known, reliefs, relieved
from mace_core.scheduler.running.runner import GraphRunner
from mace_core.tensor import Tensor


class SessionRunners:
    """The runners of one model's session, made when they are first needed.

    Attributes:
        whole: runs the whole model.
        flags: inputs whose content says which way it goes.
        failover: runs them, also where devices fail.
    """

    failover: Failover

    def __init__(
        self, planner: Planner, graph: Graph, limits: FaultLimits | None = None, *, is_detour: bool = False
    ) -> None:
        """``limits``: of failing devices; ``is_detour``: others send runs here, which devices have failed."""
        self._planner = planner
        self._graph = graph
        self.flags = Flags(graph)
        self.whole = self._runner_of(graph)
        self._parts: dict[tuple[Any, ...], GraphRunner] = {}
        self._detours: dict[frozenset[str], SessionRunners] = {}
        self._is_closed = False
        if not is_detour:
            limits = limits or FaultLimits()
            self.failover = Failover(self, planner.pool, limits, label=planner.label, strict=planner.strict)
            planner.pool.relieve = functools.partial(reliefs, self)
            known(self)

    def of(self, outputs: Sequence[str]) -> GraphRunner:
        """The runner of the model reduced to some outputs.

        Raises:
            UsageError: if it has no such output.
        """
        key = tuple(outputs)
        found = self._parts.get(key)
        if found is None:
            by_name = {value.name: value for value in self._graph.outputs}
            unknown = [name for name in outputs if name not in by_name]
            if unknown:
                raise UsageError(
                    f"{self._planner.label} has no output {', '.join(map(repr, unknown))}; "
                    f"its outputs are {', '.join(map(repr, by_name))}"
                )
            made = self._runner_of(subset(self._graph, [by_name[name] for name in outputs]))
            found = self._parts.setdefault(key, made)
        return found

    def growing(self, outputs: tuple[str, ...], growths: tuple[tuple[Value, str, int | None], ...]) -> GraphRunner:
        """As `of`, with inputs that lie in memory with room to grow.

        Args:
            growths: inputs, names of the outputs that feed them next, and the axes along which they grow, if they do.
        """
        found = self._parts.get((growths, outputs))
        if found is None:
            graph, room = with_room(self.of(outputs).graph, growths)
            made = GraphRunner(self._planner, graph, graph.inputs, contents=self.flags.values, growing=room)
            found = self._parts.setdefault((growths, outputs), made)
        return found

    def plan(self, types: Mapping[Value, Any], contents: Mapping[Value, Tensor]) -> AnyPlan:
        """The plan for these input types and contents of flags, made if it is new; the caller releases it."""
        key = signature_key(self._graph.inputs, types, contents)
        with memory_needed(f"{self._planner.label}: planning it"):
            found = self.whole.find(key)
            if found is not None:
                return found
            try:
                return self.whole.make(key, types, contents)
            except MemoryError as error:
                return relieved(self, error, lambda: self.whole.make(key, types, contents))

    def plans(self, types: Mapping[Value, Any]) -> Iterator[AnyPlan]:
        """The plans for these input types, one for each way that the model's flags may decide and that takes them, the
        way of the latest one first; the caller releases them.

        Raises:
            ModelError: if none takes them.
        """
        last = self.whole.last_plan
        failure: ModelError | None = None
        is_taken = False
        for contents in self.flags.choices(types, {} if last is None else last.plan.stage.known):
            try:
                plan = self.plan(types, contents)
            except ModelError as error:
                failure = failure or error
                continue
            is_taken = True
            yield plan
        if failure is not None and not is_taken:
            raise failure

    # --- devices that fail, see `failover` ------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """How messages call the model."""
        return self._planner.label

    @property
    def pool(self) -> DevicePool:
        """The devices that these run on."""
        return self._planner.pool

    @property
    def planning(self) -> threading.RLock:
        """Held by who is planning."""
        return self._planner.lock

    def without(self, devices: Mapping[str, str]) -> SessionRunners:
        """Those that do without some devices; ``devices``: their names, and why."""
        key = frozenset(devices)
        with self._planner.lock:
            found = self._detours.get(key)
            if found is None:
                pool = PoolWithout(self.pool, devices)
                planner = replace(
                    self._planner, pool=pool, remembered=self._planner.remembered.among(pool), keep_sized=None
                )
                found = self._detours[key] = SessionRunners(planner, self._graph, is_detour=True)
                if self._is_closed:
                    found.close()
            elif isinstance(found.pool, PoolWithout):
                found.pool.without = devices
            return found

    def used_now(self) -> SessionRunners:
        """These, or those without the devices that rest at the moment."""
        resting = self.failover.resting
        return self.without(resting) if resting else self

    def drop_plans(self, device: str | None = None) -> None:
        """Forget plans (those that use a device), of detours too."""
        for runner in self._all():
            runner.drop_plans(device)

    def give_up_kept(self) -> int:
        """Free the plans that nothing is running, but for the latest ones, and the memory of runs; how many of them."""
        return sum(runner.give_up_kept() for runner in self._all())

    def trim_devices(self) -> int:
        """Have the devices give up what they keep for later; how much."""
        return sum(device.trim() for device in self.pool.devices)

    def give_up_plans(self) -> int:
        """Free the plans of whatever nothing is running, the latest too; how many of them."""
        return sum(runner.give_up_plans() for runner in self._all())

    def _all(self) -> list[GraphRunner]:
        detours = list(self._detours.values())
        return [self.whole, *self._parts.values(), *(runner for detour in detours for runner in detour._all())]

    def close(self) -> None:
        """Free all plans; those in use are freed when their runs are over."""
        self._is_closed = True
        for runner in self._all():
            runner.close()

    def _runner_of(self, graph: Graph) -> GraphRunner:
        return GraphRunner(self._planner, graph, graph.inputs, contents=self.flags.values)
