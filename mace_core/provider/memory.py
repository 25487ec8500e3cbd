"""Buffers, allocators and transfers between memories."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import OutOfMemoryError
from mace_core.host.memory import require_host_memory
from mace_core.tensor import MemoryKind

if TYPE_CHECKING:
    from mace_core.provider.execution import Event, Stream

ALIGNMENT_BYTES = 64
"""Alignment of every buffer that `HostAllocator` makes: a cache line and the widest vector register."""


@dataclass(slots=True, eq=False)
class Buffer:
    """A piece of memory.

    Attributes:
        memory: its kind.
        nbytes: its size.
        address: where it is, for memory the CPU can address; 0 otherwise.
        handle: the device's own object (a cl_mem, an rpcmem fd); the Python object for ``MemoryKind.OBJECT``;
            for host memory, whatever keeps it alive.
        device: qualified name of the device it belongs to; "" for ordinary host memory.
    """

    memory: MemoryKind
    nbytes: int
    address: int = 0
    handle: Any = None
    device: str = ""

    def host_bytes(self) -> npt.NDArray[np.uint8]:
        """The bytes as a writable flat array that shares this memory.

        Raises:
            ValueError: where the CPU cannot address it.
        """
        if self.memory not in (MemoryKind.HOST, MemoryKind.PINNED):
            raise ValueError(f"a buffer in {self.memory.value} memory of {self.device} cannot be read by the CPU")
        if self.nbytes == 0:
            return np.empty(0, np.uint8)
        return np.ctypeslib.as_array((ctypes.c_uint8 * self.nbytes).from_address(self.address))


class Allocator(ABC):
    """Makes and frees buffers of one memory kind of one device.  Called from any thread."""

    memory: MemoryKind = MemoryKind.HOST

    @abstractmethod
    def allocate(self, nbytes: int) -> Buffer:
        """A new buffer of at least ``nbytes``.

        Raises:
            OutOfMemoryError: if there is no room.
        """

    @abstractmethod
    def free(self, buffer: Buffer) -> None:
        """Give a buffer back; it is not used afterwards.  Freeing twice is an error of the caller."""


MAPPED_FROM_BYTES = 1 << 20
"""Larger memory is taken from the system and not from the C library: freed, it is gone, whoever used the heap since."""

_HUGE_PAGES_FROM_BYTES = 4 << 20


def _room(nbytes: int) -> npt.NDArray[np.uint8]:
    """Bytes with undefined content.

    Raises:
        MemoryError, OSError: if there is no room.
    """
    if nbytes < MAPPED_FROM_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(nbytes, np.uint8)
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= _HUGE_PAGES_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


class HostAllocator(Allocator):
    """Ordinary process memory, aligned to `ALIGNMENT_BYTES`."""

    def allocate(self, nbytes: int) -> Buffer:
        """Memory with undefined content.

        Raises:
            OutOfMemoryError: if the host has no room.
        """
        require_host_memory(nbytes)
        try:
            owner = _room(nbytes + ALIGNMENT_BYTES)
        except (MemoryError, OSError):
            raise OutOfMemoryError(f"the host has no {nbytes} bytes of memory left") from None
        address = -(-owner.ctypes.data // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        return Buffer(MemoryKind.HOST, nbytes, address, owner)

    def free(self, buffer: Buffer) -> None:
        """Give the memory back, once nothing else refers to it."""
        buffer.handle = None
        buffer.address = 0


class DataTransfer(ABC):
    """Moves bytes between host memory and a device's memory.  Called from any thread."""

    @abstractmethod
    def to_device(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        """Copy host -> device; returns when the source may be reused."""

    @abstractmethod
    def to_host(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        """Copy device -> host; returns when the bytes have arrived."""

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
        """Queue a copy host -> device behind what is in ``stream``; None (the default) where that is not offered.

        The core keeps both buffers alive, and the source unchanged, until the event is done.
        """
        return None

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
        """Queue a copy device -> host behind what is in ``stream``; None (the default) where that is not offered.

        The core keeps both buffers alive, and does not look at the target, until the event is done.
        """
        return None
