"""The reference provider: every node through ``onnx.reference``.  The oracle and the last fallback; never fast.

It is always reported as a fallback and never counted as native.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mace_core.errors import CancelledError, ProviderError, UnsupportedError, UsageError
from mace_core.graph import AttributeKind, GraphView, Node, Value
from mace_core.provider import (
    ApiVersion,
    Backend,
    Bindings,
    Capability,
    Claim,
    CompiledSubgraph,
    Device,
    DeviceKind,
    Execution,
    ExecutionProvider,
    ProbeResult,
    Rejection,
    ShapeSupport,
)
from mace_core.scheduler.values import RuntimeValue, read_bound, write_bound
from mace_core.tensor import DType, MemoryKind
from mace_core.version import VERSION

REFERENCE_NAME = "reference"


class ReferenceProvider(ExecutionProvider):
    """Runs anything ``onnx.reference`` can, one node at a time, on the host."""

    name: ClassVar[str] = REFERENCE_NAME
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 0)

    def probe(self) -> ProbeResult:
        return ProbeResult(devices=(REFERENCE_DEVICE,))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        if options:
            raise UsageError(f"the reference provider has no options; it was given {', '.join(sorted(options))}")
        return ReferenceBackend(device)


REFERENCE_DEVICE = Device(
    provider=REFERENCE_NAME,
    id="0",
    kind=DeviceKind.CPU,
    name="onnx.reference (slow, for fallback and comparison)",
    vendor="mace",
    dtypes=frozenset(DType),
    memory_kinds=(MemoryKind.HOST,),
)


class ReferenceBackend(Backend):
    """The open reference device."""

    shape_support = ShapeSupport.DYNAMIC

    def __init__(self, device: Device = REFERENCE_DEVICE) -> None:
        self.device = device

    def capability(self, view: GraphView) -> Capability:
        """Claims each node for which an implementation or a function body is found; checked, not assumed."""
        claimed: list[Node] = []
        rejections: list[Rejection] = []
        for node in view.nodes:
            reason = _why_not(view, node)
            if reason is None:
                claimed.append(node)
            else:
                rejections.append(Rejection(node, reason))
        return Capability((Claim(tuple(claimed)),) if claimed else (), rejections)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        return [ReferenceSubgraph(view, self.device.qualified_name) for view in subgraphs]


class ReferenceSubgraph(CompiledSubgraph):
    """Nodes in order, each with its evaluator and the slots it reads and writes."""

    def __init__(self, view: GraphView, device: str) -> None:
        slots: dict[Value, int] = {value: index for index, value in enumerate(view.inputs)}
        self.device = device
        self.constants: dict[int, RuntimeValue] = {}
        self.calls: list[_Call] = []
        for node in view.nodes:
            reads: list[int | None] = []
            for value in node.inputs:
                if value is not None and value not in slots:
                    constant = view.constant(value)
                    if constant is None:
                        raise UnsupportedError(
                            f"node '{node.name}' ({node.qualified_op}) reads '{value.name}', which nothing computes",
                            node=node.name,
                            device=device,
                        )
                    slots[value] = len(slots)
                    self.constants[slots[value]] = constant.numpy()
                reads.append(None if value is None else slots[value])
            writes: list[int | None] = []
            for value in node.outputs:
                if value is not None:
                    slots[value] = len(slots)
                writes.append(None if value is None else slots[value])
            self.calls.append(_Call(node, _evaluator(view, node), reads, writes))
        self.output_slots = [slots[value] for value in view.outputs]
        self.slot_count = len(slots)
        self.source_map = {call.name: call.source for call in self.calls}

    def new_execution(self) -> Execution:
        return ReferenceExecution(self)


class _Call:
    """One node: the evaluator and where its arguments come from and go."""

    __slots__ = ("evaluator", "name", "op", "output_names", "reads", "source", "writes")

    def __init__(self, node: Node, evaluator: Any, reads: list[int | None], writes: list[int | None]) -> None:
        self.name = node.name
        self.op = node.qualified_op
        self.source = node.source
        self.evaluator = evaluator
        self.reads = [(f"i{index}", slot) for index, slot in enumerate(reads) if slot is not None]
        self.writes = [slot for slot in writes if slot is not None]
        self.output_names = [f"o{index}" for index, slot in enumerate(writes) if slot is not None]

    def __call__(self, slots: list[RuntimeValue]) -> None:
        feeds = {name: slots[slot] for name, slot in self.reads}
        results = self.evaluator.run(self.output_names, feeds)
        for slot, value in zip(self.writes, results, strict=True):
            slots[slot] = value


class ReferenceExecution(Execution):
    """Keeps nothing between runs."""

    def __init__(self, subgraph: ReferenceSubgraph) -> None:
        self._subgraph = subgraph

    def run(self, bindings: Bindings) -> None:
        subgraph = self._subgraph
        slots: list[RuntimeValue] = [None] * subgraph.slot_count
        for index, bound in enumerate(bindings.inputs):
            slots[index] = read_bound(bound)
        for slot, value in subgraph.constants.items():
            slots[slot] = value
        for call in subgraph.calls:
            if bindings.cancel.is_set:
                raise CancelledError(f"the run was cancelled before node '{call.name}' ({call.op})")
            start_ns = time.perf_counter_ns()
            try:
                call(slots)
            except MemoryError:
                raise
            except Exception as error:
                raise _node_error(call, slots, error, subgraph.device) from error
            if bindings.profile is not None:
                bindings.profile(call.name, call.source, start_ns, time.perf_counter_ns())
        for index, slot in enumerate(subgraph.output_slots):
            _deliver(bindings, index, slots[slot])


def _deliver(bindings: Bindings, index: int, value: RuntimeValue) -> None:
    """Write one result to where the core wants it."""
    bound = bindings.outputs[index]
    if bound is not None and bound.buffer.memory is MemoryKind.OBJECT:
        bound.buffer.handle = _lasting(value)
        return
    array = np.asarray(value)
    if bound is None or bound.shape != array.shape:
        if bindings.allocate_output is None or bound is not None:
            expected = "unknown" if bound is None else str(list(bound.shape))
            raise ProviderError(
                f"onnx.reference computed shape {list(array.shape)} for output {index}; the planned shape is {expected}"
            )
        bound = bindings.allocate_output(index, DType.from_numpy(array.dtype), array.shape)
        if bound.buffer.memory is MemoryKind.OBJECT:
            bound.buffer.handle = array.astype(object)
            return
    if array.dtype != bound.dtype.numpy:
        # Some implementations widen (float16 statistics, for one); the model's type is what counts.
        array = array.astype(bound.dtype.numpy)
    write_bound(bound, array)


def _lasting(value: RuntimeValue) -> RuntimeValue:
    """The value without views of bound memory, which is used again after the run; texts as object arrays."""
    if isinstance(value, list):
        return [_lasting(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "US":
            return value.astype(object)
        return value if value.base is None else value.copy()
    return value


def _node_error(call: _Call, slots: list[RuntimeValue], error: Exception, device: str) -> Exception:
    """What a failure inside onnx.reference means to the caller: node, op, shapes, and the original words."""
    shapes = ", ".join(_describe(slots[slot]) for _, slot in call.reads)
    message = f"node '{call.name}' ({call.op}) failed on {device} with inputs {shapes or 'none'}: {error}"
    return ProviderError(message, node=call.name, device=device)


def _describe(value: RuntimeValue) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return f"{type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list) else "")


def _why_not(view: GraphView, node: Node) -> str | None:
    """Why onnx.reference can not run ``node``; None where it can."""
    if any(attribute.kind in (AttributeKind.GRAPH, AttributeKind.GRAPHS) for attribute in node.attributes.values()):
        return "onnx.reference is given no nested graphs; the core runs control flow itself"
    from mace_core.scheduler.reference_legacy import legacy_objection

    objection = legacy_objection(node, view.opset())
    if objection is not None:
        return objection
    try:
        _evaluator(view, node)
    except Exception as error:
        # onnx.reference answers an op it lacks with any of five exception types; the words are what the user needs.
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"onnx.reference has no implementation: {first}"
    return None


def _evaluator(view: GraphView, node: Node) -> Any:
    """An evaluator of the one-node model of ``node``."""
    from onnx.reference import ReferenceEvaluator

    from mace_core.scheduler.reference_proto import node_model

    return ReferenceEvaluator(node_model(view, node))


__all__ = ["REFERENCE_DEVICE", "REFERENCE_NAME", "ReferenceBackend", "ReferenceProvider"]
