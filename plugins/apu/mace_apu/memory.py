"""Memory that the APU and the processor both address: a file descriptor, mapped here and registered with the library.

Descriptors are dma-bufs of the system's DMA heap where there is one (``linux/dma-heap.h``), else anonymous files.  The
library sees to the caches: by default it writes back what it reads and discards what it
wrote.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
from pathlib import Path

from mace_apu.neuron.handles import NeuronDevices, NeuronMemory
from mace_core.errors import OutOfMemoryError, ProviderError
from mace_core.provider import Allocator, Buffer
from mace_core.tensor import MemoryKind

DMA_HEAP = Path("/dev/dma_heap/system")
_DMA_HEAP_ALLOCATE = 0xC0184800
"""``DMA_HEAP_IOCTL_ALLOC``: _IOWR('H', 0, struct dma_heap_allocation_data)."""


class SharedMemory:
    """A registered piece of memory, kept as long as the core or an execution refers to it."""

    def __init__(self, devices: NeuronDevices, nbytes: int) -> None:
        """
        Raises:
            ProviderError: if the system gives none, or the library does not take it.
        """
        size = -(-max(nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._users = 1
        self._lock = threading.Lock()
        self._descriptor = _descriptor(size, devices.name)
        try:
            self._pages = mmap.mmap(self._descriptor, size)
            self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
            self.memory = NeuronMemory(devices, self._descriptor, size, mmap.PROT_READ | mmap.PROT_WRITE)
        except BaseException as error:
            os.close(self._descriptor)
            if isinstance(error, OSError):
                raise OutOfMemoryError(f"{devices.name}: {size} bytes cannot be mapped: {error.strerror}") from None
            raise

    @property
    def descriptor(self) -> int:
        """The file descriptor, which stays this object's."""
        return self._descriptor

    def keep(self) -> SharedMemory:
        """One user more."""
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        """One user fewer; the last one gives the memory back."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.memory.close()
            self._pages.close()
            os.close(self._descriptor)


class SharedAllocator(Allocator):
    """Buffers of `SharedMemory`, which is their ``handle``."""

    memory = MemoryKind.PINNED

    def __init__(self, devices: NeuronDevices) -> None:
        self._devices = devices

    def allocate(self, nbytes: int) -> Buffer:
        shared = SharedMemory(self._devices, nbytes)
        return Buffer(MemoryKind.PINNED, nbytes, shared.address, shared, self._devices.name)

    def free(self, buffer: Buffer) -> None:
        handle, buffer.handle, buffer.address = buffer.handle, None, 0
        handle.release()


def why_not_shared(devices: NeuronDevices) -> str:
    """Why the library takes no such memory; "" if it does."""
    lacking = [
        function
        for function in (
            *("NeuronMemory_createFromFd", "NeuronMemory_free"),
            *("NeuronExecution_setInputFromMemory", "NeuronExecution_setOutputFromMemory"),
        )
        if not devices.library.has(function)
    ]
    if lacking:
        return f"the Neuron Adapter {devices.library.version} has no {lacking[0]}"
    try:
        SharedMemory(devices, mmap.PAGESIZE).release()
    except ProviderError as error:
        return str(error)
    return ""


def _descriptor(nbytes: int, device: str) -> int:
    try:
        heap = os.open(DMA_HEAP, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # none here, or not for this user: an anonymous file is as good to a library that takes it
        return _anonymous_file(nbytes, device)
    try:
        import fcntl

        request = bytearray(struct.pack("=QIIQ", nbytes, 0, os.O_RDWR | os.O_CLOEXEC, 0))
        fcntl.ioctl(heap, _DMA_HEAP_ALLOCATE, request)
        return int(struct.unpack_from("=QI", request)[1])
    except OSError as error:
        raise OutOfMemoryError(f"{device}: {DMA_HEAP} does not give {nbytes} bytes: {error.strerror}") from None
    finally:
        os.close(heap)


def _anonymous_file(nbytes: int, device: str) -> int:
    if not hasattr(os, "memfd_create"):
        raise ProviderError(f"{device}: this system has no anonymous files to share memory through", device=device)
    try:
        descriptor = os.memfd_create("mace-apu", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, nbytes)
    except OSError as error:
        raise OutOfMemoryError(f"{device}: {nbytes} bytes of memory cannot be shared: {error.strerror}") from None
    return descriptor
