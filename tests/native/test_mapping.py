"""Mapped files: no descriptor is kept, and one file is mapped once."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from mace_core.caching.mapped import MappedCache
from mace_core.host.mapping import map_file
from mace_core.tensor.files import open_bytes, release_pages


def mapped(path: Path, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return np.frombuffer(map_file(descriptor, size), np.uint8)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 70_000])
def test_a_mapping_has_the_content_of_the_file(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    path = tmp_path / "content"
    path.write_bytes(content.tobytes())
    seen = mapped(path, size)
    path.unlink()
    np.testing.assert_array_equal(seen, content)
    assert not seen.flags.writeable


def test_what_is_not_there_is_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"12")
    for size in (0, 3, -1):
        with pytest.raises(ValueError, match="cannot be mapped"):
            mapped(path, size)
    with path.open("wb") as file, pytest.raises(OSError, match="denied"):  # not open for reading
        file.write(b"12")
        file.flush()
        map_file(file.fileno(), 2)


def test_one_file_is_mapped_once_and_only_while_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(9000))
    first, second = mapped(path, 9000), mapped(path, 9000)
    assert first.ctypes.data == second.ctypes.data
    other = tmp_path / "other"
    other.write_bytes(b"\1" * 9000)
    other.replace(path)  # the same name, another file
    third = mapped(path, 9000)
    assert (int(first[0]), int(third[0])) == (0, 1)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert f"{path}" in maps.read_text()
        del first, second, third
        gc.collect()
        assert f"{path}" not in maps.read_text()


def test_a_mapped_file_takes_no_descriptor(tmp_path: Path) -> None:
    cache = MappedCache("things", "1", tmp_path)
    path = tmp_path / "weights"
    path.write_bytes(bytes(1 << 20))
    cache.put("a", b"1" * 5000)
    before = psutil.Process().num_fds()
    held = [open_bytes(path, mmap=True).data, cache.view("a"), cache.view("a")]
    assert psutil.Process().num_fds() == before
    assert len(held) == 3


def test_pages_of_a_mapped_file_can_still_be_given_back(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    content = np.arange(1 << 18, dtype=np.uint8)
    path.write_bytes(content.tobytes())
    seen = open_bytes(path, mmap=True).data
    assert release_pages(seen) == seen.nbytes
    np.testing.assert_array_equal(seen, content)
    assert release_pages(content) == 0
