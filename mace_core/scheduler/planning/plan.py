"""The execution plan of one stage: registers and steps, with nothing left to decide at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mace_core.graph import GraphView, Node, Value
from mace_core.provider import CompiledSubgraph
from mace_core.provider.arenas import ArenaPlan
from mace_core.scheduler.host.control_flow import ControlFlow
from mace_core.scheduler.numerics import NumericsCheck
from mace_core.scheduler.planning.arena_plans import plan_memory
from mace_core.scheduler.planning.concurrency import Tracks, tracks_of, with_downloads_early
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.lent import lent_uploads
from mace_core.scheduler.planning.padded_views import PaddedView
from mace_core.scheduler.planning.partition import CORE_DEVICE
from mace_core.scheduler.planning.placement import PlacedStage
from mace_core.scheduler.planning.stages import Stage
from mace_core.scheduler.planning.steps import (
    HOST,
    ControlStep,
    CutStep,
    DownloadStep,
    PadStep,
    Register,
    RunStep,
    Shape,
    Step,
    Storage,
    UploadStep,
    owner,
    reads,
    writes,
)
from mace_core.scheduler.values import element_dtype, is_dense
from mace_core.tensor import DType, MemoryKind, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor

if TYPE_CHECKING:
    from mace_core.scheduler.planning.sizes import StageSizes

__all__ = [
    "HOST",
    "ControlStep",
    "CutStep",
    "DownloadStep",
    "PadStep",
    "Register",
    "RunStep",
    "StagePlan",
    "Step",
    "Storage",
    "UploadStep",
    "build_plan",
]


@dataclass(slots=True, eq=False)
class StagePlan:
    """Registers and steps of one stage.

    Attributes:
        feeds: the register of each value fed.
        results: the register of each stage output.
        arenas: memory plan per location.
        devices: the devices that steps use, by name.
        numerics: what results are checked for after every step, if anything.
        sizes: what follows from sizes that are decided at a run; None where all are.
        single: the one step of a stage that is one run on host memory and nothing else (the fast path).
        grown: for each value that grows in place: the register fed, and the longer one in the same memory.
        tracks: how its steps are shared among threads; None where no two devices can work at the same time.
        lent: the uploads whose source keeps its content until the run has ended, so that a device may import it.
    """

    stage: Stage
    placed: PlacedStage
    registers: list[Register]
    steps: list[Step]
    feeds: list[int]
    results: list[int]
    arenas: dict[str, ArenaPlan]
    devices: dict[str, SessionDevice]
    single: RunStep | None = None
    sizes: StageSizes | None = None
    numerics: NumericsCheck | None = None
    grown: tuple[tuple[int, int], ...] = ()
    tracks: Tracks | None = None
    lent: frozenset[int] = frozenset()

    @property
    def busy_devices(self) -> frozenset[str]:
        """The devices that compute something."""
        return frozenset(step.device for step in self.steps if isinstance(step, RunStep))

    @property
    def transfers(self) -> list[UploadStep | DownloadStep]:
        return [step for step in self.steps if isinstance(step, UploadStep | DownloadStep)]


def build_plan(
    stage: Stage,
    placed: PlacedStage,
    pool: DevicePool,
    feeds: Sequence[Value],
    control_flow: Callable[[Node, Mapping[Value, ValueType], Mapping[Value, Tensor]], ControlFlow],
) -> StagePlan:
    """Turn placed partitions into a plan.  ``feeds`` are the values fed, in order."""
    builder = _Builder(stage, placed, pool)
    builder.add_feeds(feeds)
    for index, part in enumerate(placed.partitioning.partitions):
        compiled = placed.compiled[index]
        if compiled is None:
            node = part.nodes[0]
            builder.add_control(node, control_flow(node, stage.types, stage.known))
        else:
            builder.add_run(index, compiled)
    return builder.finish(feeds)


@dataclass(slots=True)
class _Builder:
    stage: Stage
    placed: PlacedStage
    pool: DevicePool
    registers: list[Register] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    index: dict[tuple[Value, str], int] = field(default_factory=dict)
    devices: dict[str, SessionDevice] = field(default_factory=dict)
    plain: set[Value] = field(default_factory=set)  # read by Python code: no arena
    pinned: dict[str, bool] = field(default_factory=dict)  # device -> whether the host can address its memory
    padded: dict[tuple[Value, str, Shape], int] = field(default_factory=dict)  # registers of larger shapes
    wanted_by: dict[Value, str] = field(default_factory=dict)  # the first device with pinned memory that reads it
    growths: dict[Value, int] = field(default_factory=dict)  # what grows in place -> the register of its input

    def add_feeds(self, feeds: Sequence[Value]) -> None:
        for node in self.stage.nodes:
            if any(True for _ in node.subgraphs()):
                self.plain.update(v for v in node.inputs if v is not None)
        self.plain.update(self.stage.outputs)
        for part, view in zip(self.placed.partitioning.partitions, self.placed.views, strict=True):
            if part.device == CORE_DEVICE:
                self.plain.update(view.inputs)
        for part, view in zip(self.placed.partitioning.partitions, self.placed.views, strict=True):
            if part.device != CORE_DEVICE and self._is_pinned(self._location(self._device(part.device))):
                for value in view.inputs:
                    if not self._is_padded(value, view):
                        self.wanted_by.setdefault(value, part.device)
        for value in feeds:
            dense = is_dense(self._type(value))
            self._register(value, HOST, Storage.INPUT if dense else Storage.OBJECT)
        fed = set(feeds)
        for part, view in zip(self.placed.partitioning.partitions, self.placed.views, strict=True):
            # Before any work is queued: an upload never has to wait for a device that is busy.
            for value in view.inputs:
                if part.device != CORE_DEVICE and value in fed:
                    location = self._location(self._device(part.device))
                    if self._is_padded(value, view):
                        self._padded_at(value, location, view)
                    else:
                        self._at(value, location)

    def add_run(self, index: int, compiled: CompiledSubgraph) -> None:
        part, view = self.placed.partitioning.partitions[index], self.placed.views[index]
        device = self._device(part.device)
        location = self._location(device)
        inputs = tuple(
            self._padded_at(value, location, view) if self._is_padded(value, view) else self._readable(value, location)
            for value in view.inputs
        )
        for number in sorted(compiled.in_place):
            pair = view.in_place[number]
            self.growths[pair.target] = self.index[pair.source, HOST]
        outputs = tuple(
            self._padded_register(value, location, view)
            if self._is_padded(value, view)
            else self._written(value, location)
            for value in view.outputs
        )
        source = tuple(name for node in part.nodes for name in node.source)
        touches_host = any(self.registers[r].location == HOST for r in (*inputs, *outputs)) or location == HOST
        touches_host |= self._is_pinned(location)
        step = RunStep(
            device.name,
            location,
            compiled,
            inputs,
            outputs,
            view.name,
            source,
            compiled.workspace_bytes,
            touches_host,
            nodes=part.nodes,
            writes_over=any(view.in_place[number].axis is None for number in compiled.in_place),
        )
        self._step(step, inputs, outputs)

    def add_control(self, node: Node, control: ControlFlow) -> None:
        inputs = tuple(self._at(value, HOST) for value in control.reads)
        outputs = tuple(self._given(value) for value in control.writes)
        self._step(ControlStep(node, control, inputs, outputs), inputs, outputs)

    def finish(self, feeds: Sequence[Value]) -> StagePlan:
        results = [self._at(value, HOST) for value in self.stage.outputs]
        self._end(results)
        tracks = self._tracks()
        is_fixed = not self.growths and self.stage.trace is None
        lent = lent_uploads(self.steps, self.registers, self.devices) if is_fixed else frozenset()
        needed = [*results, *(source for number in lent for source in reads(self.steps[number]))]
        self._end(needed)
        arenas = plan_memory(self.registers, self.steps, needed, tracks)
        slots = [self.index[value, HOST] for value in feeds]
        grown = tuple(
            (register.base, index) for index, register in enumerate(self.registers) if register.storage is Storage.GROWN
        )
        plan = StagePlan(
            self.stage,
            self.placed,
            self.registers,
            self.steps,
            slots,
            results,
            arenas,
            self.devices,
            grown=grown,
            tracks=tracks,
            lent=lent,
        )
        plan.single = _single_step(plan)
        return plan

    def _end(self, results: Sequence[int]) -> None:
        for register in results:
            self.registers[owner(register, self.registers)].last = len(self.steps)

    def _tracks(self) -> Tracks | None:
        """The tracks, where devices can work at the same time; the steps are put in order for that."""
        if len(self.devices) < 2 or self.growths:
            return None
        predicted = self._predicted()
        if tracks_of(self.steps, self.registers, predicted) is None:
            return None
        steps, self.steps = with_downloads_early(self.steps), []
        for step in steps:
            self._step(step, reads(step), writes(step))
        return tracks_of(self.steps, self.registers, predicted)

    def _predicted(self) -> dict[tuple[Node, ...], float] | None:
        """Seconds of each partition, by its nodes, where the placement went by them."""
        found = self.placed.partitioning
        if found.costs is None:
            return None
        return {part.nodes: cost for part, cost in zip(found.partitions, found.costs.predicted, strict=True)}

    def _step(self, step: Step, reads: Sequence[int], writes: Sequence[int]) -> None:
        number = len(self.steps)
        for index in reads:
            self.registers[owner(index, self.registers)].last = number
        for index in writes:
            register = self.registers[owner(index, self.registers)]
            register.first = register.last = number
        self.steps.append(step)

    def _readable(self, value: Value, location: str) -> int:
        """The register of ``value`` for a device at ``location``: memory that the host shares with a device is read
        where it is."""
        if location != HOST or (value, HOST) in self.index or value in self.plain:
            return self._at(value, location)
        for (held, holder), index in self.index.items():
            if held is value and self._is_pinned(holder) and self.registers[index].storage is Storage.ARENA:
                return self._share(index)
        return self._at(value, HOST)

    def _written(self, value: Value, location: str) -> int:
        """The register that a device at ``location`` writes ``value`` into: what a device with pinned memory reads is
        put there at once."""
        reader = self.wanted_by.get(value)
        type = self._type(value)
        if location != HOST or reader is None or value in self.plain or not is_dense(type):
            return self._make(value, location)
        if not isinstance(type, TensorType) or not type.is_concrete:
            return self._make(value, location)
        return self._share(self._make(value, reader))

    def _share(self, index: int) -> int:
        """A register of the host over a device's."""
        base = self.registers[index]
        shared = self._register(base.value, HOST, Storage.SHARED)
        self.registers[shared].base = index
        return shared

    def _is_pinned(self, location: str) -> bool:
        if location == HOST:
            return False
        found = self.pinned.get(location)
        if found is None:
            found = self.pinned[location] = self._device(location).memory is MemoryKind.PINNED
        return found

    def _at(self, value: Value, location: str) -> int:
        """The register of ``value`` at ``location``; copied there if it is elsewhere."""
        found = self.index.get((value, location))
        if found is not None:
            return found
        if value.constant is not None or value in self.stage.known:
            constant = value.constant if value.constant is not None else self.stage.known[value]
            storage = Storage.SIZES if isinstance(constant, SymbolicTensor) else Storage.CONSTANT
            return self._register(value, HOST, storage, constant)
        if location == HOST:
            held = next(((i, at) for (v, at), i in self.index.items() if v is value), None)
            if held is None:
                return self._cut(value)
            source, holder = held
            target = self._make(value, HOST)
            self._step(DownloadStep(holder, source, target), (source,), (target,))
            return target
        owner_device = self._only_holder(value)
        if owner_device is not None and self._is_pinned(location):  # no third place in between
            source, target = self.index[value, owner_device], self._make(value, location)
            self._step(DownloadStep(owner_device, source, target), (source,), (target,))
            return target
        source = self._readable(value, HOST)
        if not is_dense(self._type(value)):
            return source
        target = self._make(value, location)
        self._step(UploadStep(location, source, target), (source,), (target,))
        return target

    def _only_holder(self, value: Value) -> str | None:
        """The device in whose own memory alone a tensor of known shape is, where the host is not to have it too."""
        type = self._type(value)
        is_known = is_dense(type) and isinstance(type, TensorType) and type.is_concrete
        holders = [location for held, location in self.index if held is value]
        if not is_known or len(holders) != 1 or value in self.plain or value in self.growths:
            return None
        return None if holders[0] == HOST or self._is_pinned(holders[0]) else holders[0]

    def _is_padded(self, value: Value, view: GraphView) -> bool:
        """Whether a subgraph reads or writes a value in a larger shape than it has."""
        return isinstance(view, PaddedView) and view.type(value) != self._type(value)

    def _padded_at(self, value: Value, location: str, view: GraphView) -> int:
        """The register of ``value`` at ``location`` in the shape that it has in ``view``."""
        found = self.padded.get((value, location, view.shape(value)))
        if found is not None:
            return found
        source = self._at(value, HOST) if location == HOST else self._padded_at(value, HOST, view)
        target = self._padded_register(value, location, view)
        step = PadStep(source, target) if location == HOST else UploadStep(location, source, target)
        self._step(step, (source,), (target,))
        return target

    def _padded_register(self, value: Value, location: str, view: GraphView) -> int:
        """A register that a step writes, of the shape that ``value`` has in ``view``."""
        type = view.tensor_type(value)
        assert type is not None, "only tensors are padded"
        return self._add_padded(Register(value, location, Storage.ARENA, type, type.dtype, type.concrete_shape))

    def _add_padded(self, register: Register) -> int:
        assert register.shape is not None, "padded shapes are concrete"
        self.padded[register.value, register.location, register.shape] = len(self.registers)
        self.registers.append(register)
        return len(self.registers) - 1

    def _cut(self, value: Value) -> int:
        """The register on the host of a value that was computed in a larger shape."""
        location, source = next((at, i) for (held, at, _), i in self.padded.items() if held is value)
        if location != HOST:
            long = self.registers[source]
            target = self._add_padded(Register(value, HOST, Storage.ARENA, long.type, long.dtype, long.shape))
            self._step(DownloadStep(location, source, target), (source,), (target,))
            source = target
        target = self._make(value, HOST)
        self._step(CutStep(source, target), (source,), (target,))
        return target

    def _make(self, value: Value, location: str) -> int:
        """A register that a step writes."""
        if value in self.growths:
            grown = self._register(value, HOST, Storage.GROWN)
            self.registers[grown].base = self.growths[value]
            return grown
        type = self._type(value)
        if not is_dense(type) and type is not None:
            return self._register(value, HOST, Storage.OBJECT)
        if not isinstance(type, TensorType) or not type.is_concrete:
            return self._register(value, location, Storage.DYNAMIC)
        plain = location == HOST and value in self.plain
        return self._register(value, location, Storage.FRESH if plain else Storage.ARENA)

    def _given(self, value: Value) -> int:
        """A register that control flow fills with what its bodies return."""
        dense = is_dense(self._type(value)) or self._type(value) is None
        return self._register(value, HOST, Storage.DYNAMIC if dense else Storage.OBJECT)

    def _register(self, value: Value, location: str, storage: Storage, constant: Tensor | None = None) -> int:
        type = self._type(value)
        concrete = isinstance(type, TensorType) and type.is_concrete
        shape = type.concrete_shape if concrete and isinstance(type, TensorType) else None
        if constant is not None:
            type, shape = TensorType(constant.dtype, constant.shape), constant.shape
        self.index[value, location] = len(self.registers)
        self.registers.append(Register(value, location, storage, type, element_dtype(type), shape, constant))
        return len(self.registers) - 1

    def _type(self, value: Value) -> ValueType | None:
        return self.stage.types.get(value, value.type)

    def _device(self, name: str) -> SessionDevice:
        device = self.devices.get(name)
        if device is None:
            device = self.pool.find(name)
            assert device is not None, f"partitions name only devices of the pool, not {name}"
            self.devices[name] = device
        return device

    @staticmethod
    def _location(device: SessionDevice) -> str:
        return HOST if device.memory is MemoryKind.HOST else device.name


def _single_step(plan: StagePlan) -> RunStep | None:
    """The step, if the plan is one run whose inputs are what is fed and whose outputs are new arrays.

    Results may also be constants, what is fed, or arrays whose shape the run decides, but not beside values that grow
    in place.
    """
    if len(plan.steps) != 1:
        return None
    step = plan.steps[0]
    if not isinstance(step, RunStep) or step.location != HOST:
        return None
    registers = plan.registers
    if not all(registers[r].storage is Storage.INPUT and not registers[r].dtype.is_packed for r in plan.feeds):
        return None
    computed, results = set(step.outputs), set(plan.results)
    kinds = {registers[r].storage for r in results}
    constants = {r for r in results if registers[r].storage is Storage.CONSTANT}
    given = computed | set(plan.feeds) | constants
    fits = len(results) == len(plan.results) and results <= given and results >= computed
    fits &= not any(registers[r].dtype.is_packed or registers[r].dtype is DType.STRING for r in results)
    free = {Storage.FRESH, Storage.DYNAMIC, Storage.INPUT, Storage.CONSTANT}
    fits &= kinds <= {Storage.FRESH, Storage.GROWN} or kinds <= free
    return step if fits else None
