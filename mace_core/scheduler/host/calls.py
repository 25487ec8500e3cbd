"""Subgraphs run node by node on the host, each node a Python function of its inputs: the slow and general form."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from mace_core.errors import CancelledError, ProviderError, UnsupportedError
from mace_core.graph import GraphView, Node, Value
from mace_core.provider import Bindings, CompiledSubgraph, Execution
from mace_core.scheduler.values import RuntimeValue, read_bound, write_bound
from mace_core.tensor import DType, MemoryKind

NodeFunction: TypeAlias = Callable[[Sequence[RuntimeValue]], Sequence[RuntimeValue]]
"""Takes the node's inputs in order (None for one left out) and returns those of its outputs that are not left out."""


class HostSubgraph(CompiledSubgraph):
    """Nodes in order, each with its function and the slots it reads and writes."""

    def __init__(
        self, view: GraphView, device: str, function_of: Callable[[GraphView, Node], NodeFunction], computed_by: str
    ) -> None:
        """``function_of`` makes a node's function; ``computed_by`` names what stands behind it, for messages.

        Raises:
            UnsupportedError: if a node reads what nothing computes.
        """
        slots: dict[Value, int] = {value: index for index, value in enumerate(view.inputs)}
        self.device = device
        self.computed_by = computed_by
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
            writes: list[int] = []
            for value in node.outputs:
                if value is not None:
                    slots[value] = len(slots)
                    writes.append(slots[value])
            self.calls.append(_Call(node, function_of(view, node), reads, writes))
        self.output_slots = [slots[value] for value in view.outputs]
        self.slot_count = len(slots)
        self.source_map = {call.name: call.source for call in self.calls}

    def new_execution(self) -> Execution:
        return _HostExecution(self)


_PYTHON_NAME = re.compile(r"<(?:class ')?([\w.]+)(?:'| object at 0x[0-9a-f]+)>")


class _Call:
    """One node: the function and where its arguments come from and go."""

    __slots__ = ("function", "name", "op", "reads", "source", "writes")

    def __init__(self, node: Node, function: NodeFunction, reads: list[int | None], writes: list[int]) -> None:
        self.name = node.name
        self.op = node.qualified_op
        self.source = node.source
        self.function = function
        self.reads = reads
        self.writes = writes

    def __call__(self, slots: list[RuntimeValue]) -> None:
        results = self.function([None if slot is None else slots[slot] for slot in self.reads])
        for slot, value in zip(self.writes, results, strict=True):
            slots[slot] = value


class _HostExecution(Execution):
    """Keeps nothing between runs."""

    def __init__(self, subgraph: HostSubgraph) -> None:
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
            try:
                _deliver(bindings, index, slots[slot], subgraph.computed_by)
            except _UnplannedShapeError as error:
                call = next(call for call in subgraph.calls if slot in call.writes)
                raise _node_error(call, slots, error, subgraph.device) from None


class _UnplannedShapeError(Exception):
    """A result has another shape than the plan has room for."""


def _deliver(bindings: Bindings, index: int, value: RuntimeValue, computed_by: str) -> None:
    """Write one result to where the core wants it."""
    bound = bindings.outputs[index]
    if bound is not None and bound.buffer.memory is MemoryKind.OBJECT:
        bound.buffer.handle = _lasting(value)
        return
    array = np.asarray(value)
    if bound is None or bound.shape != array.shape:
        if bindings.allocate_output is None or bound is not None:
            expected = "unknown" if bound is None else str(list(bound.shape))
            raise _UnplannedShapeError(
                f"{computed_by} computed the shape {list(array.shape)}; the planned shape is {expected}"
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
    """What a failure inside a node's function means to the caller: node, op, shapes, and the original words."""
    shapes = ", ".join(_describe(slots[slot]) for slot in call.reads if slot is not None)
    words = " ".join(_PYTHON_NAME.sub(r"\1", str(error)).split()) or type(error).__name__
    message = f"node '{call.name}' ({call.op}) failed on {device} with inputs {shapes or 'none'}: {words}"
    return ProviderError(message, node=call.name, device=device)


def _describe(value: RuntimeValue) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return f"{type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list) else "")
