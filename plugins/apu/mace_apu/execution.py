"""Compiled networks and their executions."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_apu.neuron.handles import NeuronCompilation, NeuronExecution
from mace_core.errors import CancelledError, ProviderError, UnsupportedError
from mace_core.provider import Bindings, BoundTensor, CompiledSubgraph, Event, Execution, Stream
from mace_core.provider.worker_queue import WorkerQueue
from mace_core.tensor import DType

_log = logging.getLogger("mace.apu")


class ApuSubgraph(CompiledSubgraph):
    """A compiled network, used by all its executions and freed with the last."""

    def __init__(
        self,
        compilation: NeuronCompilation,
        name: str,
        sources: tuple[str, ...],
        constants: frozenset[str],
        boost: int | None,
    ) -> None:
        """``boost``: how high the device may clock, in percent; None to say nothing."""
        self.compilation = compilation
        self.name = name
        self.sources = sources
        self.source_map = {name: sources}
        self.consumed_constants = constants
        self.boost = boost
        self._users = 1
        self._ran = False
        self._stored: bytes | None = None
        self._was_stored = False
        self._closed = False
        self._lock = threading.Lock()

    def stored(self) -> bytes | None:
        """The compiled network; None if the library does not give it."""
        with self._lock:
            self._was_stored = True
            return self._stored if self._ran else self.compilation.stored()

    def new_execution(self) -> Execution:
        with self._lock:
            self._keep()
            execution = ApuExecution(self)
            self._users += 1
        return execution

    def _keep(self) -> None:
        """Store before the first execution is made, if that was not done: the library does it no more afterwards."""
        if not self._ran and not self._was_stored:
            try:
                self._stored = self.compilation.stored()
            except ProviderError as error:
                _log.info("%s cannot be stored: %s", self.name, error)
        self._ran = True

    def release(self) -> None:
        """One user fewer; the last one frees the compilation."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.compilation.close()

    def close(self) -> None:
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._stored = None
            self.release()


class _Place(NamedTuple):
    """Memory that the library was told of; ``numbers`` is memory of its own, for a tensor of int64."""

    address: int
    nbytes: int
    numbers: npt.NDArray[np.int32] | None


class ApuExecution(Execution):
    """A request of the library's; it reads and writes the core's memory.  Neuron has no 64-bit integers: they are
    converted at the borders."""

    def __init__(self, subgraph: ApuSubgraph) -> None:
        self._subgraph = subgraph
        self._execution = NeuronExecution(subgraph.compilation)
        self._inputs: dict[int, _Place] = {}
        self._outputs: dict[int, _Place] = {}
        self._closed = False
        if subgraph.boost is not None:
            try:
                self._execution.boost(subgraph.boost)
            except BaseException:
                self._execution.close()
                raise

    def run(self, bindings: Bindings) -> None:
        subgraph, cancel = self._subgraph, bindings.cancel
        if cancel.is_set:
            raise CancelledError(f"the run was cancelled before '{subgraph.name}'")
        for index, tensor in enumerate(bindings.inputs):
            place = self._bind(self._inputs, self._execution.set_input, index, tensor)
            if place.numbers is not None:
                _narrow(_longs(tensor), place.numbers, index)
        for index, target in enumerate(bindings.outputs):
            if target is None:
                raise UnsupportedError("the APU compiles fixed shapes, every output must be bound")
            self._bind(self._outputs, self._execution.set_output, index, target)
        start = time.perf_counter_ns()
        self._execution.compute()
        if bindings.profile is not None:
            bindings.profile(subgraph.name, subgraph.sources, start, time.perf_counter_ns())
        for index, target in enumerate(bindings.outputs):
            numbers = self._outputs[index].numbers
            if numbers is not None and target is not None:
                _longs(target)[...] = numbers
        if cancel.is_set:
            raise CancelledError(f"the run was cancelled during '{subgraph.name}'")

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> Event:
        assert isinstance(stream, WorkerQueue)
        return stream.submit(lambda: self.run(bindings), wait)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._execution.close()
            self._subgraph.release()

    def _bind(self, places: dict[int, _Place], tell: Any, index: int, tensor: BoundTensor) -> _Place:
        """Tell the library of memory that is not where it was in the run before."""
        known = places.get(index)
        address, nbytes = tensor.address, tensor.nbytes
        if known is not None and (known.address, known.nbytes) == (address, nbytes):
            return known
        places.pop(index, None)
        numbers = np.empty(tensor.size, np.int32) if tensor.dtype is DType.INT64 else None
        if numbers is None:
            tell(index, address, nbytes)
        else:
            tell(index, numbers.ctypes.data, numbers.nbytes)
        places[index] = _Place(address, nbytes, numbers)
        return places[index]


def _longs(tensor: BoundTensor) -> npt.NDArray[np.int64]:
    memory = (ctypes.c_int64 * tensor.size).from_address(tensor.address)
    return np.frombuffer(memoryview(memory), np.int64)


def _narrow(source: npt.NDArray[np.int64], target: npt.NDArray[np.int32], index: int) -> None:
    np.copyto(target, source, casting="unsafe")
    if not np.array_equal(target, source):
        raise ProviderError(f"input {index} holds integers of more than 32 bits, which Neuron does not have")
