"""Compiled networks and their executions."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_apu.memory import SharedMemory
from mace_apu.neuron.handles import NeuronCompilation, NeuronEvent, NeuronExecution
from mace_apu.stream import ApuStream
from mace_apu.tuning import Tuning
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
        tuning: Tuning,
        notes: Mapping[str, str],
    ) -> None:
        """``notes``: by name of a node, how it is computed."""
        self.compilation = compilation
        self.name = name
        self.sources = sources
        self.source_map = {name: sources}
        self.consumed_constants = constants
        self.tuning = tuning
        self.notes = dict(notes)
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
    """Memory that the library was told of.

    Attributes:
        address, nbytes: where it is.
        numbers: memory of its own, for a tensor of int64.
        shared: what the address is in, where the library knows that by itself.
    """

    address: int
    nbytes: int
    numbers: npt.NDArray[np.int32] | None
    shared: SharedMemory | None


class ApuExecution(Execution):
    """A request of the library's; it reads and writes the core's memory.  Neuron has no 64-bit integers: they are
    converted at the borders."""

    def __init__(self, subgraph: ApuSubgraph) -> None:
        self._subgraph = subgraph
        self._execution = NeuronExecution(subgraph.compilation)
        self._inputs: dict[int, _Place] = {}
        self._outputs: dict[int, _Place] = {}
        self._started = 0
        self._closed = False
        try:
            subgraph.tuning.apply_to_execution(self._execution)
        except BaseException:
            self._execution.close()
            raise

    def run(self, bindings: Bindings) -> None:
        self._begin(bindings)
        self.compute()
        self.end(bindings)

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> Event:
        if isinstance(stream, ApuStream):
            return stream.submit(self, bindings, wait)
        assert isinstance(stream, WorkerQueue)
        return stream.submit(lambda: self.run(bindings), wait)

    def may_follow(self, other: ApuExecution) -> bool:
        """Whether it may be started while ``other`` runs: neither is converted to or from on the processor."""
        return other is not self and not (self._converts or other._converts)

    @property
    def _converts(self) -> bool:
        """Whether it has 64-bit integers; not known before the first run."""
        places = (*self._inputs.values(), *self._outputs.values())
        return not places or any(place.numbers is not None for place in places)

    def start(self, bindings: Bindings, behind: NeuronEvent | None = None) -> NeuronEvent:
        """Run in the background, after ``behind``; `end` follows once it is done."""
        self._begin(bindings)
        return self._execution.start(behind)

    def compute(self) -> None:
        """Run what is bound, and wait."""
        self._execution.compute()

    def _begin(self, bindings: Bindings) -> None:
        subgraph = self._subgraph
        if bindings.cancel.is_set:
            raise CancelledError(f"the run was cancelled before '{subgraph.name}'")
        execution = self._execution
        for index, tensor in enumerate(bindings.inputs):
            place = self._bind(self._inputs, execution.set_input, execution.set_input_memory, index, tensor)
            if place.numbers is not None:
                _narrow(_longs(tensor), place.numbers, index)
        for index, target in enumerate(bindings.outputs):
            if target is None:
                raise UnsupportedError("the APU compiles fixed shapes, every output must be bound")
            self._bind(self._outputs, execution.set_output, execution.set_output_memory, index, target)
        self._started = time.perf_counter_ns()

    def end(self, bindings: Bindings) -> None:
        """What is left to do on the processor once the library has computed."""
        subgraph = self._subgraph
        if bindings.profile is not None:
            bindings.profile(subgraph.name, subgraph.sources, self._started, time.perf_counter_ns())
        for index, target in enumerate(bindings.outputs):
            numbers = self._outputs[index].numbers
            if numbers is not None and target is not None:
                _longs(target)[...] = numbers
        if bindings.cancel.is_set:
            raise CancelledError(f"the run was cancelled during '{subgraph.name}'")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._execution.close()
            for places in (self._inputs, self._outputs):
                for place in places.values():
                    if place.shared is not None:
                        place.shared.release()
                places.clear()
            self._subgraph.release()

    def _bind(self, places: dict[int, _Place], tell: Any, tell_memory: Any, index: int, tensor: BoundTensor) -> _Place:
        """Tell the library of memory that is not where it was in the run before."""
        known = places.get(index)
        address, nbytes = tensor.address, tensor.nbytes
        handle = tensor.buffer.handle
        shared = handle if isinstance(handle, SharedMemory) else None
        if (
            known is not None
            and (known.address, known.nbytes) == (address, nbytes)
            and (known.numbers is not None or known.shared is shared)
        ):
            return known
        places.pop(index, None)
        numbers = np.empty(tensor.size, np.int32) if tensor.dtype is DType.INT64 else None
        try:
            if numbers is not None:
                shared = None
                tell(index, numbers.ctypes.data, numbers.nbytes)
            elif shared is not None:
                tell_memory(index, shared.memory, address - shared.address, nbytes)
                shared.keep()
            else:
                tell(index, address, nbytes)
        finally:  # the library refers to the former memory no more
            if known is not None and known.shared is not None:
                known.shared.release()
        places[index] = _Place(address, nbytes, numbers, shared)
        return places[index]


def _longs(tensor: BoundTensor) -> npt.NDArray[np.int64]:
    memory = (ctypes.c_int64 * tensor.size).from_address(tensor.address)
    return np.frombuffer(memoryview(memory), np.int64)


def _narrow(source: npt.NDArray[np.int64], target: npt.NDArray[np.int32], index: int) -> None:
    np.copyto(target, source, casting="unsafe")
    if not np.array_equal(target, source):
        raise ProviderError(f"input {index} holds integers of more than 32 bits, which Neuron does not have")
