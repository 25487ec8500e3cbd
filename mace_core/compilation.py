"""Compiling ahead of time: a model and what devices compile of it, in one file that is loaded without the model.

    mace.compile("model.onnx", "model.mace", devices=["hexagon:sm8650"])
    session = mace.Session("model.mace")

A device may be a target that is not on this machine.  What is compiled for it is used, without compiling, where a
device says that it fits; elsewhere the model is compiled from the graph in the file, and the reason is told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import ModelError, StrictPlacementError, UnsupportedError, UsageError
from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.operators.processing import DOMAIN
from mace_core.package import NewSection, write_package
from mace_core.package.compiled import CompiledPart, PackedWeights, placement_section
from mace_core.package.documents import Document, document_sections
from mace_core.package.graphs import OPTIMIZED, graph_sections
from mace_core.package.keys import SigningKey, read_signing_key
from mace_core.package.layout import OWN_OPERATORS
from mace_core.package.samples import Sample
from mace_core.package.steps import steps_section
from mace_core.processing import Processed, Step, with_steps
from mace_core.progress import report
from mace_core.provider import CompiledSubgraph, Execution
from mace_core.provider.inventory import find_device
from mace_core.provider.registry import Registry, default_registry
from mace_core.provider.weights import WeightFiles, using_weight_files
from mace_core.scheduler.opening import STEPS, SessionArguments, step_pins
from mace_core.scheduler.planning.arguments import device_names
from mace_core.scheduler.planning.assumptions import AssumedShapes, assumed_shapes, first_taken
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.digests import digest_of, view_words
from mace_core.scheduler.planning.flags import Flags
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.partition import CORE_DEVICE
from mace_core.scheduler.planning.pins import pin_lookup
from mace_core.scheduler.planning.placement import PlacedStage
from mace_core.scheduler.planning.remembered import RememberedPlacements
from mace_core.scheduler.planning.selection import resolve_device_name, select_devices
from mace_core.scheduler.planning.signatures import given_shapes, types_from_shapes
from mace_core.scheduler.planning.stages import Stage
from mace_core.scheduler.planning.stored_forms import stored_form, stores
from mace_core.scheduler.running.planner import Planner
from mace_core.storing import LoadedModel, package_path
from mace_core.tensor import Tensor, TensorType, ValueType

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.topology import TopologyReport

HOST_PROVIDER = "cpu"


@dataclass(frozen=True, slots=True)
class CompiledTarget:
    """What was compiled for one device and one signature.

    Attributes:
        device: as ``provider:id``.
        signature: shapes of the inputs, ``x=1x3x224x224``.
        nodes: that would run there, all in all; those that the signature decides are not among them.
        compiled: nodes that the device runs.
        subgraphs: in which they are.
        nbytes: size of what was compiled.
        compatibility: what it depends on, in the provider's words.
        elsewhere: why the other nodes are not among them -> their names.
        seconds: what compiling took.
    """

    device: str
    signature: str
    nodes: int
    compiled: int
    subgraphs: int
    nbytes: int
    compatibility: str
    elsewhere: Mapping[str, tuple[str, ...]]
    seconds: float

    @property
    def share(self) -> float:
        """Of the nodes, those that the device runs; 0 to 1."""
        return self.compiled / self.nodes if self.nodes else 0.0


@dataclass(frozen=True, slots=True)
class Compilation:
    """What `compile_model` wrote.

    Attributes:
        out: the package.
        nbytes: its size.
        graph_bytes, weight_bytes, compiled_bytes, packed_bytes, sample_bytes: of it the graph, the model's weights,
            what devices compiled, weights in their forms, and samples.
        targets: one for each device and signature.
        assumed: sizes of free dimensions that nobody gave, ``height=224``.
        repairs: what was found and mended for each device, where that was asked for.
    """

    out: Path
    nbytes: int
    graph_bytes: int
    weight_bytes: int
    compiled_bytes: int
    packed_bytes: int
    sample_bytes: int
    targets: tuple[CompiledTarget, ...]
    assumed: str = ""
    repairs: tuple[TopologyReport, ...] = ()


def compile_model(
    model: Model,
    out: str | os.PathLike[str],
    *,
    devices: Sequence[str] | str,
    shapes: Mapping[str, Sequence[int]] | Sequence[Mapping[str, Sequence[int]]] = (),
    options: Mapping[str, Mapping[str, object]] | None = None,
    strict: bool = False,
    optimize: bool = True,
    samples: Sequence[Sample] = (),
    sign_with: Sequence[str | os.PathLike[str]] = (),
    weights: str = "",
    repair: bool = False,
    before: Sequence[Step] = (),
    after: Sequence[Step] = (),
    documents: Sequence[Document] = (),
    registry: Registry | None = None,
) -> Compilation:
    """Compile a model for devices, and write a package: the graph, its weights, and what was compiled.

    Args:
        model: a path, bytes, an ``onnx.ModelProto``, a ``Graph`` (taken over) or a package, whose graph is compiled.
        out: the file to write; ends in ``.mace``.  What was there stays until the new one is whole.
        devices: ``provider`` or ``provider:device`` each; targets that cannot run on this machine too.  The model is
            placed for each as a session of this device alone would place it.
        shapes: of the inputs, by name; a sequence of them for several signatures.  Usual sizes are assumed for
            dimensions that the model leaves free.
        options: per provider or device, as for `mace_core.Session`.
        strict: every node has to be in a compiled subgraph of the device.
        optimize: simplify the graph first.
        samples: runs whose results are known (`mace_core.numerics.make_samples`), by which the package proves itself.
        sign_with: files of private Ed25519 keys, each of which signs the package (`mace_core.package.signatures`).
        weights: store those in float32 as "float16", "bfloat16" or "int8" (see `store_model`).
        before, after: steps of `mace_core.processing` that become parts of the graph; ``shapes`` and ``samples`` are of
            what goes in then.  ``Session(…, processing=False)`` opens the model without them.
        documents: the quantization report, licenses and the model card (`mace_core.package.documents`).
        repair: put other forms in the place of nodes that a device refuses, where it takes them and they compute the
            same (`mace_core.topology`); they are for the shapes given, so there can be one signature only, unless all
            shapes are fixed.
        registry: where providers are found; the process's own by default.

    Raises:
        ModelError: if the model cannot be read.
        UsageError, DeviceNotFoundError, PluginError: for devices, options or names that mean nothing.
        InputError: if the shapes do not fit the model.
        StrictPlacementError: if ``strict`` cannot be kept; says why for each node.
        UnsupportedError: if nothing can be compiled for a device, or it has no form to be stored.
        MaceError: if the file cannot be written.
    """
    path = package_path(out, weights)
    names = device_names([devices] if isinstance(devices, str) else devices)
    if not names:
        raise UsageError("a model is compiled for a device: name one, such as hexagon:v75 (`mace devices` lists them)")
    given = SessionArguments(
        devices=names,
        options=options,
        strict=strict,
        pins=None,
        max_signatures=1,
        optimize=optimize,
        cache=False,
        mmap=True,
        check_numerics=False,
        registry=registry,
        trusts_all=True,
    )
    signatures = [shapes] if isinstance(shapes, Mapping) else list(shapes)
    repairs: list[TopologyReport] = []
    name = _name_of(model)
    processed = None
    if before or after:
        processed = with_steps(model, before, after)
        model = processed.graph
    extras = _Extras(samples, [read_signing_key(key) for key in sign_with], weights, processed, documents)
    if repair:
        model, repairs = _repaired(model, names, signatures, options, optimize=optimize, registry=registry)
    return _Compiling(model, name, path, given, extras, registry or default_registry()).run(signatures, repairs)


def _repaired(
    model: Model,
    devices: Sequence[str],
    signatures: Sequence[Mapping[str, Sequence[int]]],
    options: Mapping[str, Mapping[str, object]] | None,
    *,
    optimize: bool,
    registry: Registry | None,
) -> tuple[Graph, list[TopologyReport]]:
    """The model with forms that the devices take, and what was found for each."""
    from mace_core.topology import check_topology

    if len(signatures) > 1:
        raise UsageError("rewrites are for one shape of each input: give one signature, or leave the repair out")
    reports = []
    for device in devices:
        found = check_topology(
            model, device, shapes=signatures[0] if signatures else {}, options=options, optimize=optimize,
            registry=registry,
        )  # fmt: skip
        reports.append(found)
        model = found.graph
    assert isinstance(model, Graph)
    return model, reports


def settled_shapes(graph: Graph, given: Mapping[str, Sequence[int]], label: str) -> AssumedShapes:
    """The shapes of a signature, with usual sizes for what nobody gives.

    Raises:
        InputError: if ``given`` does not fit the model, which messages call ``label``.
        UsageError: if it takes none of the sizes tried.
    """
    from mace_core.operators import resolve

    inputs = graph.inputs
    candidates = assumed_shapes(inputs, given_shapes(inputs, given, label))

    def attempt(tried: Mapping[str, tuple[int, ...]]) -> None:
        resolve(graph, types_from_shapes(inputs, tried, label))

    return first_taken(candidates, attempt, model=label)


_STEPS = tuple(steps.rstrip("*") for steps in STEPS)
"""Beginnings of the names of nodes that no device need run: labels and texts are the core's."""


@dataclass(frozen=True, slots=True)
class _Extras:
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


class _Compiling:
    def __init__(
        self, model: Model, name: str, out: Path, given: SessionArguments, extras: _Extras, registry: Registry
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
        constants = None
        if self._graph.computed:
            from mace_core.scheduler.running.computed import ComputedConstants

            constants = ComputedConstants(self._registry, self._label)
            for constant in self._graph.computed:
                constant.owner = constants
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
        if outside == nodes:
            raise UnsupportedError(
                f"{self._label}: nothing can be compiled for {name} ({reasons or 'no node is left to run'}); name "
                "another device",
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


def _name_of(model: Model) -> str:
    """The name of the model's file alone: where it was is nobody's business."""
    return Path(model).name if isinstance(model, str | os.PathLike) else ""
