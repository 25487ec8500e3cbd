"""Device memory: cl_mem buffers under an optional limit, and copies in and out of them."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from mace_core.errors import OutOfMemoryError
from mace_core.provider import Allocator, Buffer, DataTransfer, Event, ForeignMemory, Stream
from mace_core.tensor import MemoryKind
from mace_opencl.api import OpenCl
from mace_opencl.errors import error_for, raise_for
from mace_opencl.stream import ClEvent, ClStream

IMPORTED_FROM_BYTES = 256 << 10
"""Smaller arrays are copied sooner than a buffer is made over them and set as an argument."""

IMPORT_ALIGNMENT_BYTES = 16
"""That of a vector of four floats, and of what the host's allocators give."""


class DeviceMemory(Allocator, DataTransfer):
    """Buffers of one context.  ``Buffer.handle`` is a pyopencl Buffer; blocking copies go through a queue of its own.

    Attributes:
        used_bytes: what is allocated now.
    """

    memory = MemoryKind.DEVICE

    def __init__(self, api: OpenCl, context: Any, queue: Any, device: str, *, limit_bytes: int, largest: int) -> None:
        self._api = api
        self._context = context
        self._queue = queue
        self._queue_handle = queue.int_ptr
        self._device = device
        self._limit = limit_bytes
        self._largest = largest
        self._lock = threading.Lock()
        self.used_bytes = 0

    def allocate(self, nbytes: int) -> Buffer:
        import pyopencl as cl

        size = max(nbytes, 1)
        if size > self._largest:
            raise OutOfMemoryError(
                f"{self._device} cannot make one buffer of {nbytes} bytes: its driver allows {self._largest}",
                device=self._device,
            )
        with self._lock:
            if self.used_bytes + size > self._limit:
                raise OutOfMemoryError(
                    f"{self._device} may use {self._limit} bytes of memory, {self.used_bytes} of them are in use; "
                    f"{nbytes} more were asked for",
                    device=self._device,
                )
            self.used_bytes += size
        try:
            handle = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, size)
        except cl.Error as error:
            with self._lock:
                self.used_bytes -= size
            raise error_for(error.code, f"allocating {nbytes} bytes", device=self._device) from error
        return Buffer(MemoryKind.DEVICE, size, handle=handle, device=self._device)

    def free(self, buffer: Buffer) -> None:
        handle, buffer.handle = buffer.handle, None
        handle.release()
        with self._lock:
            self.used_bytes -= buffer.nbytes

    def import_host(self, memory: ForeignMemory) -> Buffer | None:
        """A buffer over host memory, to be read from; None for what is better copied.

        The driver may read the memory when the buffer is made or when a kernel runs (``CL_MEM_USE_HOST_PTR``): the
        content has to stay as it is until `release`.
        """
        import pyopencl as cl

        if memory.nbytes < IMPORTED_FROM_BYTES or memory.address % IMPORT_ALIGNMENT_BYTES:
            return None
        host = (ctypes.c_char * memory.nbytes).from_address(memory.address)
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
        try:
            handle = cl.Buffer(self._context, flags, hostbuf=host)
        except cl.Error as error:
            raise error_for(error.code, f"importing {memory.nbytes} bytes", device=self._device) from error
        return Buffer(MemoryKind.DEVICE, memory.nbytes, handle=handle, device=self._device)

    def release(self, buffer: Buffer) -> None:
        """End an import."""
        handle, buffer.handle = buffer.handle, None
        handle.release()

    def to_device(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        self.write(target, target_offset, source.address + source_offset, nbytes)

    def to_host(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        if nbytes:
            status = self._api.clEnqueueReadBuffer(
                self._queue_handle,
                source.handle.int_ptr,
                1,
                source_offset,
                nbytes,
                target.address + target_offset,
                0,
                None,
                None,
            )
            raise_for(status, f"reading {nbytes} bytes", device=self._device)

    def enqueue_to_device(
        self,
        stream: Stream,
        source: Buffer,
        target: Buffer,
        nbytes: int,
        *,
        source_offset: int = 0,
        target_offset: int = 0,
    ) -> Event | None:
        address = source.address + source_offset
        return self._enqueue("clEnqueueWriteBuffer", stream, target, target_offset, nbytes, address)

    def enqueue_to_host(
        self,
        stream: Stream,
        source: Buffer,
        target: Buffer,
        nbytes: int,
        *,
        source_offset: int = 0,
        target_offset: int = 0,
    ) -> Event | None:
        address = target.address + target_offset
        return self._enqueue("clEnqueueReadBuffer", stream, source, source_offset, nbytes, address)

    def _enqueue(
        self, function: str, stream: Stream, buffer: Buffer, offset: int, nbytes: int, address: int
    ) -> Event | None:
        """A copy between ``buffer`` and the host ``address`` that is not waited for."""
        if not isinstance(stream, ClStream) or not nbytes:
            return None
        event = ctypes.c_void_p()
        queue = stream.handle
        status = getattr(self._api, function)(
            queue, buffer.handle.int_ptr, 0, offset, nbytes, address, 0, None, ctypes.byref(event)
        )
        what = f"copying {nbytes} bytes"
        raise_for(status, what, device=self._device, running=True)
        raise_for(self._api.clFlush(queue), what, device=self._device, running=True)
        return ClEvent(self._api, int(event.value or 0), self._device, what)

    def write(self, target: Buffer, offset: int, address: int, nbytes: int) -> None:
        """Copy ``nbytes`` at the host ``address`` to ``offset``; returns when they may be reused."""
        if nbytes:
            status = self._api.clEnqueueWriteBuffer(
                self._queue_handle, target.handle.int_ptr, 1, offset, nbytes, address, 0, None, None
            )
            raise_for(status, f"writing {nbytes} bytes", device=self._device)
