"""Memory that neither the core nor a provider has allocated, and that a device may work on where it lies."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class ForeignKind(enum.Enum):
    """How a piece of memory is named."""

    HOST = "host"  # an address of this process: an array of the caller's
    DMA_BUF = "dma-buf"  # a file descriptor of the Linux kernel's buffer sharing: a camera's or a decoder's frame
    DLPACK = "dlpack"  # a tensor of another library in the memory of its device


@dataclass(frozen=True, slots=True, eq=False)
class ForeignMemory:
    """A piece of memory of somebody else's: a dense, row-major tensor of ``nbytes``.

    Attributes:
        kind: which of the following says where it is.
        nbytes: the size of the tensor.
        offset: bytes from the beginning of the ``descriptor``'s buffer to the tensor; 0 for the other kinds.
        address: of the first byte (HOST).
        descriptor: the dma-buf's; it stays the caller's, duplicate what you keep (DMA_BUF).
        tensor: an object with ``__dlpack__`` and ``__dlpack_device__`` (DLPACK).
    """

    kind: ForeignKind
    nbytes: int
    offset: int = 0
    address: int = 0
    descriptor: int = -1
    tensor: Any = None
