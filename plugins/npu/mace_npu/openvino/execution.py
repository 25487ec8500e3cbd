"""Compiled models and their requests."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import openvino

from mace_core.errors import CancelledError, ProviderError, UnsupportedError
from mace_core.graph import GraphView
from mace_core.provider import Bindings, BoundTensor, CompiledSubgraph, Event, Execution, Stream
from mace_core.provider.worker_queue import WorkerQueue
from mace_core.tensor import DType

_POLL_MILLISECONDS = 5
"""How often a run that is waited for looks whether it is cancelled."""

_TYPES = {
    DType.FLOAT32: openvino.Type.f32,
    DType.FLOAT16: openvino.Type.f16,
    DType.INT8: openvino.Type.i8,
    DType.UINT8: openvino.Type.u8,
    DType.INT16: openvino.Type.i16,
    DType.UINT16: openvino.Type.u16,
    DType.INT32: openvino.Type.i32,
    DType.INT64: openvino.Type.i64,
    DType.BOOL: openvino.Type.boolean,
}


class Ports(NamedTuple):
    """How many inputs and outputs a subgraph has."""

    inputs: int
    outputs: int


class OpenVinoSubgraph(CompiledSubgraph):
    """A model compiled for a unit.

    Attributes:
        compiled: OpenVINO's model.
        onnx: the model it was made of, where what OpenVINO exports does not compute the same once it is imported.
        devices: where OpenVINO says that it runs.
    """

    def __init__(
        self, device: str, view: GraphView, compiled: Any, devices: str, constants: frozenset[str], onnx: bytes | None
    ) -> None:
        self.device = device
        self.compiled = compiled
        self.devices = devices
        self.span = f"OpenVINO on {devices}"
        self.sources = tuple(dict.fromkeys(name for node in view.nodes for name in node.source))
        self.source_map = {self.span: self.sources}
        self.consumed_constants = constants
        self.onnx = onnx
        self.notes = {
            view.nodes[0].name: f"the subgraph from here on is compiled by OpenVINO, which runs it on {devices}"
        }

    def new_execution(self) -> Execution:
        return OpenVinoExecution(self)

    def trim(self) -> None:
        """Give up what OpenVINO keeps between runs."""
        compiled = self.compiled
        if compiled is not None and hasattr(compiled, "release_memory"):  # since 2025.0
            compiled.release_memory()

    def close(self) -> None:
        self.compiled = None


class OpenVinoExecution(Execution):
    """A request; its tensors are the core's memory."""

    def __init__(self, subgraph: OpenVinoSubgraph) -> None:
        self._subgraph = subgraph
        self._request = subgraph.compiled.create_infer_request()
        self._inputs: list[int] = [0] * len(subgraph.compiled.inputs)
        self._outputs: list[int] = [0] * len(subgraph.compiled.outputs)

    def run(self, bindings: Bindings) -> None:
        subgraph, cancel = self._subgraph, bindings.cancel
        if cancel.is_set:
            raise CancelledError(f"the run was cancelled before '{subgraph.span}'")
        try:
            self._bind(bindings)
            start = time.perf_counter_ns()
            self._request.start_async()
            while not self._request.wait_for(_POLL_MILLISECONDS):
                if cancel.is_set:
                    self._request.cancel()
                    self._request.wait()
            end = time.perf_counter_ns()
        except RuntimeError as error:
            if cancel.is_set:
                raise CancelledError(f"the run was cancelled during '{subgraph.span}'") from None
            text = str(error).strip().splitlines()[-1]
            raise ProviderError(f"OpenVINO failed on {subgraph.devices}: {text}", device=subgraph.device) from None
        if cancel.is_set:
            raise CancelledError(f"the run was cancelled during '{subgraph.span}'")
        if bindings.profile is not None:
            bindings.profile(subgraph.span, subgraph.sources, start, end)

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> Event:
        assert isinstance(stream, WorkerQueue)
        return stream.submit(lambda: self.run(bindings), wait)

    def close(self) -> None:
        self._request = None

    def _bind(self, bindings: Bindings) -> None:
        for index, tensor in enumerate(bindings.inputs):
            if self._inputs[index] != tensor.address:
                self._request.set_input_tensor(index, _shared(tensor))
                self._inputs[index] = tensor.address
        for index, target in enumerate(bindings.outputs):
            if target is None:
                raise UnsupportedError("OpenVINO compiles fixed shapes, every output must be bound")
            if self._outputs[index] != target.address:
                self._request.set_output_tensor(index, _shared(target))
                self._outputs[index] = target.address


def _shared(tensor: BoundTensor) -> Any:
    """OpenVINO's tensor on the same memory."""
    memory = memoryview((ctypes.c_uint8 * tensor.nbytes).from_address(tensor.address))
    shape = openvino.Shape(list(tensor.shape))
    return openvino.Tensor(np.frombuffer(memory, np.uint8), shape, _TYPES[tensor.dtype])
