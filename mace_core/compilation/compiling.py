"""Compiling a model for devices, and writing what they made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.compilation.found import Compilation, CompiledTarget
from mace_core.errors import ModelError, StrictPlacementError, UnsupportedError
from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.operators.processing import DOMAIN
from mace_core.package import NewSection, write_package
from mace_core.package.compiled import CompiledPart, PackedWeights, placement_section
from mace_core.package.documents import Document, document_sections
from mace_core.package.graphs import OPTIMIZED, graph_sections
from mace_core.package.keys import SigningKey
from mace_core.package.layout import OWN_OPERATORS
from mace_core.package.samples import Sample
from mace_core.package.steps import steps_section
from mace_core.processing import Processed
from mace_core.progress import report
from mace_core.provider import CompiledSubgraph, Execution
from mace_core.provider.inventory import find_device
from mace_core.provider.registry import Registry
from mace_core.provider.weights import WeightFiles, using_weight_files
from mace_core.scheduler.opening import STEPS, SessionArguments, own_constants, step_pins
from mace_core.scheduler.planning.assumptions import AssumedShapes
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.digests import digest_of, view_words
from mace_core.scheduler.planning.flags import Flags
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.partition import CORE_DEVICE
from mace_core.scheduler.planning.pins import pin_lookup
from mace_core.scheduler.planning.placement import PlacedStage
from mace_core.scheduler.planning.remembered import RememberedPlacements
from mace_core.scheduler.planning.selection import resolve_device_name, select_devices
from mace_core.scheduler.planning.settling import settled_shapes
from mace_core.scheduler.planning.signatures import types_from_shapes
from mace_core.scheduler.planning.stages import Stage
from mace_core.scheduler.planning.stored_forms import stored_form, stores
from mace_core.scheduler.running.planner import Planner
from mace_core.storing import LoadedModel
from mace_core.tensor import Tensor, TensorType, ValueType

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.topology import TopologyReport


HOST_PROVIDER = "cpu"

_STEPS = tuple(steps.rstrip("*") for steps in STEPS)
"""Beginnings of the names of nodes that no device need run: labels and texts are the core's."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What goes into the package beside the model."""

    samples: Sequence[Sample]
    keys: Sequence[SigningKey]
    weights: str
    processed: Processed | None
    documents: Sequence[Document]

    @property
    def without(self) -> Graph | None:
        """The model without its steps, if it has any."""
        return None if self.processed is None else self.processed.without

    def sections(self) -> list[NewSection]:
        """Those that say something of the model."""
        steps = [] if self.processed is None else [steps_section(self.processed.steps)]
        return [*steps, *document_sections(self.documents)]


class _Elsewhere(CompiledSubgraph):
    """Nodes that are compiled where they run."""

    def new_execution(self) -> Execution:
        raise UnsupportedError("this was only placed, to see what is left for another device")


class _Records(RememberedPlacements):
    """Keeps what is to be remembered of placements for the package."""

    def __init__(self, model: PreparedModel, pool: DevicePool, kept: dict[str, bytes], *, strict: bool) -> None:
        super().__init__(model, pool, strict=strict)
        self._kept = kept

    def store(
        self,
        placed: PlacedStage,
        stage: Stage,
        graph: Graph,
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        pins: Mapping[Node, str],
    ) -> None:
        record = self.record(placed, stage)
        if record is None:
            return
        self._kept[digest_of(*self.package_words(graph, types, fixed, pins))] = record
        used = {placement.device for placement in placed.partitioning.placements.values()}
        if not any(device.is_fallback and device.name in used for device in self._pool.devices):
            self._kept[digest_of(*self.package_words(graph, types, fixed, pins, fallbacks=False))] = record


@dataclass(slots=True, eq=False)
class _Kept:
    """What is to be in the package."""

    parts: dict[tuple[str, ...], NewSection] = field(default_factory=dict)
    placements: dict[str, bytes] = field(default_factory=dict)
    weights: PackedWeights = field(default_factory=PackedWeights)


class Compiling:
    def __init__(
        self, model: Model, name: str, out: Path, given: SessionArguments, extras: Extras, registry: Registry
    ) -> None:
        self._out = out
        self._given = given
        self._registry = registry
        self._options = given.options or {}
        found = [self._find(name) for name in given.devices or ()]
        self._devices = list(dict.fromkeys(found))
        loaded = LoadedModel(model, given, registry, extras.weights, extras.without)
        self._label, self._graphs = loaded.label, loaded.graphs
        self._metadata = {**loaded.metadata, **({"model": name} if name else {})}
        self._graph = self._graphs[OPTIMIZED]
        self._samples, self._keys = loaded.sections_of(extras.samples), extras.keys
        self._said = extras.sections()
        self._requires = [OWN_OPERATORS] if any(node.domain == DOMAIN for node in self._graph.nodes) else []
        self._kept = _Kept()

    def _find(self, name: str) -> str:
        options = {**self._options.get(name.partition(":")[0], {}), **self._options.get(name, {})}
        return find_device(name, self._registry, for_execution=False, options=options).qualified_name

    def run(self, given: Sequence[Mapping[str, Sequence[int]]], repairs: Sequence[TopologyReport]) -> Compilation:
        constants = own_constants(self._graph, self._registry, self._label)
        try:
            signatures = [settled_shapes(self._graph, shapes, self._label) for shapes in given or [{}]]
            work = [(device, settled) for device in self._devices for settled in signatures]
            targets = []
            for number, (device, settled) in enumerate(work):
                report(f"compiling for {device}", number, len(work))
                targets.append(self._compile(device, settled, constants))
            report(f"compiling for {work[-1][0]}", len(work), len(work))
        finally:
            if constants is not None:
                constants.close()
        sections = graph_sections(self._graphs)
        graph_bytes = sum(one.nbytes for one in sections if one.kind == "graph")
        weight_bytes = sum(one.nbytes for one in sections) - graph_bytes
        compiled, packed = list(self._kept.parts.values()), self._kept.weights.sections
        placements = [placement_section(match, record) for match, record in self._kept.placements.items()]
        everything = [*sections, *packed, *compiled, *placements, *self._samples, *self._said]
        nbytes = write_package(self._out, everything, self._metadata, requires=self._requires, keys=self._keys)
        return Compilation(
            self._out,
            nbytes,
            graph_bytes,
            weight_bytes,
            sum(one.nbytes for one in compiled),
            sum(one.nbytes for one in packed),
            sum(one.nbytes for one in self._samples),
            tuple(targets),
            ", ".join(dict.fromkeys(settled.note for settled in signatures if settled.note)),
            tuple(repairs),
        )

    def _compile(self, name: str, settled: AssumedShapes, constants: Any) -> CompiledTarget:
        """Compile for one device and one signature: all ways that the model's flags may decide."""
        start = time.perf_counter()
        inputs = self._graph.inputs
        types = types_from_shapes(inputs, settled.shapes, self._label)
        signature = ", ".join(f"{n}={'x'.join(map(str, s)) or 'scalar'}" for n, s in settled.shapes.items())
        before = set(self._kept.parts)
        ways: list[tuple[Stage, PlacedStage]] = []
        failure: ModelError | None = None
        for contents in Flags(self._graph).choices(types, {}):
            try:
                ways.append(self._place(name, types, contents, signature, constants))
            except ModelError as error:  # a way that these shapes do not take
                failure = failure or error
        if not ways and failure is not None:
            raise failure
        own = [key for key in self._kept.parts if key[0] == name and key not in before]
        stage, placed = ways[0]
        return self._target(name, signature, stage, placed, own, time.perf_counter() - start)

    def _place(
        self,
        name: str,
        types: Mapping[Value, ValueType],
        contents: Mapping[Value, Tensor],
        signature: str,
        constants: Any,
    ) -> tuple[Stage, PlacedStage]:
        pins = self._pins(name)
        pool = DevicePool(
            select_devices(
                self._registry,
                [name],
                options=self._options_for(name),
                strict=self._given.strict,
                pinned=list(pins.values()),
                graph=self._graph,
                model=self._label,
                for_execution=False,
            )
        )
        try:
            device = pool.find(name)
            if device is None or not pool.ready(device) or not stores(device.backend):
                raise UnsupportedError(
                    f"{self._label}: {name} has no form in which what it compiles could be stored; name another device",
                    device=name,
                )
            model = PreparedModel(
                self._graph, self._label, keep=lambda at, views, made: self._keep(at, views, made, signature)
            )

            def compile_with(device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
                return model.compile(device, views) if device.name in self._devices else [_Elsewhere() for _ in views]

            planner = Planner(
                label=self._label,
                pool=pool,
                compile_with=compile_with,
                resolve=model.resolve,
                remembered=_Records(model, pool, self._kept.placements, strict=self._given.strict),
                pin=pin_lookup(pins),
                strict=self._given.strict,
                capacity=1,
                opset_imports=self._graph.opset_imports,
                is_told=False,
                constants=constants,
            )
            all_types = {**types, **{value: TensorType(one.dtype, one.shape) for value, one in contents.items()}}
            stage, placed = planner.placed(self._graph, all_types, contents)
            placed.close()
            return stage, placed
        finally:
            pool.release()

    def _pins(self, name: str) -> dict[str, str]:
        """Of the steps before and after the model, as a session of this device has them."""
        pins = step_pins(self._graph, [name], self._registry, strict=False)
        return {pattern: resolve_device_name(pin, self._registry, self._options) for pattern, pin in pins.items()}

    def _options_for(self, name: str) -> dict[str, Mapping[str, object]]:
        """Without those for the other devices that are compiled for, which are not in this session."""
        others = {other for other in self._devices if other != name}
        providers = {other.partition(":")[0] for other in others} - {name.partition(":")[0], HOST_PROVIDER}
        return {key: given for key, given in self._options.items() if key not in others | providers}

    def _keep(
        self, device: SessionDevice, views: Sequence[GraphView], compiled: Sequence[CompiledSubgraph], signature: str
    ) -> None:
        """Keep what a device compiled for the package.

        Raises:
            UnsupportedError: if it cannot be stored.
        """
        weights = self._kept.weights
        with using_weight_files(WeightFiles(weights, weights, lambda: "weights")):
            form = stored_form(device, compiled)
        if form is None:
            raise UnsupportedError(
                f"{self._label}: {device.name} gave nothing to be stored of what it compiled; the warnings say why",
                device=device.name,
            )
        match = digest_of(*view_words(views))
        nodes = sum(len(view.nodes) for view in views)
        part = CompiledPart(
            device.name, match, form.compatibility, device.compile_options, signature, len(views), nodes
        )
        key = (device.name, match, form.compatibility, device.compile_options)
        if key not in self._kept.parts:
            self._kept.parts[key] = part.to_section(len(self._kept.parts), form.parts)

    def _target(
        self, name: str, signature: str, stage: Stage, placed: PlacedStage, own: Sequence[tuple[str, ...]], took: float
    ) -> CompiledTarget:
        placements = placed.partitioning.placements
        elsewhere: dict[str, list[str]] = {}
        is_pinned = pin_lookup(self._pins(name))
        own_nodes = [node for node in stage.nodes if is_pinned(node) in (None, name)]
        for node in list(own_nodes):
            placement = placements[node]
            if placement.device == CORE_DEVICE and node.name.startswith(_STEPS):
                own_nodes.remove(node)  # which no device is meant to run
            elif placement.device != name:
                reason = placement.declined.get(name, placement.reason)
                elsewhere.setdefault(reason, []).append(node.name)
        if stage.rest is not None:
            reason = "its shapes are known only once the nodes before it have run"
            later = [node.name for node in stage.rest.nodes if is_pinned(node) in (None, name)]
            own_nodes += [node for node in stage.rest.nodes if is_pinned(node) in (None, name)]
            if later:
                elsewhere.setdefault(reason, []).extend(later)
        outside = sum(map(len, elsewhere.values()))
        nodes = len(own_nodes)
        reasons = "; ".join(f"{_listed(names)}: {why}" for why, names in elsewhere.items())
        if outside and self._given.strict:
            raise StrictPlacementError(
                f"{self._label}: strict compilation: {outside} of {nodes} nodes would not be in a compiled subgraph of "
                f"{name} ({reasons}); leave strict out to compile the others",
                {each: {name: why} for why, names in elsewhere.items() for each in names},
            )
        if not nodes:
            raise UnsupportedError(
                f"{self._label}: nothing is left to compile for {name}: the model computes nothing, or all of its "
                "outputs are constants",
                device=name,
            )
        if outside == nodes:
            raise UnsupportedError(
                f"{self._label}: nothing can be compiled for {name} ({reasons}); name another device",
                device=name,
            )
        sections = [self._kept.parts[key] for key in own]
        return CompiledTarget(
            name,
            signature,
            nodes,
            nodes - outside,
            sum(part.device == name for part in placed.partitioning.partitions),
            sum(section.nbytes for section in sections),
            next((str(section.facts["compatibility"]) for section in sections), ""),
            {why: tuple(names) for why, names in elsewhere.items()},
            took,
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
