"""Placements of earlier processes: a start that finds one asks no device what it can run, and compiles nothing.

A record holds for the same part of the same model under the same input types, the same devices with the same options,
pins and strictness.  The devices that had a say must have a stored form, and say themselves (`check_compatibility`)
that what was stored under their driver or build is still good; everything that was compiled has to be in the cache.
Where any of that is not so, the part is placed as if there were no record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mace_core.provider.backend import CompiledSubgraph
from mace_core.provider.border import close_all
from mace_core.scheduler.planning.digests import part_words
from mace_core.scheduler.planning.fitting import fitted, take_all
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.partition import CORE_DEVICE, Partition, Partitioning, Placement
from mace_core.scheduler.planning.placement import PlacedStage, views_of
from mace_core.scheduler.planning.stored_forms import compatibility_key, stores, worth_of
from mace_core.scheduler.planning.told_costs import Costs

if TYPE_CHECKING:
    from mace_core.graph import Graph, GraphView, Node, Value
    from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
    from mace_core.scheduler.planning.model_times import PartTimes
    from mace_core.scheduler.planning.stages import Stage
    from mace_core.tensor import Tensor, ValueType

Types: TypeAlias = "Mapping[Value, ValueType]"
Contents: TypeAlias = "Mapping[Value, Tensor]"

_log = logging.getLogger("mace")


class RememberedPlacements:
    """Stores and restores how the parts of one model were placed."""

    def __init__(self, model: PreparedModel, pool: DevicePool, *, strict: bool) -> None:
        self._model = model
        self._pool = pool
        self._strict = strict
        self._latest: tuple[Graph, Types, Contents, bytes] | None = None

    def has(
        self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor], pins: Mapping[Node, str]
    ) -> bool:
        """Whether an earlier process stored how ``graph`` was placed under this signature; see `restore`."""
        found = self._stored(graph, types, fixed, pins)
        self._latest = None if found is None else (graph, types, fixed, found)  # it is wanted next
        return found is not None

    def among(self, pool: DevicePool) -> RememberedPlacements:
        """The same for other devices."""
        return RememberedPlacements(self._model, pool, strict=self._strict)

    @property
    def has_package(self) -> bool:
        """Whether the model was compiled ahead of time."""
        return self._model.package is not None

    def is_packaged(
        self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor], pins: Mapping[Node, str]
    ) -> bool:
        """Whether the model's package says how ``graph`` was placed under this signature."""
        package = self._model.package
        return package is not None and package.placement(self.package_words(graph, types, fixed, pins)) is not None

    def _stored(
        self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor], pins: Mapping[Node, str]
    ) -> bytes | None:
        """The record of an earlier process, else that of the model's package."""
        found = self._model.stored_placement(self._words(graph, types, fixed, pins))
        if found is None and self._model.package is not None:
            found = self._model.package.placement(self.package_words(graph, types, fixed, pins))
        return found

    def restore(
        self,
        stage: Stage,
        graph: Graph,
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        pins: Mapping[Node, str],
    ) -> PlacedStage | None:
        """The stage as it was placed before, with what was compiled for it; None where that cannot be had.

        Args:
            stage: what is to run.
            graph: what was to be planned.
            types, fixed: of its inputs, as they were resolved.
            pins: device by node of the graph, and of those nested in it.
        """
        latest, self._latest = self._latest, None
        if latest is not None and latest[0] is graph and latest[1] is types and latest[2] is fixed:
            stored: bytes | None = latest[3]
        else:
            stored = self._stored(graph, types, fixed, pins)
        if stored is None:
            return None
        try:
            record = json.loads(stored)
            if record["nodes"] != [node.name for node in stage.nodes] or not still_good(self._pool, record["asked"]):
                return None
            partitioning = recorded_partitioning(record, stage)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            _log.info("a stored placement is not used (%s: %s)", type(error).__name__, error)
            return None
        parts = partitioning.partitions
        fits = fitted(stage, parts, views_of(stage, parts, stage.graph.name), self._pool, take_all, {})
        views = tuple(fit.view for fit in fits)
        compiled = self._compiled(parts, views)
        if compiled is None:
            return None
        notes = tuple(fit.notes for fit in fits)
        return PlacedStage(partitioning, views, compiled, model=self._pool.model, notes=notes)

    def store(
        self,
        placed: PlacedStage,
        stage: Stage,
        graph: Graph,
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        pins: Mapping[Node, str],
    ) -> None:
        """Keep how the stage was placed, if that will be the same next time."""
        record = self.record(placed, stage)
        if record is not None:
            self._model.store_placement(self._words(graph, types, fixed, pins), record)

    def record(self, placed: PlacedStage, stage: Stage) -> bytes | None:
        """How the stage was placed; None where that may be another time otherwise."""
        placements = placed.partitioning.placements
        asked = {placement.device for placement in placements.values()} - {CORE_DEVICE}
        asked.update(device for placement in placements.values() for device in placement.declined)
        devices = [device for device in self._pool.devices if device.name in asked]
        if self._pool.policy.decides_itself:  # its code may be another one tomorrow
            return None
        if not placed.is_steady or not all(device.is_open and stores(device.backend) for device in devices):
            return None
        record = placement_record(placed, stage, devices)
        return None if record is None else json.dumps(record).encode()

    def package_words(
        self,
        graph: Graph,
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        pins: Mapping[Node, str],
        *,
        fallbacks: bool = True,
    ) -> list[str]:
        """What a record in the model's package is found under: nothing that holds on one machine alone.

        ``fallbacks``: False leaves out the devices that take what others leave over, as strict sessions do.
        """
        words = part_words(graph, types, fixed)
        for device in self._pool.devices:
            if device.is_fallback and not fallbacks:
                continue
            words += ["device", device.name, device.compile_options, str((device.only_pinned, device.is_fallback))]
        if decides_by_cost(self._pool):
            words += ["policy", repr(self._pool.policy)]
        return [*words, *(f"{node.name}:{device}" for node, device in pins.items())]

    def _words(
        self, graph: Graph, types: Mapping[Value, ValueType], fixed: Mapping[Value, Tensor], pins: Mapping[Node, str]
    ) -> list[str]:
        words = part_words(graph, types, fixed)
        if (times := self.times(graph, types, fixed)) is not None:
            words += ["times", times.word(self._pool.devices)]
        return [*words, *pool_words(self._pool, pins, strict=self._strict)]

    def times(self, graph: Graph, types: Types, fixed: Contents) -> PartTimes | None:
        """What partitions of ``graph`` took under this signature; None where nobody goes by that."""
        if self._model.times is None or not (decides_by_cost(self._pool) or self._pool.policy.decides_itself):
            return None
        return self._model.times.of(graph, types, fixed)

    def _compiled(
        self, parts: Sequence[Partition], views: Sequence[GraphView]
    ) -> tuple[CompiledSubgraph | None, ...] | None:
        """What was compiled for each partition (None for control flow), grouped as when it was stored."""
        found: list[CompiledSubgraph | None] = [None] * len(parts)
        for device in self._pool.devices:
            own = [index for index, part in enumerate(parts) if part.device == device.name]
            if not own:
                continue
            restored = self._model.restore(device, [views[index] for index in own])
            if restored is None:
                for part, compiled in zip(parts, found, strict=True):
                    close_all((compiled,), part.device, "CompiledSubgraph.close", self._pool.model)
                return None
            for index, compiled in zip(own, restored, strict=True):
                found[index] = compiled
        return tuple(found)


def placement_record(placed: PlacedStage, stage: Stage, devices: Sequence[SessionDevice]) -> dict[str, Any] | None:
    """How a stage was placed, as data for JSON; None where a device does not say what that depends on.

    Args:
        placed, stage: as planned.
        devices: that had a say; they are open.
    """
    placements = placed.partitioning.placements
    position = {node: index for index, node in enumerate(stage.nodes)}
    kinds: dict[tuple[Any, ...], int] = {}
    for placement in placements.values():
        kinds.setdefault(_kind(placement), len(kinds))
    try:
        keys = [[device.name, compatibility_key(device)] for device in devices]
    except Exception as error:  # only the next start is slower
        _log.warning("%s; where nodes run cannot be stored", error)
        return None
    return {
        "nodes": [node.name for node in stage.nodes],
        "asked": keys,
        "partitions": [[p.device, [position[node] for node in p.nodes]] for p in placed.partitioning.partitions],
        "kinds": list(kinds),
        "placements": [kinds[_kind(placements[node])] for node in stage.nodes],
        "costs": placed.partitioning.costs,
    }


def pool_words(pool: DevicePool, pins: Mapping[Node, str], *, strict: bool) -> list[str]:
    """What placements depend on beside what is placed."""
    words = ["strict" if strict else "lenient"]
    for device in pool.devices:
        flags = (device.named, device.is_fallback, device.only_pinned, bool(pool.refusal(device)))
        words += ["device", device.name, device.provider_code, device.options_key, str(flags)]
    if decides_by_cost(pool):
        from mace_core.scheduler.planning.stored_rates import StoredRates

        stored = StoredRates()
        words += ["policy", repr(pool.policy), *(repr(stored.get(device)) for device in pool.devices)]
    return [*words, *(f"{node.name}:{device}" for node, device in pins.items())]


def decides_by_cost(pool: DevicePool) -> bool:
    """Whether costs have a say: there is a choice, and the policy goes by them."""
    return pool.policy.by_cost and sum(not device.is_fallback for device in pool.devices) > 1


def still_good(pool: DevicePool, asked: Sequence[tuple[str, str]]) -> bool:
    """Whether each device that had a say still takes what was made under the key it had then."""
    for name, key in asked:
        device = pool.find(name)
        if device is None or pool.refusal(device) or not pool.ready(device) or not stores(device.backend):
            return False
        if worth_of(device, key) is None:
            return False
    return True


def _kind(placement: Placement) -> tuple[Any, ...]:
    """What many nodes have in common: device, reason, and for each device before it why not there."""
    return placement.device, placement.reason, tuple(placement.declined.items())


def recorded_partitioning(record: Mapping[str, Any], stage: Stage) -> Partitioning:
    """The partitions and placements of a `placement_record`.

    Raises:
        KeyError, IndexError, TypeError, ValueError: if it is none of this stage.
    """
    nodes = stage.nodes
    kinds = [(device, reason, dict(declined)) for device, reason, declined in record["kinds"]]
    return Partitioning(
        tuple(Partition(device, tuple(nodes[i] for i in members)) for device, members in record["partitions"]),
        {node: Placement(node, *kinds[number]) for node, number in zip(nodes, record["placements"], strict=True)},
        None if record["costs"] is None else Costs.from_data(record["costs"]),
    )
