"""The graphs that a session runs: the whole model, and what is left of it for some of its outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mace_core.errors import DeviceLostError, ModelError, OutOfRangeError, TransientError, UsageError
from mace_core.graph import Graph, Value
from mace_core.host.memory import memory_needed
from mace_core.provider.border import reason_of
from mace_core.scheduler.growing import with_room
from mace_core.scheduler.planning.flags import Flags, signature_key
from mace_core.scheduler.planning.stages import subset
from mace_core.scheduler.running.planner import Planner
from mace_core.scheduler.running.plans import AnyPlan
from mace_core.scheduler.running.runner import GraphRunner
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import Tensor

_log = logging.getLogger("mace")


class SessionRunners:
    """The runners of one model's session, made when they are first needed.

    Attributes:
        whole: runs the whole model.
        flags: inputs whose content says which way it goes.
    """

    def __init__(self, planner: Planner, graph: Graph) -> None:
        self._planner = planner
        self._graph = graph
        self.flags = Flags(graph)
        self.whole = self._runner_of(graph)
        self._parts: dict[tuple[Any, ...], GraphRunner] = {}

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
            return self.whole.find(key) or self.whole.make(key, types, contents)

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

    def guarded(self, run: Callable[[], list[RuntimeValue]]) -> list[RuntimeValue]:
        """Once more after a passing failure; no more on a device that is lost, or that numbers are not for."""
        try:
            try:
                return run()
            except TransientError as error:
                _log.warning("a run of %s failed and is tried once more: %s", self._planner.label, error)
                return run()
        except DeviceLostError as error:
            self.lose(error)
            raise
        except OutOfRangeError as error:
            return self._elsewhere(error, run)

    def _elsewhere(self, error: OutOfRangeError, run: Callable[[], list[RuntimeValue]]) -> list[RuntimeValue]:
        """Once more on the other devices, of which each may decline the numbers."""
        declined: set[str | None] = set()
        while error.device not in declined:
            declined.add(error.device)
            self.decline(error)
            try:
                return run()
            except OutOfRangeError as further:
                error = further
        raise error

    def decline(self, error: OutOfRangeError) -> None:
        """Nothing is to run any more on a device that cannot hold what it was given.

        Raises:
            OutOfRangeError: ``error``, if the session is strict.
        """
        device = self._planner.pool.find(error.device or "")
        if self._planner.strict or device is None:
            raise error
        self._refuse(device.name, reason_of(error))

    def lose(self, error: DeviceLostError) -> None:
        """Nothing is to run any more on a device that is lost."""
        if error.device is not None:
            self._refuse(error.device, f"it was lost: {reason_of(error)}")

    def _refuse(self, device: str, reason: str) -> None:
        self._planner.pool.refuse(device, reason)
        for runner in (self.whole, *self._parts.values()):
            runner.drop_plans(device)

    def close(self) -> None:
        """Free all plans; those in use are freed when their runs are over."""
        for runner in (self.whole, *self._parts.values()):
            runner.close()

    def _runner_of(self, graph: Graph) -> GraphRunner:
        return GraphRunner(self._planner, graph, graph.inputs, contents=self.flags.values)
