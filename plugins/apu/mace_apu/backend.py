"""An open APU: says what it runs, compiles it, stores and restores that."""

from __future__ import annotations

from collections.abc import Sequence

from mace_apu import storage
from mace_apu.builder import build
from mace_apu.description import Call, Network, Operand
from mace_apu.execution import ApuSubgraph
from mace_apu.lowering.engine import Claimed, Lowered, lower
from mace_apu.lowering.winograd import WINOGRAD, Winograd
from mace_apu.memory import SharedAllocator, SharedMemory, why_not_shared
from mace_apu.neuron.constants import FIRST_VERSION, SINCE, Operation
from mace_apu.neuron.handles import NeuronCompilation, NeuronDevices
from mace_apu.options import Hints
from mace_apu.stream import ApuStream
from mace_apu.tuning import Tuning
from mace_apu.version import VERSION
from mace_core.errors import UnsupportedError
from mace_core.graph import GraphView, Node
from mace_core.provider import (
    Allocator,
    Backend,
    Buffer,
    Capability,
    Claim,
    CompiledSubgraph,
    Device,
    ForeignKind,
    ForeignMemory,
    HostAllocator,
    Rejection,
    ShapeSupport,
    Stream,
)
from mace_core.provider.worker_queue import WorkerQueue

_EVENT_FUNCTIONS = ("NeuronExecution_startComputeWithDependencies", "NeuronEvent_wait", "NeuronEvent_free")


class ApuBackend(Backend):
    """All processors of one Neuron Adapter."""

    shape_support = ShapeSupport.STATIC

    def __init__(
        self,
        device: Device,
        devices: NeuronDevices,
        *,
        hints: Hints,
        relaxed: bool,
        blocks: Sequence[int] = (),
        shared: bool = True,
    ) -> None:
        """
        Args:
            device: that was opened.
            devices: of the library.
            hints: for the library.
            relaxed: float32 is computed in float16.
            blocks: of Winograd's algorithm that may be used; none to do without it.
            shared: whether inputs and outputs are to lie in memory that the library knows.
        """
        self.device = device
        self.devices = devices
        self._relaxed = relaxed
        self._winograd = Winograd(blocks, devices.why_no_extension(WINOGRAD.extension) if blocks else "")
        self._tuning = Tuning(devices, hints)
        names = ", ".join(devices.names) or "no names are told"
        library = devices.library
        self._tuning.note(f"{device.qualified_name} is {library.path}, version {library.version}: {names}")
        self._allocator: Allocator = HostAllocator()
        if shared and (reason := why_not_shared(devices)):
            self._tuning.note(f"the library copies inputs and outputs: it takes no shared memory: {reason}")
        elif shared:
            self._allocator = SharedAllocator(devices)
        self._has_events = all(library.has(function) for function in _EVENT_FUNCTIONS)
        if not self._has_events:
            self._tuning.note(f"runs wait for each other: the Neuron Adapter {library.version} has no events, which "
                              "came with 5.0.0")  # fmt: skip

    @property
    def notes(self) -> Sequence[str]:  # type: ignore[override]  # grows as hints are refused
        """What was found out about the library so far."""
        return tuple(self._tuning.notes)

    def allocators(self) -> Sequence[Allocator]:
        return (self._allocator,)

    def export_memory(self, buffer: Buffer) -> ForeignMemory | None:
        if not isinstance(buffer.handle, SharedMemory):
            return None
        return ForeignMemory(ForeignKind.DMA_BUF, buffer.nbytes, descriptor=buffer.handle.descriptor)

    def capability(self, view: GraphView) -> Capability:
        lowered = self._lower(view, claims_only=True)
        refused = self._refused(lowered)
        declined = dict(lowered.declined)
        claims: list[Claim] = []
        for claimed in lowered.claims:
            if claimed in refused:
                declined.update((node, refused[claimed]) for node in claimed.nodes)
            else:
                claims.append(Claim(claimed.nodes, atomic=claimed.atomic))
        taken = {node for claim in claims for node in claim.nodes}
        return Capability(claims, [Rejection(node, why) for node, why in declined.items() if node not in taken])

    def _lower(self, view: GraphView, *, claims_only: bool = False) -> Lowered:
        """Lowered with the convolutions by Winograd that the library takes, each form asked about once."""
        version, winograd = self.devices.library.version, self._winograd
        while True:
            lowered = lower(view, version, float16=self._relaxed, claims_only=claims_only, winograd=winograd)
            refused = len(winograd.refused)
            for (form, block), call in list(winograd.asked.items()):
                winograd.answer(form, block, self._why_refused(Claimed((), (call,), atomic=False)))
            if len(winograd.refused) == refused:
                return lowered

    def _refused(self, lowered: Lowered) -> dict[Claimed, str]:
        """Claims that the library does not take, with reasons: asked together, and one by one if it refuses that."""
        if not lowered.network.calls:
            return {}
        try:
            answers = self._ask(lowered.network)
        except UnsupportedError:
            found = {claimed: self._why_refused(claimed) for claimed in lowered.claims if claimed.calls}
            return {claimed: reason for claimed, reason in found.items() if reason is not None}
        asked = zip(lowered.network.calls, answers, strict=True)
        wanting = {call: self._reason(call) for call, fits in asked if not fits}
        return {claimed: wanting[call] for claimed in lowered.claims for call in claimed.calls if call in wanting}

    def _why_refused(self, claimed: Claimed) -> str | None:
        try:
            answers = self._ask(_network_of(claimed.calls))
        except UnsupportedError as error:
            return str(error)
        return next((self._reason(call) for call, fits in zip(claimed.calls, answers, strict=True) if not fits), None)

    def _ask(self, network: Network) -> list[bool]:
        """For each operation, whether the devices run it.

        Raises:
            UnsupportedError: if the library refuses to build the network.
        """
        with self.devices.library.lock:
            model = build(self.devices, network, "question", relaxed=self._relaxed)
            try:
                answers = model.supported()
            finally:
                model.close()
        if answers is None:  # it does not tell: its version does
            version = self.devices.library.version
            answers = [_since(call) <= version for call in network.calls]
        return answers

    def _reason(self, call: Call) -> str:
        library, what = self.devices.library, call.operation.name
        return f"the Neuron Adapter {library.version} runs {what} of this form on none of its devices"

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        compiled: list[CompiledSubgraph] = []
        try:
            for view in subgraphs:
                compiled.append(self._compile(view))
        except BaseException:
            for item in compiled:
                item.close()
            raise
        return compiled

    def _compile(self, view: GraphView) -> ApuSubgraph:
        lowered = self._lower(view)
        for node, reason in lowered.declined.items():
            raise UnsupportedError(
                f"node '{node.name}' ({node.qualified_op}) was claimed, but not in this subgraph: {reason}",
                node=node.name,
                device=self.device.qualified_name,
            )
        if (len(lowered.network.inputs), len(lowered.network.outputs)) != (len(view.inputs), len(view.outputs)):
            raise UnsupportedError(f"{view.name}: inputs or outputs have no operand", device=self.device.qualified_name)
        with self.devices.library.lock:
            model = build(self.devices, lowered.network, view.name, relaxed=self._relaxed)
            try:
                compilation = self._tuning.create(model)
            except BaseException:
                model.close()
                raise
            try:
                self._tuning.apply_to_compilation(compilation)
                compilation.finish()
            except BaseException:
                compilation.close()
                raise
        sources, constants = _sources(view.nodes), _constants(view)
        return ApuSubgraph(compilation, view.name, sources, constants, self._tuning, lowered.notes)

    def create_stream(self) -> Stream:
        name = self.device.qualified_name
        return ApuStream(name) if self._has_events else WorkerQueue(name)

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        networks = []
        for item in compiled:
            binary = item.stored() if isinstance(item, ApuSubgraph) else None
            if binary is None:
                return None
            assert isinstance(item, ApuSubgraph)
            networks.append(_stored(item, binary))
        return storage.pack(networks)

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        networks = storage.unpack(blob)
        if len(networks) != len(subgraphs):
            raise UnsupportedError(f"{len(networks)} networks are stored, {len(subgraphs)} are needed")
        compiled: list[CompiledSubgraph] = []
        try:
            for name, sources, constants, notes, binary in networks:
                with self.devices.library.lock:
                    compilation = NeuronCompilation.restore(self.devices, binary)
                compiled.append(ApuSubgraph(compilation, name, sources, constants, self._tuning, notes))
        except BaseException:
            for item in compiled:
                item.close()
            raise
        return compiled

    def compatibility_key(self) -> str:
        library = self.devices.library
        status = library.path.stat()
        return "; ".join((
            f"mace-apu {VERSION}",
            f"Neuron Adapter {library.version}, {library.path}, {status.st_size} bytes of {status.st_mtime_ns}",
            *self.devices.names,
            self._tuning.hints.key,
            f"winograd={'off' if self._winograd.absent else self._winograd.blocks}",
            f"precision={'float16' if self._relaxed else 'float32'}",
        ))  # fmt: skip

    @property
    def live_objects(self) -> int:
        """Objects of the library that exist."""
        return self.devices.live


def _since(call: Call) -> tuple[int, int, int]:
    """The version that an operation came with; that of an extension was asked about by its name."""
    return SINCE.get(call.operation, FIRST_VERSION) if isinstance(call.operation, Operation) else FIRST_VERSION


def _stored(item: ApuSubgraph, binary: bytes) -> storage.StoredNetwork:
    return storage.StoredNetwork(item.name, item.sources, item.consumed_constants, dict(item.notes), binary)


def _network_of(calls: Sequence[Call]) -> Network:
    """Some calls by themselves: what others make becomes inputs, what they make, outputs."""
    made = dict.fromkeys(operand for call in calls for operand in call.outputs)
    read: dict[Operand, None] = {}
    for call in calls:
        read.update(dict.fromkeys(operand for operand in call.inputs if operand.data is None and operand not in made))
    return Network(list(calls), list(read), list(made))


def _sources(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for node in nodes for name in node.source))


def _constants(view: GraphView) -> frozenset[str]:
    return frozenset(
        value.name
        for node in view.nodes
        for value in node.inputs
        if value is not None and view.constant(value) is not None
    )
