"""Places the nodes of one stage and compiles the pieces; what fails to compile is placed elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mace_core.errors import DeviceLostError, MaceError, ProviderBugError, StrictPlacementError
from mace_core.graph import GraphView, Node, Value
from mace_core.host.signals import signals_kept
from mace_core.provider import Backend, Capability, Claim, CompiledSubgraph, Rejection
from mace_core.provider.border import (
    WrongAnswerError,
    close_all,
    failure_of,
    instance_of,
    list_of,
    reason_of,
    unchanged,
)
from mace_core.scheduler.host.core_nodes import runs_in_core
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.fitting import fitted
from mace_core.scheduler.planning.in_place import offered
from mace_core.scheduler.planning.nested import kept_in_core
from mace_core.scheduler.planning.numbers import in_numbers
from mace_core.scheduler.planning.padded_views import Fitted, PaddedView
from mace_core.scheduler.planning.partition import (
    Offer,
    Partition,
    Partitioning,
    UnplacedNodesError,
    partition,
    summary_of,
)
from mace_core.scheduler.planning.stages import Stage, node_reads
from mace_core.tensor import MemoryKind

if TYPE_CHECKING:
    from mace_core.scheduler.planning.decisions import Decision
    from mace_core.scheduler.planning.model_times import PartTimes

_log = logging.getLogger("mace")


def views_of(
    stage: Stage, parts: Sequence[Partition], graph_name: str, on_host: Container[str] = ()
) -> list[GraphView]:
    """What the providers of the partitions of a stage see.

    ``on_host``: devices that work on ordinary host memory, so that they may compute in the caller's.
    """
    part_of = {node: index for index, part in enumerate(parts) for node in part.nodes}
    readers: dict[Value, set[int]] = {}
    for node in stage.nodes:
        for value in node_reads(node):
            readers.setdefault(value, set()).add(part_of.get(node, -1))
    handed_over = set(stage.outputs)
    views = [_view(stage, part, index, graph_name, readers, handed_over) for index, part in enumerate(parts)]
    if stage.growing is not None:
        for index, (part, view) in enumerate(zip(parts, views, strict=True)):
            if part.device in on_host:
                view.in_place = tuple(offered(stage, view.inputs, view.outputs, readers, {index}))
    return views


def on_host(pool: DevicePool) -> set[str]:
    """The open devices that work on ordinary host memory."""
    return {device.name for device in pool.devices if device.is_open and device.memory is MemoryKind.HOST}


def _view(
    stage: Stage,
    part: Partition,
    index: int,
    graph_name: str,
    readers: Mapping[Value, set[int]],
    handed_over: Container[Value],
) -> GraphView:
    """The view of one partition; ``readers``: which partitions read a value, by their numbers."""
    made = {value for node in part.nodes for value in node.outputs if value is not None}
    reads = dict.fromkeys(value for node in part.nodes for value in node_reads(node))
    inputs = [v for v in reads if v not in made and v.constant is None and v not in stage.known]
    own = {index}
    outputs = [
        v
        for node in part.nodes
        for v in node.outputs
        if v is not None and v not in stage.known and (v in handed_over or readers.get(v, own) - own)
    ]
    name = f"{graph_name}/{part.device}/{index}" if part.device else graph_name
    return GraphView(stage.graph, part.nodes, inputs, outputs, stage.types, stage.known, name=name, trace=stage.trace)


class NumbersNeededError(MaceError):
    """A plan of symbolic sizes is not to be made: a device with a share in it takes sizes that are numbers alone."""


class Compiler(Protocol):
    """Compiles subgraphs of one device, through a cache or not."""

    def __call__(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]: ...


class PlacedStage(NamedTuple):
    """Partitions with what was compiled for them (None for control flow), in the order in which they run.

    ``is_steady``: nothing went wrong on the way, so that it would come out the same another time; ``model``: how
    messages call the model; ``notes``: for each partition how it fits the buckets of its device; ``times``: what the
    partitions of this part took, where placements go by that.
    """

    partitioning: Partitioning
    views: tuple[GraphView, ...]
    compiled: tuple[CompiledSubgraph | None, ...]
    is_steady: bool = True
    model: str = ""
    notes: tuple[tuple[str, ...], ...] = ()
    times: PartTimes | None = None

    def close(self) -> None:
        """Free what was compiled."""
        with signals_kept():
            for part, compiled in zip(self.partitioning.partitions, self.compiled, strict=True):
                close_all((compiled,), part.device, "CompiledSubgraph.close", self.model)


def place(
    stage: Stage,
    pool: DevicePool,
    *,
    pins: Mapping[Node, str],
    strict: bool,
    compile_with: Compiler,
    name: str,
    capabilities: Mapping[str, Capability] | None = None,
    apart: bool = False,
    times: PartTimes | None = None,
) -> PlacedStage:
    """Ask the devices, partition, compile.

    ``capabilities``: what devices said of this stage already; ``apart``: every node a partition of its own; ``times``:
    what its partitions took before.

    Raises:
        StrictPlacementError: if ``strict`` and some node can run on no device named.
        UnplacedNodesError: if no device runs some node.
    """
    work = _Placing(stage, pool, pins, strict, compile_with, name, apart, dict(capabilities or {}), times=times)
    try:
        return work.run()
    except BaseException:
        work.close_compiled(())
        raise


def ask_capability(device: SessionDevice, view: GraphView) -> Capability:
    """What the device says of ``view``, looked through.

    Raises:
        ProviderError: if it cannot say, says something else, or changes what it was shown.
    """
    if view.trace is not None and not device.takes_symbols:
        view = in_numbers(view)  # what it takes of the shape at hand is not given to another device instead
    with device.calling("Backend.capability"), unchanged(device.name, view):
        backend = device.backend
        found = device.answer("saying what it runs", lambda: backend.capability(view))
        instance_of(Capability, found)
        answer = Capability(list_of(Claim, found.claims), list_of(Rejection, found.rejections))
        named = [node for claim in answer.claims for node in list_of(Node, claim.nodes)]
        named += [instance_of(Node, rejection.node) for rejection in answer.rejections]
        if not set(view.nodes).issuperset(named):
            raise WrongAnswerError("speaks of nodes that it was not shown")
        for rejection in answer.rejections:
            instance_of(str, rejection.reason)
    return answer


def why_not(device: SessionDevice, view: GraphView) -> str:
    """The reason why the device does not take ``view`` as a whole; "" if it does."""
    try:
        answer = ask_capability(device, view)
    except Exception as error:
        _log.warning("%s; a subgraph is not padded", error)
        return f"its capability check failed: {failure_of(error)}"
    claimed = {node for claim in answer.claims for node in claim.nodes}
    reasons = {rejection.node: rejection.reason for rejection in answer.rejections}
    for node in view.nodes:
        if node not in claimed:
            return f"{device.name} does not take '{node.name}' then: {reasons.get(node, 'it does not say why')}"
    return ""


def compile_views(device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
    """What the device makes of ``views``, looked through.

    Raises:
        ProviderError: if it cannot, returns something else, or changes what it was shown.
    """
    return _looked_through(device, "Backend.compile", views, lambda: device.backend.compile(views))


def restore_views(device: SessionDevice, views: Sequence[GraphView], blob: memoryview) -> list[CompiledSubgraph]:
    """What the device restores for ``views`` from a blob that it stored, looked through.

    Raises:
        ProviderError: as `compile_views`.
    """
    is_default = type(device.backend).deserialize_view is Backend.deserialize_view
    call = "Backend.deserialize" if is_default else "Backend.deserialize_view"
    return _looked_through(device, call, views, lambda: device.backend.deserialize_view(blob, views))


def _looked_through(
    device: SessionDevice, call: str, views: Sequence[GraphView], make: Callable[[], list[CompiledSubgraph]]
) -> list[CompiledSubgraph]:
    made: list[CompiledSubgraph] = []

    def close(late: object) -> None:
        found = late if isinstance(late, list) else ()
        close_all(
            (item for item in found if isinstance(item, CompiledSubgraph)),
            *(device.name, "CompiledSubgraph.close", device.model),
        )

    try:
        with device.calling(call), unchanged(device.name, *views):
            answer = device.answer(f"preparing {views[0].name}" if views else "preparing", make, close)
            made = [item for item in answer if isinstance(item, CompiledSubgraph)] if isinstance(answer, list) else []
            found = list_of(CompiledSubgraph, answer, len(views))
        _check_attributes(device, found, views)
    except BaseException:
        close_all(made, device.name, "CompiledSubgraph.close", device.model)
        raise
    return found


def _check_attributes(device: SessionDevice, compiled: Sequence[CompiledSubgraph], views: Sequence[GraphView]) -> None:
    for subgraph, view in zip(compiled, views, strict=True):
        with device.calling("CompiledSubgraph.workspace_bytes"):
            size = subgraph.workspace_bytes
            if isinstance(size, bool) or not isinstance(size, Integral) or size < 0:
                raise WrongAnswerError(f"is {size!r} where a number of bytes is promised")
        with device.calling("CompiledSubgraph.notes"):
            instance_of(Mapping, subgraph.notes)
        with device.calling("CompiledSubgraph.source_map"):
            instance_of(Mapping, subgraph.source_map)
        with device.calling("CompiledSubgraph.consumed_constants"):
            list_of(str, subgraph.consumed_constants)
        with device.calling("CompiledSubgraph.in_place"):
            numbers = list_of(int, subgraph.in_place)
            if not set(range(len(view.in_place))).issuperset(numbers):
                raise WrongAnswerError(f"is {numbers} of {len(view.in_place)} that were offered")


@dataclass(slots=True)
class _Placing:
    stage: Stage
    pool: DevicePool
    pins: Mapping[Node, str]
    strict: bool
    compile_with: Compiler
    name: str
    apart: bool
    capabilities: dict[str, Capability] = field(default_factory=dict)
    bans: dict[str, dict[Node, str]] = field(default_factory=dict)
    compiled: dict[tuple[str, tuple[Node, ...]], CompiledSubgraph] = field(default_factory=dict)
    unpadded: dict[tuple[str, tuple[Node, ...]], str] = field(default_factory=dict)  # with the reasons
    times: PartTimes | None = None
    _failure: Exception | None = None  # the latest of a provider

    def run(self) -> PlacedStage:
        control_flow = frozenset(node for node in self.stage.nodes if runs_in_core(node))
        while True:
            partitioning = self._partition(control_flow)
            if self.stage.trace is not None:
                self._refuse_numbers(partitioning)
            fits = self._fitted(partitioning.partitions)
            views = [fit.view for fit in fits]
            if self._compile(partitioning.partitions, views):
                break
        parts = partitioning.partitions
        found = tuple(self.compiled.get((part.device, part.nodes)) for part in parts)
        self.close_compiled(found)
        notes = tuple(fit.notes for fit in fits)
        is_steady = not self.bans and not self.unpadded
        return PlacedStage(partitioning, tuple(views), found, is_steady, self.pool.model, notes, self.times)

    def _fitted(self, parts: Sequence[Partition]) -> list[Fitted]:
        views = views_of(self.stage, parts, self.name, on_host(self.pool))
        if self.apart:  # every result is looked at as it is
            return [Fitted(view) for view in views]
        return fitted(self.stage, parts, views, self.pool, why_not, self.unpadded)

    def _refuse_numbers(self, partitioning: Partitioning) -> None:
        """
        Raises:
            NumbersNeededError: if a device that takes no symbolic sizes is to run some of the nodes.
        """
        for part in partitioning.partitions:
            device = self.pool.find(part.device)
            if device is not None and not device.takes_symbols:
                raise NumbersNeededError(f"{device.name} runs some of the nodes, and takes one shape at a time")

    def close_compiled(self, kept: Sequence[CompiledSubgraph | None]) -> None:
        """Close what was compiled on the way and is not in the result."""
        for (device, _), compiled in self.compiled.items():
            if compiled not in kept:
                close_all((compiled,), device, "CompiledSubgraph.close", self.pool.model)

    def _partition(self, control_flow: frozenset[Node]) -> Partitioning:
        """Ask the fallback devices only where nodes are pinned to them or the others leave something over: opening one
        may be dear."""
        pinned = {self.pins[node] for node in self.stage.nodes if node in self.pins}
        first = [device for device in self.pool.candidates() if not device.is_fallback or device.name in pinned]
        asked = [device for device in first if self.pool.ready(device)]
        waiting = [device for device in self.pool.candidates() if device not in first]
        while True:
            try:
                return self._ask(asked, control_flow)
            except UnplacedNodesError as error:
                if self.strict:
                    raise self._too_strict(error.unplaced, asked) from self._failure
                following = next((device for device in waiting if self.pool.ready(device)), None)
                if following is None:
                    raise UnplacedNodesError(self._with_refused(error.unplaced)) from self._failure
                waiting = waiting[waiting.index(following) + 1 :]
                asked.append(following)

    def _too_strict(
        self, unplaced: Mapping[Node, Mapping[str, str]], asked: Sequence[SessionDevice]
    ) -> StrictPlacementError:
        unplaced = self._with_refused(unplaced)
        where = ", ".join(device.name for device in asked) or "any device"
        lost = any(self.pool.refusal(device) for device in self.pool.devices)
        advice = "run it again once the device is back, " if lost else ""
        return StrictPlacementError(
            f"strict placement: {len(unplaced)} of {len(self.stage.nodes)} nodes cannot run on {where}: "
            f"{summary_of(unplaced)}; {advice}name a device that runs them too, or leave strict out",
            {node.name: dict(reasons) for node, reasons in unplaced.items()},
        )

    def _with_refused(self, unplaced: Mapping[Node, Mapping[str, str]]) -> Mapping[Node, Mapping[str, str]]:
        """The reasons of the devices that were asked, and of those that are not used any more."""
        refused = {
            device.name: f"not used: {reason}" for device in self.pool.devices if (reason := self.pool.refusal(device))
        }
        return {node: {**refused, **reasons} for node, reasons in unplaced.items()}

    def _ask(self, devices: Sequence[SessionDevice], control_flow: frozenset[Node]) -> Partitioning:
        offers = []
        for device in devices:
            answer = self._capability(device)
            first = next((other for other in devices if not other.only_pinned), device)
            kept = kept_in_core(self.stage, answer, device.name, first.name, self.pins, apart=self.apart)
            offers.append(Offer(device.name, answer, device.only_pinned, {**kept, **self.bans.get(device.name, {})}))
        decision = self._decide(devices, offers, control_flow)
        if decision is not None:
            try:
                found = partition(
                    self.stage.nodes,
                    decision.restricted(offers),
                    pins=self.pins,
                    control_flow=control_flow,
                    reasons=decision.reasons(),
                    seconds=decision.node_seconds(),
                )
                return found._replace(costs=decision.costs(found.partitions, self.stage.nodes))
            except UnplacedNodesError as error:  # claims that exclude each other
                _log.info("a placement by cost is given up: %s", error)
        return partition(
            self.stage.nodes,
            offers,
            pins=self.pins,
            control_flow=control_flow,
            apart=self.apart,
            seconds=self._assumed_seconds,
        )

    def _assumed_seconds(self, node: Node, device: str) -> float:
        from mace_core.scheduler.costs.rates import ASSUMED
        from mace_core.scheduler.costs.work import work_of

        return ASSUMED.seconds(work_of(node, lambda value: self.stage.types.get(value, value.type)))

    def _decide(
        self, devices: Sequence[SessionDevice], offers: Sequence[Offer], control_flow: frozenset[Node]
    ) -> Decision | None:
        """What the policy decides; None where devices are taken in order, or their costs are not known."""
        if self.apart or not self.pool.policy.by_cost or len(devices) < 2:
            return None
        from mace_core.scheduler.costs.rates import LAST_RESORT
        from mace_core.scheduler.planning.decisions import decide

        rates = {device.name: self.pool.rates_of(device) for device in devices}
        for device in devices:
            if rates[device.name] is None and device.is_fallback:
                rates[device.name] = LAST_RESORT
        known = {name: found for name, found in rates.items() if found is not None}
        if len(known) < len(rates):
            return None
        times, runs = {}, []
        if self.times is not None:
            times = {device.name: self.times.partitions(device) for device in devices}
            runs = [(run.where, run.seconds) for run in self.times.runs(self.pool.devices)]
        return decide(self.pool.policy, self._whole_view(), offers, known, self.pins, control_flow, times, runs)

    def _capability(self, device: SessionDevice) -> Capability:
        found = self.capabilities.get(device.name)
        if found is None:
            try:
                found = ask_capability(device, self._whole_view())
            except Exception as error:
                # A defect of one provider must not keep the others from running the model.
                _log.warning(
                    "%s; the device is passed over", error, exc_info=error if _log.isEnabledFor(logging.DEBUG) else None
                )
                reason = f"its capability check failed: {failure_of(error)}"
                self.bans[device.name] = dict.fromkeys(self.stage.nodes, reason)
                self._note_failure(device, error)
                found = Capability()
            self.capabilities[device.name] = found
        return found

    def _whole_view(self) -> GraphView:
        return views_of(self.stage, [Partition("", self.stage.nodes)], self.name)[0]

    def _compile(self, parts: Sequence[Partition], views: Sequence[GraphView]) -> bool:
        """Compile what is not compiled yet; False if something failed, and is banned from its device now."""
        complete = True
        for device in self.pool.devices:
            missing = [
                (part, view)
                for part, view in zip(parts, views, strict=True)
                if part.device == device.name and (part.device, part.nodes) not in self.compiled
            ]
            if missing and not self._compile_on(device, missing):
                complete = False
        return complete

    def _compile_on(self, device: SessionDevice, missing: Sequence[tuple[Partition, GraphView]]) -> bool:
        views = [view for _, view in missing]
        try:
            results = self._compiled_with(device, views)
        except Exception as error:
            if len(missing) > 1 and not isinstance(error, DeviceLostError):  # find the culprit
                succeeded = [self._compile_on(device, [one]) for one in missing]
                return all(succeeded)
            return self._ban(device, missing, error)
        for (part, _), result in zip(missing, results, strict=True):
            self.compiled[part.device, part.nodes] = result
        return True

    def _compiled_with(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        """What the device compiled; where memory is exhausted, once more each time that some was given up."""
        try:
            return self.compile_with(device, views)
        except MemoryError as error:
            if self.pool.relieve is None:
                raise
            for _ in self.pool.relieve(error):
                try:
                    return self.compile_with(device, views)
                except MemoryError as again:
                    error = again
            raise error

    def _ban(self, device: SessionDevice, missing: Sequence[tuple[Partition, GraphView]], error: Exception) -> bool:
        """Place elsewhere what the device could not compile: one subgraph, or all where it is lost."""
        part, view = missing[0]
        nodes = [node for other, _ in missing for node in other.nodes]
        reason = f"compile failed: {reason_of(error)}"
        foreseen = isinstance(error, MaceError) and not isinstance(error, ProviderBugError)
        level = logging.WARNING if foreseen else logging.ERROR
        traceback = error if _log.isEnabledFor(logging.DEBUG) else None
        if isinstance(view, PaddedView) and not isinstance(error, DeviceLostError):
            _log.log(level, "%s; compile failed: a subgraph is compiled without padding", error, exc_info=traceback)
            self.unpadded[part.device, part.nodes] = reason
            self._note_failure(device, error)
            return False
        _log.log(level, "%s; compile failed: %d nodes are placed elsewhere", error, len(nodes), exc_info=traceback)
        self.bans.setdefault(device.name, {}).update(dict.fromkeys(nodes, reason))
        self._note_failure(device, error)
        return False

    def _note_failure(self, device: SessionDevice, error: Exception) -> None:
        self._failure = error
        if isinstance(error, DeviceLostError):
            self.pool.lose(device.name, error)
