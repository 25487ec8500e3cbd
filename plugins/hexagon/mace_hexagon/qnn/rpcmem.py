"""Memory that the processor and the DSP share: Qualcomm's rpcmem, in libcdsprpc.so."""

from __future__ import annotations

import ctypes as c
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mace_core.errors import OutOfMemoryError, ProviderError
from mace_core.provider import Allocator, Buffer
from mace_core.tensor import MemoryKind

if TYPE_CHECKING:
    from mace_hexagon.qnn.handles import QnnContext

LIBRARY = "libcdsprpc.so"

_HEAP_SYSTEM, _CACHED = 25, 1
_LARGEST_INT = (1 << 31) - 1


class SharedBlock:
    """One piece of shared memory, and what contexts were told of it."""

    def __init__(self, address: int, nbytes: int, descriptor: int) -> None:
        self.address = address
        self.nbytes = nbytes
        self.descriptor = descriptor
        self._contexts: set[QnnContext] = set()
        self._lock = threading.Lock()

    def used_by(self, context: QnnContext) -> None:
        """``context`` has registered a part of it."""
        with self._lock:
            self._contexts.add(context)

    def forget(self) -> None:
        """Withdraw it from all contexts."""
        with self._lock:
            contexts, self._contexts = self._contexts, set()
        for context in contexts:
            context.withdraw(self)


class RpcMemAllocator(Allocator):
    """Buffers in memory that the DSP reads and writes where it lies."""

    memory = MemoryKind.PINNED

    def __init__(self, library: str | Path, device: str) -> None:
        """``library`` is a path, or a name that the system's loader finds; ``device`` owns the buffers.

        Raises:
            ProviderError: if it cannot be loaded, or has not what is needed.
        """
        self._device = device
        try:
            functions = c.CDLL(str(library))
            self._allocate = functions.rpcmem_alloc
            self._free = functions.rpcmem_free
            self._descriptor = functions.rpcmem_to_fd
        except OSError as error:
            raise ProviderError(f"{library} cannot be loaded: {error}", device=device) from None
        except AttributeError as error:
            raise ProviderError(f"{library} is not Qualcomm's rpcmem: {error}", device=device) from None
        self._allocate.argtypes, self._allocate.restype = [c.c_int, c.c_uint32, c.c_int], c.c_void_p
        self._free.argtypes, self._free.restype = [c.c_void_p], None
        self._descriptor.argtypes, self._descriptor.restype = [c.c_void_p], c.c_int

    def allocate(self, nbytes: int) -> Buffer:
        """Memory with undefined content.

        Raises:
            OutOfMemoryError: if there is no room; rpcmem has no blocks of 2 GiB or more.
        """
        wanted = max(nbytes, 1)
        address = self._allocate(_HEAP_SYSTEM, _CACHED, wanted) if wanted <= _LARGEST_INT else None
        if not address:
            message = f"the memory shared with {self._device} has no {nbytes} bytes left"
            raise OutOfMemoryError(message, device=self._device)
        descriptor = self._descriptor(address)
        if descriptor < 0:
            self._free(address)
            raise OutOfMemoryError(f"rpcmem gave {nbytes} bytes that {self._device} cannot reach", device=self._device)
        block = SharedBlock(address, wanted, descriptor)
        return Buffer(self.memory, nbytes, address, block, self._device)

    def free(self, buffer: Buffer) -> None:
        """Withdraw the memory from the contexts that know it, and give it back."""
        block = buffer.handle
        assert isinstance(block, SharedBlock)
        buffer.handle, buffer.address = None, 0
        try:
            block.forget()
        finally:
            self._free(block.address)
