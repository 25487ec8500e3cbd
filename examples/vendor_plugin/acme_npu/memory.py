"""The simulator's own memory: the host reaches it through copies alone."""

from __future__ import annotations

import mmap
import threading

import numpy as np
import numpy.typing as npt

from acme_npu.queue import AcmeStream
from mace_core.errors import OutOfMemoryError, ProviderError
from mace_core.provider import Allocator, Buffer, DataTransfer, Event, ForeignMemory, Stream
from mace_core.tensor import MemoryKind

DEFAULT_MEMORY_BYTES = 1 << 30


class DeviceMemory(Allocator, DataTransfer):
    """Allocates blocks, named by number, and copies bytes in and out of them."""

    memory = MemoryKind.DEVICE

    def __init__(self, device: str, capacity_bytes: int) -> None:
        self._device = device
        self._capacity = capacity_bytes
        self._blocks: dict[int, npt.NDArray[np.uint8]] = {}
        self._imported: dict[int, npt.NDArray[np.uint8]] = {}
        self._next = 1
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return sum(block.nbytes for block in self._blocks.values())

    def allocate(self, nbytes: int) -> Buffer:
        used = self.used_bytes
        if used + nbytes > self._capacity:
            raise OutOfMemoryError(
                f"{self._device} has {self._capacity} bytes of memory, {used} of them in use; "
                f"{nbytes} more were asked for",
                device=self._device,
            )
        with self._lock:
            number = self._next
            self._next += 1
            self._blocks[number] = np.empty(nbytes, np.uint8)
        return Buffer(MemoryKind.DEVICE, nbytes, handle=number, device=self._device)

    def free(self, buffer: Buffer) -> None:
        with self._lock:
            del self._blocks[buffer.handle]

    def import_descriptor(self, memory: ForeignMemory) -> Buffer:
        """A block over a dma-buf, as the accelerator's memory unit would map it; it takes none of its own memory."""
        end = memory.offset + memory.nbytes
        try:
            mapped = mmap.mmap(memory.descriptor, end, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise ProviderError(
                f"the dma-buf {memory.descriptor} cannot be mapped: {error}", device=self._device
            ) from error
        with self._lock:
            number = self._next
            self._next += 1
            self._imported[number] = np.frombuffer(mapped, np.uint8, memory.nbytes, memory.offset)
        return Buffer(MemoryKind.DEVICE, memory.nbytes, handle=number, device=self._device)

    def release(self, buffer: Buffer) -> None:
        """Forget an imported block."""
        with self._lock:
            del self._imported[buffer.handle]

    @property
    def imported_bytes(self) -> int:
        with self._lock:
            return sum(block.nbytes for block in self._imported.values())

    def block(self, buffer: Buffer) -> npt.NDArray[np.uint8]:
        """The bytes of a buffer as the simulated processor sees them."""
        with self._lock:
            found = self._imported.get(buffer.handle)
            return self._blocks[buffer.handle] if found is None else found

    def to_device(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        bytes_in = source.host_bytes()[source_offset : source_offset + nbytes]
        self.block(target)[target_offset : target_offset + nbytes] = bytes_in

    def to_host(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        bytes_out = self.block(source)[source_offset : source_offset + nbytes]
        target.host_bytes()[target_offset : target_offset + nbytes] = bytes_out

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
        def copy() -> None:
            self.to_device(source, target, nbytes, source_offset=source_offset, target_offset=target_offset)

        return stream.submit(copy, ()) if isinstance(stream, AcmeStream) else None

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
        def copy() -> None:
            self.to_host(source, target, nbytes, source_offset=source_offset, target_offset=target_offset)

        return stream.submit(copy, ()) if isinstance(stream, AcmeStream) else None

    def free_all(self) -> None:
        with self._lock:
            self._blocks.clear()
            self._imported.clear()
