"""Places the nodes of one stage and compiles the pieces; what fails to compile is placed elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mace_core.errors import MaceError, ProviderBugError, StrictPlacementError
from mace_core.graph import GraphView, Node, Value
from mace_core.provider import Capability, CompiledSubgraph
from mace_core.provider.border import calling, close_all, instance_of, reason_of, unchanged
from mace_core.scheduler.host.core_nodes import runs_in_core
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.partition import (
    Offer,
    Partition,
    Partitioning,
    UnplacedNodesError,
    partition,
    summary_of,
)
from mace_core.scheduler.planning.stages import Stage, node_reads

_log = logging.getLogger("mace")


def views_of(stage: Stage, parts: Sequence[Partition], graph_name: str) -> list[GraphView]:
    """What the providers of the partitions of a stage see."""
    part_of = {node: index for index, part in enumerate(parts) for node in part.nodes}
    readers: dict[Value, set[int]] = {}
    for node in stage.nodes:
        for value in node_reads(node):
            readers.setdefault(value, set()).add(part_of.get(node, -1))
    handed_over = set(stage.outputs)
    return [_view(stage, part, index, graph_name, readers, handed_over) for index, part in enumerate(parts)]


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
    return GraphView(stage.graph, part.nodes, inputs, outputs, stage.types, stage.known, name=name)


class Compiler(Protocol):
    """Compiles subgraphs of one device, through a cache or not."""

    def __call__(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]: ...


class PlacedStage(NamedTuple):
    """Partitions with what was compiled for them (None for control flow), in the order in which they run.

    ``is_steady``: nothing went wrong on the way, so that it would come out the same another time.
    """

    partitioning: Partitioning
    views: tuple[GraphView, ...]
    compiled: tuple[CompiledSubgraph | None, ...]
    is_steady: bool = True

    def close(self) -> None:
        """Free what was compiled."""
        close_all(self.compiled)


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
) -> PlacedStage:
    """Ask the devices, partition, compile.

    ``capabilities``: what devices said of this stage already; ``apart``: every node a partition of its own.

    Raises:
        StrictPlacementError: if ``strict`` and some node can run on no device named.
        UnplacedNodesError: if no device runs some node.
    """
    work = _Placing(stage, pool, pins, strict, compile_with, name, apart, dict(capabilities or {}))
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
    with calling(device.name), unchanged(device.name, view):
        found = instance_of(Capability, device.backend.capability(view))
        answer = Capability(tuple(found.claims), tuple(found.rejections))
        own = set(view.nodes)
        named = [node for claim in answer.claims for node in claim.nodes]
        if not own.issuperset([*named, *(rejection.node for rejection in answer.rejections)]):
            raise ValueError("capability() speaks of nodes that it was not shown")
    return answer


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

    def run(self) -> PlacedStage:
        control_flow = frozenset(node for node in self.stage.nodes if runs_in_core(node))
        while True:
            partitioning = self._partition(control_flow)
            views = views_of(self.stage, partitioning.partitions, self.name)
            if self._compile(partitioning.partitions, views):
                break
        parts = partitioning.partitions
        found = tuple(self.compiled.get((part.device, part.nodes)) for part in parts)
        self.close_compiled(found)
        return PlacedStage(partitioning, tuple(views), found, is_steady=not self.bans)

    def close_compiled(self, kept: Sequence[CompiledSubgraph | None]) -> None:
        """Close what was compiled on the way and is not in the result."""
        close_all(compiled for compiled in self.compiled.values() if compiled not in kept)

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
                    raise StrictPlacementError(
                        f"strict placement: {len(error.unplaced)} of {len(self.stage.nodes)} nodes cannot run on "
                        f"{', '.join(device.name for device in asked) or 'any device'}: {summary_of(error.unplaced)}; "
                        "name a device that runs them too, or leave strict out",
                        {node.name: dict(reasons) for node, reasons in error.unplaced.items()},
                    ) from None
                following = next((device for device in waiting if self.pool.ready(device)), None)
                if following is None:
                    raise
                waiting = waiting[waiting.index(following) + 1 :]
                asked.append(following)

    def _ask(self, devices: Sequence[SessionDevice], control_flow: frozenset[Node]) -> Partitioning:
        offers = [
            Offer(device.name, self._capability(device), device.only_pinned, self.bans.get(device.name, {}))
            for device in devices
        ]
        return partition(self.stage.nodes, offers, pins=self.pins, control_flow=control_flow, apart=self.apart)

    def _capability(self, device: SessionDevice) -> Capability:
        found = self.capabilities.get(device.name)
        if found is None:
            try:
                found = ask_capability(device, self._whole_view())
            except Exception as error:
                # A defect of one provider must not keep the others from running the model.
                _log.warning("%s could not say what it runs and is passed over: %s", device.name, reason_of(error))
                reason = f"its capability check failed: {reason_of(error)}"
                self.bans[device.name] = dict.fromkeys(self.stage.nodes, reason)
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
            results = self.compile_with(device, views)
            if len(results) != len(views):
                raise ProviderBugError(
                    f"{device.name} was given {len(views)} subgraphs and compiled {len(results)}", device=device.name
                )
            if not all(isinstance(result, CompiledSubgraph) for result in results):
                raise ProviderBugError(f"{device.name} compiled to what is no CompiledSubgraph", device=device.name)
        except Exception as error:
            if len(missing) > 1:  # find the culprit
                succeeded = [self._compile_on(device, [one]) for one in missing]
                return all(succeeded)
            return self._ban(device, missing[0][0], error)
        for (part, _), result in zip(missing, results, strict=True):
            self.compiled[part.device, part.nodes] = result
        return True

    def _ban(self, device: SessionDevice, part: Partition, error: Exception) -> bool:
        reason = f"compile failed: {reason_of(error)}"
        foreseen = isinstance(error, MaceError) and not (isinstance(error, ProviderBugError) and error.__cause__)
        level = logging.WARNING if foreseen else logging.ERROR
        _log.log(level, "%s: %d nodes are placed elsewhere; %s", device.name, len(part.nodes), reason)
        self.bans.setdefault(device.name, {}).update(dict.fromkeys(part.nodes, reason))
        return False
