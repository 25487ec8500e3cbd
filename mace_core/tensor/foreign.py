"""Tensors to feed that lie in memory of somebody else's, which devices may be able to work on without a copy."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError, UsageTypeError
from mace_core.tensor.dtype import DType


class DmaBuf:
    """A dense, row-major tensor in a buffer that Linux shares by file descriptor.

        session.run({"image": mace.DmaBuf(descriptor, "uint8", (1, 1080, 1920, 3))})

    A device that imports such buffers reads it where it lies; for any other the buffer is mapped, read-only.  The
    descriptor stays the caller's, as do fences and the buffer's synchronization with the processor's caches.

    Attributes:
        descriptor: the file descriptor.
        dtype: element type.
        shape: sizes.
        offset: bytes from the beginning of the buffer to the tensor.
    """

    def __init__(self, descriptor: int, dtype: str | DType, shape: Sequence[int], *, offset: int = 0) -> None:
        """
        Raises:
            UsageError: if that is not an element type, shape or offset, or the buffer is smaller.
        """
        try:
            kind = dtype if isinstance(dtype, DType) else DType.from_label(np.dtype(dtype).name)
        except (TypeError, ValueError) as error:
            raise UsageTypeError(f"a dma-buf needs an element type such as 'uint8', not {dtype!r}") from error
        sizes = tuple(shape)
        if kind is DType.STRING or kind.is_packed:
            raise UsageError(f"a dma-buf holds numbers of whole bytes, not {kind.label}")
        if not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise UsageError(f"a dma-buf has a shape of whole numbers, not {shape!r}")
        if not isinstance(offset, int) or offset < 0 or offset % max(kind.bits // 8, 1):
            raise UsageError(f"a dma-buf's offset is a whole number of {kind.label} elements in bytes, not {offset!r}")
        self.descriptor, self.dtype, self.shape, self.offset = descriptor, kind, sizes, offset
        self._mapped: npt.NDArray[Any] | None = None
        try:
            there = os.fstat(descriptor).st_size
            if not there:  # of a dma-buf, stat may say 0
                there = os.lseek(descriptor, 0, os.SEEK_END)
                os.lseek(descriptor, 0, os.SEEK_SET)
        except (OSError, TypeError) as error:
            raise UsageError(f"the file descriptor {descriptor!r} is not a dma-buf: {error}") from error
        if offset + self.nbytes > there:
            raise UsageError(
                f"the dma-buf has {there} bytes; {kind.label}{list(sizes)} at offset {offset} needs {self.nbytes} more"
            )

    @property
    def nbytes(self) -> int:
        """The size of the tensor in bytes."""
        return self.dtype.nbytes(math.prod(self.shape))

    def array(self) -> ForeignArray:
        """The tensor as the processor sees it, mapped at the first call.

        Raises:
            UsageError: if it cannot be mapped.
        """
        if self._mapped is None:
            if not self.nbytes:
                self._mapped = np.empty(self.shape, self.dtype.numpy)
            else:
                end = self.offset + self.nbytes
                try:
                    mapped = mmap.mmap(self.descriptor, end, mmap.MAP_SHARED, mmap.PROT_READ)
                except (OSError, ValueError) as error:
                    raise UsageError(f"the dma-buf {self.descriptor} cannot be mapped: {error}") from error
                raw = np.frombuffer(mapped, np.uint8, self.nbytes, self.offset)
                self._mapped = raw.view(self.dtype.numpy).reshape(self.shape)
        found = self._mapped.view(ForeignArray)
        found.origin = self
        return found


class ForeignArray(np.ndarray[Any, np.dtype[Any]]):
    """An array with the foreign tensor that it shows.

    Attributes:
        origin: a `DmaBuf`, or an object with ``__dlpack__`` in the memory of a device; None for whatever is computed
            from such an array.
        is_opaque: the host cannot read it: only its shape and type mean something.
    """

    origin: Any = None
    is_opaque: bool = False


def opaque(origin: Any, dtype: DType, shape: tuple[int, ...]) -> ForeignArray:
    """Stands for a tensor that only a device can read."""
    found = np.broadcast_to(np.zeros((), dtype.numpy), shape).view(ForeignArray)
    found.origin, found.is_opaque = origin, True
    return found
