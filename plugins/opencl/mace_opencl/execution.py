"""Compiled subgraphs and their executions: kernel objects with arguments, queued by one native call per run."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.errors import CancelledError, ProviderBugError
from mace_core.provider import Bindings, BoundTensor, Buffer, CompiledSubgraph, Event, Execution, Stream
from mace_opencl import launch
from mace_opencl.api import PROFILING_COMMAND_END, PROFILING_COMMAND_START, OpenCl
from mace_opencl.errors import raise_for
from mace_opencl.program import Home, Pointer, Program
from mace_opencl.stream import ClEvent, ClStream

if TYPE_CHECKING:
    from mace_opencl.backend import OpenClBackend

Profile = Callable[[str, tuple[str, ...], int, int], None]

_SCALARS: Mapping[str, Any] = {"i": ctypes.c_int32, "l": ctypes.c_int64, "f": ctypes.c_float}


class ClSubgraph(CompiledSubgraph):
    """A program built for a device, with its constants in device memory.

    Attributes:
        built: the pyopencl Program that holds its kernels; shared with the subgraphs compiled together with it.
    """

    def __init__(self, backend: OpenClBackend, name: str, program: Program, built: Any) -> None:
        self.backend = backend
        self.name = name
        self.program = program
        self.built = built
        self.workspace_bytes = program.workspace_bytes
        self.consumed_constants = program.consumed
        self.source_map = {item.name: item.source for item in program.launches}
        self.constants: Buffer | None = None
        if program.constant_bytes:
            memory = backend.memory
            self.constants = memory.allocate(program.constant_bytes)
            try:
                for offset, array in program.constants:
                    memory.write(self.constants, offset, array.ctypes.data, array.nbytes)
            except BaseException:
                memory.free(self.constants)
                raise
        program.constants = []  # the host's copies are not needed any more

    def new_execution(self) -> Execution:
        return ClExecution(self)

    def close(self) -> None:
        constants, self.constants = self.constants, None
        if constants is not None:
            self.backend.memory.free(constants)
        self.built = None


class ClExecution(Execution):
    """One kernel object per launch, so that no other execution sees its arguments."""

    def __init__(self, compiled: ClSubgraph) -> None:
        self._compiled = compiled
        self._api: OpenCl = compiled.backend.api
        self._device = compiled.backend.device.qualified_name
        launches = compiled.program.launches
        self._launches = launches
        self._kernels: list[int] = []
        self._own_stream: ClStream | None = None
        self._pointers: dict[tuple[Home, int], list[tuple[int, int, Pointer]]] = {}
        self._bound: dict[tuple[Home, int], tuple[Any, int]] = {}
        self._walk, _ = launch.walker()
        self._records = np.zeros((max(len(launches), 1), launch.RECORD_WORDS), np.int64)
        self._events = np.zeros(max(len(launches), 1), np.int64)
        self._words = np.zeros(launch.WALK_WORDS, np.int64)
        self._words[:2] = self._api.address("clEnqueueNDRangeKernel"), self._api.address("clFlush")
        self._words[3:5] = self._records.ctypes.data, len(launches)
        self._words[6] = self._events.ctypes.data
        try:
            for number in range(len(launches)):
                self._prepare(number)
            if compiled.constants is not None:
                self._point((Home.CONSTANT, 0), compiled.constants.handle, 0)
        except BaseException:
            self.close()
            raise

    def _prepare(self, number: int) -> None:
        item = self._launches[number]
        kernel = self._api.create_kernel(self._compiled.built.int_ptr, item.kernel.name)
        self._kernels.append(kernel)
        position = 0
        for kind, argument in zip(item.kernel.parameters, item.arguments, strict=True):
            if isinstance(argument, Pointer):
                self._pointers.setdefault((argument.place.home, argument.place.index), []).append(
                    (kernel, position, argument)
                )
                position += 2
                continue
            self._set(kernel, position, _SCALARS[kind](argument))
            position += 1
        sizes = [groups * local for groups, local in zip(item.groups, item.kernel.local, strict=True)]
        self._records[number] = (kernel, 3, *sizes, *item.kernel.local)

    def _set(self, kernel: int, position: int, value: Any) -> None:
        status = self._api.clSetKernelArg(kernel, position, ctypes.sizeof(value), ctypes.byref(value))
        raise_for(status, f"setting argument {position} of a kernel", device=self._device)

    def _point(self, slot: tuple[Home, int], memory: Any, offset: int) -> None:
        """Let the arguments of ``slot`` refer to ``memory`` from ``offset`` bytes on."""
        before = self._bound.get(slot)
        if before is not None and before[0] is memory and before[1] == offset:
            return
        handle = ctypes.c_void_p(memory.int_ptr)
        for kernel, position, pointer in self._pointers.get(slot, ()):
            self._set(kernel, position, handle)
            self._set(kernel, position + 1, ctypes.c_int64((offset + pointer.place.offset) // pointer.itemsize))
        self._bound[slot] = (memory, offset)

    def _bind(self, bindings: Bindings) -> None:
        for index, tensor in enumerate(bindings.inputs):
            self._point((Home.INPUT, index), tensor.buffer.handle, tensor.offset)
        for index, bound in enumerate(bindings.outputs):
            if bound is None:
                raise ProviderBugError(
                    f"{self._compiled.name}: every output has a fixed shape and must be bound", device=self._device
                )
            self._point((Home.OUTPUT, index), bound.buffer.handle, bound.offset)
        workspace: BoundTensor | None = bindings.workspace
        if workspace is not None:
            self._point((Home.WORKSPACE, 0), workspace.buffer.handle, workspace.offset)

    def run(self, bindings: Bindings) -> None:
        if self._own_stream is None:
            self._own_stream = self._compiled.backend.create_stream()
        self.enqueue(self._own_stream, bindings, ()).wait()

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> ClEvent:
        if not isinstance(stream, ClStream):
            raise TypeError(f"a stream of another backend was given: {type(stream).__name__}")
        what = f"running {self._compiled.name}"
        profile = bindings.profile
        queue = stream.handle if profile is None else stream.timed_handle()
        handles = self._foreign(wait)
        self._bind(bindings)
        if not self._launches:
            return self._marker(queue, handles, bindings, what)
        words, waiting = self._words, np.array(handles, np.int64)
        words[2] = queue
        words[5] = bindings.cancel.address
        words[7:10] = profile is not None, len(handles), waiting.ctypes.data
        self._events[:] = 0
        self._walk(words)
        status, position = int(words[10]), int(words[11])
        if status != 0:
            self._give_up(stream, status, position, what)
        last = int(self._events[-1])
        if profile is None:
            return ClEvent(self._api, last, self._device, what)
        events = [int(event) for event in self._events]
        return ClEvent(self._api, last, self._device, what, lambda: self._report(events, profile))

    def _foreign(self, wait: Sequence[Event]) -> list[int]:
        """Handles of events that the device itself can wait for; others are waited for here."""
        handles = []
        for event in wait:
            if isinstance(event, ClEvent):
                handles.append(event.handle)
            else:
                event.wait()
        return handles

    def _marker(self, queue: int, handles: list[int], bindings: Bindings, what: str) -> ClEvent:
        """The event of a program without launches."""
        if bindings.cancel.is_set:
            raise CancelledError(f"the run of {self._compiled.name} on {self._device} was cancelled")
        event = ctypes.c_void_p()
        array = (ctypes.c_void_p * len(handles))(*handles) if handles else None
        status = self._api.clEnqueueMarkerWithWaitList(queue, len(handles), array, ctypes.byref(event))
        raise_for(status, what, device=self._device, running=True)
        raise_for(self._api.clFlush(queue), what, device=self._device, running=True)
        return ClEvent(self._api, int(event.value or 0), self._device, what)

    def _give_up(self, stream: ClStream, status: int, position: int, what: str) -> None:
        """Not all launches were queued: let those that were come to an end, then raise."""
        for event in self._events[self._events != 0]:
            self._api.clReleaseEvent(int(event))
        if status == launch.CANCELLED:
            stream.synchronize()
            raise CancelledError(f"the run of {self._compiled.name} on {self._device} was cancelled")
        stream.abandon()
        item = self._launches[min(position, len(self._launches) - 1)]
        node = item.source[0] if item.source else None
        raise_for(status, f"{what}, launching '{item.name}',", device=self._device, node=node, running=True)

    def _report(self, events: list[int], profile: Profile) -> None:
        """Tell when each launch ran, on the host's clock: the end of the last one is taken to be now."""
        times = [
            (self._time(event, PROFILING_COMMAND_START), self._time(event, PROFILING_COMMAND_END)) for event in events
        ]
        shift = time.perf_counter_ns() - times[-1][1]
        for item, (start, end) in zip(self._launches, times, strict=True):
            profile(item.name, item.source, start + shift, end + shift)
        for event in events[:-1]:  # the last one belongs to the ClEvent
            self._api.clReleaseEvent(event)

    def _time(self, event: int, what: int) -> int:
        moment = ctypes.c_uint64()
        status = self._api.clGetEventProfilingInfo(event, what, ctypes.sizeof(moment), ctypes.byref(moment), None)
        raise_for(status, "reading the time of a kernel", device=self._device, running=True)
        return int(moment.value)

    def close(self) -> None:
        kernels, self._kernels = self._kernels, []
        for kernel in kernels:
            self._api.clReleaseKernel(kernel)
        self._bound.clear()
        stream, self._own_stream = self._own_stream, None
        if stream is not None:
            stream.close()
