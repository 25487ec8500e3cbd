"""QNN's objects with their life times: an open device, contexts in it, graphs in those."""

from __future__ import annotations

import ctypes as c
import functools
import logging
import struct
import threading
from dataclasses import dataclass

from mace_core.errors import UnsupportedError
from mace_hexagon.description import QTensor
from mace_hexagon.qnn.interface import SUCCESS, Interface
from mace_hexagon.qnn.log import ERROR, LogCollector
from mace_hexagon.qnn.rpcmem import SharedBlock
from mace_hexagon.qnn.types import (
    ASYNCHRONOUS_EXECUTION,
    CONFIG_CUSTOM,
    FINALIZE_OPTIMIZATION,
    FIRST_DEVICE,
    HTP_DEVICE_ARCH,
    HTP_DEVICE_SOC,
    HTP_GRAPH_HVX_THREADS,
    HTP_GRAPH_OPTIMIZATION,
    HTP_GRAPH_PRECISION,
    HTP_GRAPH_VTCM_MB,
    HTP_SHARED_BUFFER,
    MEMORY_CUSTOM,
    PRECISION_FLOAT16,
    Config,
    CustomConfig,
    Handle,
    MemoryDescriptor,
    Notify,
    OpConfig,
    SharedBuffer,
    Tensor,
)

_log = logging.getLogger("mace.hexagon")

Target = tuple[tuple[int, tuple[int, ...]], ...]
"""Options of a device, each its number and words: told to the library one after the other, the last one counts."""


def soc_target(soc: int) -> Target:
    """Compile for a chip."""
    return ((HTP_DEVICE_SOC, (soc,)),)


def arch_target(arch: int, *, float_soc: int) -> Target:
    """Compile for an architecture, without the chip's preference for float16.

    The library keeps that preference until it is told of a chip that has none, ``float_soc``.
    """
    return ((HTP_DEVICE_SOC, (float_soc,)), (HTP_DEVICE_ARCH, (FIRST_DEVICE, arch)))


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How graphs are compiled.

    Attributes:
        half_precision: what is float32 is computed in float16.
        optimization: 1 to 3, the higher the longer QNN optimizes; 0 for its own choice.
        vtcm_mb: megabytes of tightly coupled memory; 0 for all.
        hvx_threads: vector threads; 0 for QNN's own choice.
    """

    half_precision: bool
    optimization: int = 0
    vtcm_mb: int = 0
    hvx_threads: int = 0

    def options(self) -> Target:
        """In QNN's form."""
        found: list[tuple[int, tuple[int, ...]]] = []
        if self.half_precision:
            found.append((HTP_GRAPH_PRECISION, (PRECISION_FLOAT16,)))
        if self.optimization:
            (level,) = struct.unpack("=I", struct.pack("=f", self.optimization))
            found.append((HTP_GRAPH_OPTIMIZATION, (FINALIZE_OPTIMIZATION, level)))
        if self.vtcm_mb:
            found.append((HTP_GRAPH_VTCM_MB, (self.vtcm_mb,)))
        if self.hvx_threads:
            found.append((HTP_GRAPH_HVX_THREADS, (self.hvx_threads,)))
        return tuple(found)

    def __str__(self) -> str:
        """What a stored graph depends on."""
        precision = "fp16" if self.half_precision else "float32"
        return f"{precision}, optimization {self.optimization}, vtcm {self.vtcm_mb}, hvx {self.hvx_threads}"


_FREEING = (("deviceFree", "_device"), ("backendFree", "_backend"), ("logFree", "_log_handle"))


class _Configs:
    """A null-terminated list of options; keeps what it points to."""

    def __init__(self, options: Target) -> None:
        self._kept: list[c.Structure] = []
        addresses = []
        for option, words in options:
            custom = CustomConfig(option)
            for index, word in enumerate(words):
                custom.value.words[index] = word
            config = Config(CONFIG_CUSTOM, c.addressof(custom))
            self._kept += [custom, config]
            addresses.append(c.addressof(config))
        self._list = (c.c_void_p * (len(addresses) + 1))(*addresses, None)

    @property
    def address(self) -> int:
        return c.addressof(self._list)


class QnnDevice:
    """An open backend with one device of one SoC.

    Attributes:
        log: what the library says.
        live_contexts: contexts that exist.

    Closing frees the library's handles; contexts must have been closed before.
    """

    def __init__(self, interface: Interface, name: str, target: Target = ()) -> None:
        """``name`` is used in messages; ``target`` is what to compile for, empty for the library's own choice.

        Raises:
            ProviderError: if the library refuses.
        """
        self.interface = interface
        self.name = name
        self.log = LogCollector()
        self.live_contexts = 0
        self._target = target
        self._refused_memory = False
        self._log_handle, self._backend, self._device = Handle(), Handle(), Handle()
        with interface.lock:
            try:
                if interface.code("logCreate", self.log.callback, ERROR, c.byref(self._log_handle)) != SUCCESS:
                    self._log_handle = Handle()  # goes without: only texts are lost
                interface.devices.add(self)
                interface.selected = self  # nothing to select yet
                self._call("start the backend", "backendCreate", self._log_handle, None, c.byref(self._backend))
                self._device = self._create_device(target[:-1], target[-1:])
            except BaseException:
                self.close()
                raise

    @property
    def backend(self) -> Handle:
        """The library's handle of the backend."""
        return self._backend

    @functools.cached_property
    def has_queue(self) -> bool:
        """Whether runs can be queued (``graphExecuteAsync``); the emulation cannot."""
        if not self.interface.has("graphExecuteAsync"):
            return False
        with self.interface.lock:
            return self.interface.code("propertyHasCapability", ASYNCHRONOUS_EXECUTION) == SUCCESS

    def build_id(self) -> str:
        """The library's build."""
        text = c.c_char_p()
        self._call("tell its build", "backendGetBuildId", c.byref(text))
        return (text.value or b"").decode("utf-8", "replace")

    def validate(self, config: OpConfig) -> str | None:
        """Why the library does not take a node; None if it does."""
        with self.interface.lock:
            self._select()
            code = self.interface.code("backendValidateOpConfig", self._backend, config)
            if code == SUCCESS:
                return None
            return self.log.recent() or self.interface.message(code)

    def create_context(self) -> QnnContext:
        """An empty context."""
        handle = Handle()
        self._call("create a context", "contextCreate", self._backend, self._device, None, c.byref(handle))
        return QnnContext(self, handle)

    def restore_context(self, binary: bytes) -> QnnContext:
        """A context from its binary.

        Raises:
            UnsupportedError: if the library does not take it.
        """
        handle = Handle()
        buffer = c.create_string_buffer(binary, len(binary))
        with self.interface.lock:
            self._select()
            code = self.interface.code(
                "contextCreateFromBinary",
                *(self._backend, self._device, None, c.addressof(buffer), len(binary), c.byref(handle), None),
            )
        if code != SUCCESS:
            details = self.log.recent() or self.interface.message(code)
            raise UnsupportedError(f"{self.name} does not take the stored context: {details}", device=self.name)
        return QnnContext(self, handle, buffer)

    def refused_memory(self, reason: str) -> None:
        """Tell once that shared memory is not used as such."""
        if not self._refused_memory:
            self._refused_memory = True
            _log.warning("%s does not take shared memory, so tensors are copied: %s", self.name, reason)

    def close(self) -> None:
        """Free the handles.  Idempotent."""
        with self.interface.lock:
            for function, attribute in _FREEING:
                handle = getattr(self, attribute)
                setattr(self, attribute, Handle())
                if handle:
                    self.interface.code(function, handle)
            self.interface.devices.discard(self)
            if self.interface.selected is self:
                self.interface.selected = None

    def call(self, doing: str, function: str, *arguments: object) -> None:
        """Call a function of the library, which is not called from two threads at once.

        Raises:
            ProviderError: the class that fits, if it returns an error.
        """
        self._call(doing, function, *arguments)

    def _call(self, doing: str, function: str, *arguments: object) -> None:
        with self.interface.lock:
            self._select()
            code = self.interface.code(function, *arguments)
            if code != SUCCESS:
                raise self.interface.error(code, doing, self.log.recent(), device=self.name)

    def _select(self) -> None:
        """Make the library compile for this device's target, and take what it says for this device's.

        The emulation keeps the target for the whole process: it is that of the device created last.
        """
        if self.interface.selected is not self:
            self.interface.selected = self
            if self._target:
                self._free_device(self._create_device(self._target[:-1], self._target[-1:]))
        self.log.clear()

    def _create_device(self, before: Target, target: Target) -> Handle:
        """A device for ``target``, after the library was told of each step ``before``."""
        for step in before:
            self._free_device(self._create_device((), (step,)))
        handle, configs = Handle(), _Configs(target)
        self._call(f"open {self.name}", "deviceCreate", self._log_handle, configs.address, c.byref(handle))
        return handle

    def _free_device(self, handle: Handle) -> None:
        self._call(f"close {self.name}", "deviceFree", handle)


class QnnContext:
    """Holds graphs; freed when the last of its users lets go."""

    def __init__(self, device: QnnDevice, handle: Handle, binary: object = None) -> None:
        self.device = device
        self._handle = handle
        self._binary = binary  # the library may read from it as long as the context lives
        self._users = 1
        self._lock = threading.Lock()
        self._registered: dict[tuple[SharedBlock, int, QTensor], Handle] = {}
        with device.interface.lock:
            device.live_contexts += 1

    def retain(self) -> QnnContext:
        """One user more."""
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        """One user fewer; the last one frees the context with its graphs."""
        with self._lock:
            self._users -= 1
            handle = self._handle if self._users == 0 else Handle()
        if handle:
            self._handle = Handle()
            for block in {block for block, _, _ in self._registered}:
                self.withdraw(block)
            with self.device.interface.lock:
                self.device.live_contexts -= 1
            if self.device.backend:  # else the process ends, and the library is gone
                self.device.call("free a context", "contextFree", handle, None)
            self._binary = None

    def register(self, block: SharedBlock, offset: int, tensor: QTensor) -> int | None:
        """QNN's handle of a tensor in shared memory, ``offset`` bytes into ``block``; None if QNN does not take such
        memory, which is then copied."""
        known = self._registered.get((block, offset, tensor))
        if known is not None:
            return known.value
        dimensions = (c.c_uint32 * len(tensor.shape))(*tensor.shape)
        where = SharedBuffer(HTP_SHARED_BUFFER, block.nbytes, block.descriptor, offset)
        descriptor = MemoryDescriptor(
            *(len(tensor.shape), dimensions, None, tensor.data_type, MEMORY_CUSTOM, c.addressof(where))
        )
        handle = Handle()
        with self.device.interface.lock:
            code = self.device.interface.code("memRegister", self._handle, c.byref(descriptor), 1, c.byref(handle))
        if code != SUCCESS:
            self.device.refused_memory(self.device.interface.message(code))
            return None
        self._registered[block, offset, tensor] = handle
        block.used_by(self)
        return handle.value

    def withdraw(self, block: SharedBlock) -> None:
        """Forget what was registered of a block."""
        for key in [key for key in self._registered if key[0] is block]:
            handle = self._registered.pop(key)
            self.device.call("give shared memory back", "memDeRegister", c.byref(handle), 1)

    def create_graph(self, name: str, settings: GraphSettings) -> QnnGraph:
        """An empty graph that is to be compiled in this way."""
        handle = Handle()
        configs = _Configs(settings.options())
        self.device.call(
            f"create graph '{name}'", "graphCreate", self._handle, name.encode(), configs.address, c.byref(handle)
        )
        return QnnGraph(self.device, handle, name)

    def retrieve_graph(self, name: str) -> QnnGraph:
        """A graph of a restored context."""
        handle = Handle()
        self.device.call(
            f"find graph '{name}' in the stored context",
            *("graphRetrieve", self._handle, name.encode(), c.byref(handle)),
        )
        return QnnGraph(self.device, handle, name)

    def binary(self) -> bytes:
        """The stored form of the context with its finalized graphs."""
        size, written = c.c_uint64(), c.c_uint64()
        self.device.call("size a context", "contextGetBinarySize", self._handle, c.byref(size))
        buffer = c.create_string_buffer(size.value)
        self.device.call(
            "store a context",
            *("contextGetBinary", self._handle, c.addressof(buffer), size.value, c.byref(written)),
        )
        return buffer.raw[: written.value]


class QnnGraph:
    """A graph in a context, which owns it."""

    def __init__(self, device: QnnDevice, handle: Handle, name: str) -> None:
        self._device = device
        self._handle = handle
        self.name = name

    def create_tensor(self, tensor: Tensor) -> None:
        """Register a tensor; its id is written into it."""
        name = (tensor.any.v1.name or b"").decode()
        self._device.call(f"create tensor '{name}'", "tensorCreateGraphTensor", self._handle, c.byref(tensor))

    def add(self, config: OpConfig) -> None:
        """Add a node."""
        what = f"add node '{(config.name or b'').decode()}' ({(config.type or b'').decode()})"
        self._device.call(what, "graphAddNode", self._handle, config)

    def finalize(self) -> None:
        """Compile."""
        self._device.call(f"compile graph '{self.name}'", "graphFinalize", self._handle, None, None)

    @property
    def has_queue(self) -> bool:
        """Whether `execute_queued` works."""
        return self._device.has_queue

    def execute(self, inputs: c.Array[Tensor], outputs: c.Array[Tensor], profile: Handle | None = None) -> None:
        """Run to completion; one run at a time on a device.  ``profile`` collects what is measured."""
        self._device.call(
            f"run graph '{self.name}'",
            *("graphExecute", self._handle, inputs, len(inputs), outputs, len(outputs), profile, None),
        )

    def execute_queued(self, inputs: c.Array[Tensor], outputs: c.Array[Tensor], profile: Handle | None = None) -> None:
        """The same through the library's queue, in which runs of other executions may wait meanwhile."""
        ended, codes = threading.Event(), list[int]()

        def notify(_parameter: int | None, code: int) -> None:
            codes.append(code)
            ended.set()

        callback = Notify(notify)
        what = f"run graph '{self.name}'"
        tensors = (inputs, len(inputs), outputs, len(outputs))
        self._device.call(what, "graphExecuteAsync", self._handle, *tensors, profile, None, callback, None)
        ended.wait()
        if codes[0] != SUCCESS:
            raise self._device.interface.error(codes[0], what, device=self._device.name)
