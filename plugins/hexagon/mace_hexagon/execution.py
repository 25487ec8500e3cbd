"""Compiled subgraphs and their executions."""

from __future__ import annotations

import ctypes as c
import threading
import time
from collections.abc import Sequence
from math import prod

import numpy as np

from mace_core.errors import CancelledError, UnsupportedError
from mace_core.provider import Bindings, BoundTensor, CompiledSubgraph, Execution
from mace_core.tensor import DType
from mace_hexagon.builder import BuiltGraph, Port
from mace_hexagon.lowering.magnitude import LARGEST_INPUT
from mace_hexagon.qnn.handles import QnnContext
from mace_hexagon.qnn.marshal import Marshal
from mace_hexagon.qnn.power import PowerVotes
from mace_hexagon.qnn.types import DataType, Tensor


class HexagonSubgraph(CompiledSubgraph):
    """A finalized graph in a context that it may share with others."""

    def __init__(
        self,
        context: QnnContext,
        built: BuiltGraph,
        sources: tuple[str, ...],
        constants: frozenset[str],
        power: PowerVotes | None,
    ) -> None:
        """Takes over one use of ``context``; ``power`` is None for a target that is not here."""
        self.context = context
        self.built = built
        self.sources = sources
        self.consumed_constants = constants
        self.source_map = {built.graph.name: sources}
        self.power = power
        self._lock = threading.Lock()
        self._closed = False

    def new_execution(self) -> Execution:
        if self.power is None:
            name = self.context.device.name
            raise UnsupportedError(f"{name} is a target to compile for; it cannot run here", device=name)
        return HexagonExecution(self, self.power)

    def close(self) -> None:
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self.context.release()


class HexagonExecution(Execution):
    """Tensor structures of its own over a shared graph; runs of one device take turns."""

    def __init__(self, compiled: HexagonSubgraph, power: PowerVotes) -> None:
        self._compiled = compiled
        self._power = power
        self._marshal = Marshal()
        self._inputs = self._structures(compiled.built.inputs)
        self._outputs = self._structures(compiled.built.outputs)

    def run(self, bindings: Bindings) -> None:
        graph = self._compiled.built.graph
        if bindings.cancel.is_set:
            raise CancelledError(f"the run was cancelled before '{graph.name}'")
        self._bind(self._inputs, bindings.inputs)
        for port, target in zip(self._compiled.built.inputs, bindings.inputs, strict=True):
            if port.tensor.data_type is DataType.INT_64 and target is not None:
                _require_small(port, target)
        self._bind(self._outputs, bindings.outputs)
        start = time.perf_counter_ns()
        self._power.begin()
        try:
            graph.execute(self._inputs, self._outputs)
        finally:
            self._power.end()
        if bindings.profile is not None:
            bindings.profile(graph.name, self._compiled.sources, start, time.perf_counter_ns())
        if bindings.cancel.is_set:
            raise CancelledError(f"the run was cancelled during '{graph.name}'")

    def _structures(self, ports: Sequence[Port]) -> c.Array[Tensor]:
        tensors = (self._marshal.tensor(port.tensor, number=port.number) for port in ports)
        return (Tensor * len(ports))(*tensors)

    def _bind(self, tensors: c.Array[Tensor], bound: Sequence[BoundTensor | None]) -> None:
        for tensor, target in zip(tensors, bound, strict=True):
            if target is None:
                raise UnsupportedError("QNN compiles fixed shapes, every output must be bound")
            buffer = tensor.any.v1.buffer
            buffer.data = target.address
            buffer.size = target.dtype.nbytes(prod(target.shape))


def _require_small(port: Port, target: BoundTensor) -> None:
    """The HTP holds 64-bit integers in 32 bits.

    Raises:
        UnsupportedError: if some do not fit, instead of a wrong result.
    """
    count = prod(target.shape)
    integers = (c.c_int64 if target.dtype is DType.INT64 else c.c_uint64) * count
    held = np.ctypeslib.as_array(integers.from_address(target.address))
    if int(held.max()) > LARGEST_INPUT or int(held.min()) < -LARGEST_INPUT:
        raise UnsupportedError(
            f"input '{port.tensor.name}' holds 64-bit integers from 2**30 on, and the HTP computes with 32 bits; "
            "run its nodes on the CPU"
        )
