"""Memory of the host that providers and runs work in."""

from __future__ import annotations

import ctypes

import numpy as np
import psutil
import pytest

from mace_core.errors import OutOfMemoryError
from mace_core.provider import HostAllocator
from mace_core.provider.memory import ALIGNMENT_BYTES, MAPPED_FROM_BYTES, Buffer

LARGE_BYTES = 24 << 20


@pytest.mark.parametrize("nbytes", [0, 1, 100, MAPPED_FROM_BYTES - ALIGNMENT_BYTES, MAPPED_FROM_BYTES, 5 << 20])
def test_memory_is_aligned_writable_and_all_there(nbytes: int) -> None:
    buffer = HostAllocator().allocate(nbytes)
    assert buffer.address % ALIGNMENT_BYTES == 0
    assert buffer.nbytes == nbytes
    ctypes.memset(buffer.address, 7, nbytes)
    assert ctypes.string_at(buffer.address, nbytes) == bytes([7]) * nbytes
    HostAllocator().free(buffer)
    assert buffer.address == 0


def test_large_memory_goes_back_to_the_system_when_it_is_freed() -> None:
    """Also where the C library has learnt, from a large array that came and went, to keep such memory on its heap."""

    def filled() -> Buffer:
        buffer = HostAllocator().allocate(LARGE_BYTES)
        ctypes.memset(buffer.address, 1, LARGE_BYTES)
        return buffer

    np.ones(LARGE_BYTES + (1 << 20), np.uint8)
    process = psutil.Process()
    first = filled()
    above = np.ones(1 << 20, np.uint8)  # keeps the heap from shrinking
    before = process.memory_info().rss
    HostAllocator().free(first)
    assert before - process.memory_info().rss > LARGE_BYTES * 0.9
    assert above.all()


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(OutOfMemoryError, match="available"):
        HostAllocator().allocate(1 << 55)
