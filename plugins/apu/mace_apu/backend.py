"""An open APU: says what it runs, compiles it, stores and restores that."""

from __future__ import annotations

from collections.abc import Sequence

from mace_apu import storage
from mace_apu.builder import build
from mace_apu.description import Call, Network, Operand
from mace_apu.execution import ApuSubgraph
from mace_apu.lowering.engine import Claimed, Lowered, lower
from mace_apu.neuron.constants import FIRST_VERSION, SINCE, Operation, Preference
from mace_apu.neuron.handles import NeuronCompilation, NeuronDevices
from mace_apu.version import VERSION
from mace_core.errors import UnsupportedError
from mace_core.graph import GraphView, Node
from mace_core.provider import (
    Backend,
    Capability,
    Claim,
    CompiledSubgraph,
    Device,
    Rejection,
    ShapeSupport,
    Stream,
)
from mace_core.provider.worker_queue import WorkerQueue

_PREFERENCES = {
    "latency": Preference.FAST_SINGLE_ANSWER,
    "low_power": Preference.LOW_POWER,
    "sustained": Preference.SUSTAINED_SPEED,
    "boost": Preference.TURBO_BOOST,
}
_BOOST = {"boost": 100}
"""How high the device may clock, in percent, where that is said at all."""


class ApuBackend(Backend):
    """All processors of one Neuron Adapter."""

    shape_support = ShapeSupport.STATIC

    def __init__(self, device: Device, devices: NeuronDevices, *, performance: str, relaxed: bool) -> None:
        """``performance`` is a value of that option; ``relaxed``: float32 is computed in float16."""
        self.device = device
        self.devices = devices
        self._performance = performance
        self._relaxed = relaxed
        names = ", ".join(devices.names) or "no names are told"
        library = devices.library
        self.notes = (f"{device.qualified_name} is {library.path}, version {library.version}: {names}",)

    def capability(self, view: GraphView) -> Capability:
        lowered = lower(view, self.devices.library.version, float16=self._relaxed, claims_only=True)
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
            answers = [SINCE.get(call.operation, FIRST_VERSION) <= version for call in network.calls]
        return answers

    def _reason(self, call: Call) -> str:
        what = Operation(call.operation).name
        return f"the Neuron Adapter {self.devices.library.version} runs {what} of this form on none of its devices"

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
        lowered = lower(view, self.devices.library.version, float16=self._relaxed)
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
                compilation = NeuronCompilation(model)
            except BaseException:
                model.close()
                raise
            try:
                compilation.prefer(_PREFERENCES[self._performance])
                compilation.finish()
            except BaseException:
                compilation.close()
                raise
        return self._subgraph(compilation, view.name, _sources(view.nodes), _constants(view))

    def _subgraph(
        self, compilation: NeuronCompilation, name: str, sources: tuple[str, ...], constants: frozenset[str]
    ) -> ApuSubgraph:
        return ApuSubgraph(compilation, name, sources, constants, _BOOST.get(self._performance))

    def create_stream(self) -> Stream:
        return WorkerQueue(self.device.qualified_name)

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        networks = []
        for item in compiled:
            binary = item.stored() if isinstance(item, ApuSubgraph) else None
            if binary is None:
                return None
            assert isinstance(item, ApuSubgraph)
            networks.append(storage.StoredNetwork(item.name, item.sources, item.consumed_constants, binary))
        return storage.pack(networks)

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        networks = storage.unpack(blob)
        if len(networks) != len(subgraphs):
            raise UnsupportedError(f"{len(networks)} networks are stored, {len(subgraphs)} are needed")
        compiled: list[CompiledSubgraph] = []
        try:
            for name, sources, constants, binary in networks:
                with self.devices.library.lock:
                    compilation = NeuronCompilation.restore(self.devices, binary)
                compiled.append(self._subgraph(compilation, name, sources, constants))
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
            f"performance={self._performance}",
            f"precision={'float16' if self._relaxed else 'float32'}",
        ))  # fmt: skip

    @property
    def live_objects(self) -> int:
        """Objects of the library that exist."""
        return self.devices.live


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
