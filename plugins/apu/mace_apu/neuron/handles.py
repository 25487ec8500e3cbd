"""The library's objects with their life times: devices, models, compilations, executions."""

from __future__ import annotations

import ctypes as c
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mace_apu.neuron.constants import ExtensionOperation, OperandCode, Operation, Preference
from mace_apu.neuron.library import Library
from mace_apu.neuron.types import ChannelQuantization, Handle, OperandType
from mace_core.errors import ProviderError


class NeuronDevices:
    """The processors that a library drives; they are used together.

    Attributes:
        name: of the device in messages.
        names: what the library calls them.
        live: models, compilations and executions that exist.
    """

    def __init__(self, library: Library, name: str) -> None:
        """
        Raises:
            ProviderError: if the library has none.
        """
        self.library = library
        self.name = name
        self.names: tuple[str, ...] = ()
        self.handles: c.Array[Handle] | None = None
        self.live = 0
        self._lock = threading.Lock()
        if library.has("Neuron_getDeviceCount") and library.has("Neuron_getDevice"):
            self._enumerate()

    def _enumerate(self) -> None:
        count = c.c_uint32()
        self.call("count its devices", "Neuron_getDeviceCount", c.byref(count))
        if count.value == 0:
            raise ProviderError(f"{self.name}: {self.library.path} has no device here", device=self.name)
        handles = (Handle * count.value)()
        names = []
        for index in range(count.value):
            handle, text = Handle(), c.c_char_p()
            self.call(f"give device {index}", "Neuron_getDevice", index, c.byref(handle))
            handles[index] = handle
            if self.library.has("NeuronDevice_getName"):
                self.call(f"name device {index}", "NeuronDevice_getName", handle, c.byref(text))
                names.append((text.value or b"").decode("utf-8", "replace"))
        self.handles, self.names = handles, tuple(names)

    def call(self, doing: str, function: str, *arguments: object) -> None:
        """Call a function of the library.

        Raises:
            ProviderError: the class that fits, if it returns an error.
        """
        self.library.call(doing, self.name, function, *arguments)

    def l1_memory(self) -> int:
        """KiB of memory that the APU has for itself (libraries from 4.3.0 on)."""
        size = c.c_uint32()
        self.call("tell the size of its memory", "Neuron_getL1MemorySizeKb", c.byref(size))
        return size.value

    def why_no_extension(self, name: str) -> str:
        """Why the library does not have an extension; "" if it does."""
        library = self.library
        if not (
            library.has("NeuronDevice_getExtensionSupport") and library.has("NeuronModel_getExtensionOperationType")
        ):
            return f"the Neuron Adapter {library.version} has no extensions, which came with 5.0.0"
        found = c.c_bool()
        try:
            function = "NeuronDevice_getExtensionSupport"
            self.call(f"tell of the extension '{name}'", function, name.encode(), c.byref(found))
        except ProviderError as error:
            return str(error)
        return "" if found.value else f"the Neuron Adapter {library.version} has no extension '{name}'"

    def count(self, change: int) -> None:
        """An object more, or one fewer."""
        with self._lock:
            self.live += change


class _Object:
    """Something that the library made and that is freed once."""

    _free: str

    def __init__(self, devices: NeuronDevices, handle: Handle) -> None:
        self.devices = devices
        self.handle = handle
        devices.count(1)

    def close(self) -> None:
        """Free it.  Idempotent."""
        handle, self.handle = self.handle, Handle()
        if handle:
            self.devices.library.code(self._free, handle)
            self.devices.count(-1)


class NeuronModel(_Object):
    """A network under construction; the arrays of its constants are kept until a compilation has copied them."""

    _free = "NeuronModel_free"

    def __init__(self, devices: NeuronDevices, handle: Handle | None = None) -> None:
        """``handle`` is that of a restored model; without one, an empty model is made."""
        if handle is None:
            handle = Handle()
            devices.call("create a model", "NeuronModel_create", c.byref(handle))
        super().__init__(devices, handle)
        self._kept: list[npt.NDArray[np.generic]] = []
        self._operands = 0
        self.operations = 0

    def name(self, text: str) -> None:
        """Name the model in the library's own logs, where it can."""
        if self.devices.library.has("NeuronModel_setName"):
            self.devices.call("name a model", "NeuronModel_setName", self.handle, text.encode("utf-8", "replace"))

    def add_operand(
        self, name: str, code: OperandCode, shape: Sequence[int], scale: float = 0.0, zero_point: int = 0
    ) -> int:
        """Add an operand; its index."""
        dimensions = (c.c_uint32 * len(shape))(*shape) if shape else None
        described = OperandType(code, len(shape), dimensions, scale, zero_point)
        self.devices.call(f"add operand '{name}'", "NeuronModel_addOperand", self.handle, c.byref(described))
        self._operands += 1
        return self._operands - 1

    def set_value(self, name: str, index: int, value: npt.NDArray[np.generic]) -> None:
        """Make an operand a constant."""
        array = np.ascontiguousarray(value)
        self._kept.append(array)
        self.devices.call(
            f"set the value of '{name}'",
            *("NeuronModel_setOperandValue", self.handle, index, array.ctypes.data, array.nbytes),
        )

    def forget_values(self) -> None:
        """Let go of the constants' arrays: the library reads them until a compilation is finished, and no longer."""
        self._kept.clear()

    def set_channel_scales(self, name: str, index: int, axis: int, scales: npt.NDArray[np.generic]) -> None:
        """Give an operand a scale per channel."""
        array = np.ascontiguousarray(scales, np.float32)
        described = ChannelQuantization(axis, array.size, array.ctypes.data_as(c.POINTER(c.c_float)))
        function = "NeuronModel_setOperandSymmPerChannelQuantParams"
        self.devices.call(f"set the scales of '{name}'", function, self.handle, index, c.byref(described))

    def add_operation(
        self, name: str, operation: Operation | ExtensionOperation, inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        """Add an operation on operands."""
        kind = int(operation) if isinstance(operation, Operation) else self._extension_type(operation)
        self.devices.call(
            f"add {operation.name} of '{name}'",
            *("NeuronModel_addOperation", self.handle, kind, *_indexes(inputs), *_indexes(outputs)),
        )
        self.operations += 1

    def _extension_type(self, operation: ExtensionOperation) -> int:
        """What the model calls an operation of an extension."""
        kind = c.c_int32()
        self.devices.call(
            f"find {operation.name} in the extension '{operation.extension}'",
            *("NeuronModel_getExtensionOperationType", self.handle, operation.extension.encode(), operation.code),
            c.byref(kind),
        )
        return kind.value

    def identify(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Say which operands come from and go to outside."""
        function = "NeuronModel_identifyInputsAndOutputs"
        self.devices.call("take inputs and outputs", function, self.handle, *_indexes(inputs), *_indexes(outputs))

    def relax(self, allow: bool) -> None:
        """Allow float32 to be computed in float16."""
        function = "NeuronModel_relaxComputationFloat32toFloat16"
        if self.devices.library.has(function):
            self.devices.call("set the precision", function, self.handle, allow)

    def finish(self) -> None:
        """End the construction."""
        self.devices.call("finish a model", "NeuronModel_finish", self.handle)

    def supported(self) -> list[bool] | None:
        """Which operations the devices run, in the order in which they were added; None if the library cannot say."""
        library, devices = self.devices.library, self.devices.handles
        answer = (c.c_bool * self.operations)()
        if devices is not None and library.has("NeuronModel_getSupportedOperationsForDevices"):
            function = "NeuronModel_getSupportedOperationsForDevices"
            self.devices.call("tell what it supports", function, self.handle, devices, len(devices), answer)
        elif library.has("NeuronModel_getSupportedOperations"):
            function = "NeuronModel_getSupportedOperations"
            self.devices.call("tell what it supports", function, self.handle, answer, self.operations)
        else:
            return None
        return list(answer)


class NeuronCompilation(_Object):
    """A compiled model."""

    _free = "NeuronCompilation_free"

    def __init__(self, model: NeuronModel, handle: Handle | None = None, *, options: str = "") -> None:
        """``handle`` is that of a restored compilation; without one, it is made for all devices of the library, or
        with ``options`` of the vendor's compiler (libraries from 7.0.0 on)."""
        devices = model.devices
        if handle is None and options:
            handle, function = Handle(), "NeuronCompilation_createWithOptions"
            doing = f"create a compilation with the options '{options}'"
            devices.call(doing, function, model.handle, c.byref(handle), options.encode())
        elif handle is None:
            handle = Handle()
            if devices.handles is not None and devices.library.has("NeuronCompilation_createForDevices"):
                arguments = (devices.handles, len(devices.handles), c.byref(handle))
                devices.call("create a compilation", "NeuronCompilation_createForDevices", model.handle, *arguments)
            else:
                devices.call("create a compilation", "NeuronCompilation_create", model.handle, c.byref(handle))
        super().__init__(devices, handle)
        self.model = model

    @classmethod
    def restore(cls, devices: NeuronDevices, stored: bytes) -> NeuronCompilation:
        """From what `stored` gave.

        Raises:
            UnsupportedError: if the library does not take it.
        """
        model, compilation = Handle(), Handle()
        buffer = c.create_string_buffer(stored, len(stored))
        devices.call(
            "restore a compiled network",
            *("NeuronModel_restoreFromCompiledNetwork", c.byref(model), c.byref(compilation)),
            *(c.addressof(buffer), len(stored)),
        )
        found = cls(NeuronModel(devices, model), compilation)
        found._buffer = buffer  # the interface does not say that it is copied
        return found

    _buffer: object = None

    def prefer(self, preference: Preference) -> None:
        """Say what it is to be good at."""
        self.devices.call("take the preference", "NeuronCompilation_setPreference", self.handle, int(preference))

    def set_priority(self, priority: int) -> None:
        """Relative to other compilations of the process."""
        self.devices.call("take the priority", "NeuronCompilation_setPriority", self.handle, priority)

    def hint(self, optimization: int) -> None:
        """What the compiler is to aim at: a sum of `Optimization` (libraries from 4.3.0 on)."""
        function = "NeuronCompilation_setOptimizationHint"
        self.devices.call("take the optimization hint", function, self.handle, optimization)

    def options(self, text: str) -> None:
        """Options of the vendor's compiler (libraries from 4.6.0 on)."""
        function = "NeuronCompilation_setOptimizationString"
        self.devices.call(f"take the options '{text}'", function, self.handle, text.encode())

    def finish(self) -> None:
        """Compile.  The library has copied the constants then."""
        self.devices.call("compile a model", "NeuronCompilation_finish", self.handle)
        self.model.forget_values()

    def stored(self) -> bytes | None:
        """The compiled network as bytes; None if the library has no such form, or this was restored from it."""
        if self._buffer is not None:
            return None
        library = self.devices.library
        if not (
            library.has("NeuronCompilation_storeCompiledNetwork")
            and library.has("NeuronModel_restoreFromCompiledNetwork")
        ):
            return None
        size = c.c_size_t()
        function = "NeuronCompilation_getCompiledNetworkSize"
        self.devices.call("tell the size of a compiled network", function, self.handle, c.byref(size))
        buffer = c.create_string_buffer(size.value)
        function = "NeuronCompilation_storeCompiledNetwork"
        self.devices.call("store a compiled network", function, self.handle, c.addressof(buffer), size.value)
        return buffer.raw

    def close(self) -> None:
        """Free it and its model.  Idempotent."""
        super().close()
        self.model.close()
        self._buffer = None


class NeuronMemory(_Object):
    """Memory of a file descriptor, such as that of a DMA heap, which the APU reads and writes where it lies."""

    _free = "NeuronMemory_free"

    def __init__(self, devices: NeuronDevices, descriptor: int, nbytes: int, protection: int, offset: int = 0) -> None:
        """``protection`` is that of ``mmap``; the descriptor must stay open as long as this lives."""
        handle = Handle()
        function = "NeuronMemory_createFromFd"
        devices.call("take a memory", function, nbytes, protection, descriptor, offset, c.byref(handle))
        super().__init__(devices, handle)


class NeuronExecution(_Object):
    """One request: bound inputs and outputs."""

    _free = "NeuronExecution_free"

    def __init__(self, compilation: NeuronCompilation) -> None:
        handle = Handle()
        devices = compilation.devices
        devices.call("create an execution", "NeuronExecution_create", compilation.handle, c.byref(handle))
        super().__init__(devices, handle)

    def set_input(self, index: int, address: int, nbytes: int) -> None:
        """Read an input from host memory."""
        function = "NeuronExecution_setInput"
        self.devices.call(f"take input {index}", function, self.handle, index, None, address, nbytes)

    def set_output(self, index: int, address: int, nbytes: int) -> None:
        """Write an output to host memory."""
        function = "NeuronExecution_setOutput"
        self.devices.call(f"take output {index}", function, self.handle, index, None, address, nbytes)

    def set_input_memory(self, index: int, memory: NeuronMemory, offset: int, nbytes: int) -> None:
        """Read an input from shared memory."""
        function = "NeuronExecution_setInputFromMemory"
        self.devices.call(f"take input {index}", function, self.handle, index, None, memory.handle, offset, nbytes)

    def set_output_memory(self, index: int, memory: NeuronMemory, offset: int, nbytes: int) -> None:
        """Write an output to shared memory."""
        function = "NeuronExecution_setOutputFromMemory"
        self.devices.call(f"take output {index}", function, self.handle, index, None, memory.handle, offset, nbytes)

    def boost(self, percent: int) -> None:
        """How high the device may clock."""
        self.devices.call("take the boost hint", "NeuronExecution_setBoostHint", self.handle, percent)

    def compute(self) -> None:
        """Run and wait."""
        self.devices.call("run", "NeuronExecution_compute", self.handle)

    def start(self, behind: NeuronEvent | None = None) -> NeuronEvent:
        """Run in the background (libraries from 5.0.0 on), once the run of ``behind`` is done."""
        event = Handle()
        function = "NeuronExecution_startComputeWithDependencies"
        events = None if behind is None else (Handle * 1)(behind.handle)
        self.devices.call("start a run", function, self.handle, events, 0 if behind is None else 1, 0, c.byref(event))
        return NeuronEvent(self.devices, event)


class NeuronEvent(_Object):
    """Completion of a run that was started."""

    _free = "NeuronEvent_free"

    def wait(self) -> None:
        """Block until it is there.

        Raises:
            ProviderError: if the run failed.
        """
        self.devices.call("run", "NeuronEvent_wait", self.handle)


def _indexes(numbers: Sequence[int]) -> tuple[int, c.Array[c.c_uint32]]:
    return len(numbers), (c.c_uint32 * len(numbers))(*numbers)
