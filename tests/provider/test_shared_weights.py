"""Weights in the form of a device: each content once, whatever it was made of, and never that of another."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.caching.cache import CheckedCache
from mace_core.caching.mapped import MappedCache
from mace_core.errors import UnsupportedError
from mace_core.provider.memory import ALIGNMENT_BYTES
from mace_core.provider.weights import SharedArray, WeightFiles, shared, shared_form, using_weight_files
from mace_core.tensor.files import open_bytes


def numbers(seed: int, count: int = 20_000) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


@given(
    content=st.binary(min_size=1, max_size=300), start=st.integers(0, 70), is_mine=st.booleans(), step=st.integers(1, 3)
)
def test_equal_content_is_one_array_wherever_it_lies(content: bytes, start: int, is_mine: bool, step: int) -> None:
    memory = np.zeros(start + step * len(content), np.uint8)
    memory[start::step] = np.frombuffer(content, np.uint8)
    found = shared(memory[start::step], is_mine=is_mine)
    assert found.data.tobytes() == content
    assert found.address % ALIGNMENT_BYTES == 0
    assert not found.data.flags.writeable
    assert shared(np.frombuffer(content, np.uint8)) is found


def test_what_is_changed_afterwards_does_not_change_what_is_shared() -> None:
    array = numbers(1)
    found = shared(array)
    array *= 2
    other = shared(array)
    np.testing.assert_array_equal(2 * found.data.view(np.float32), other.data.view(np.float32))


def test_a_form_of_memory_that_may_change_is_made_of_what_is_there_now() -> None:
    weights = numbers(2)
    for view in (weights, weights[5:], weights[::2]):
        for scale in (1.0, 2.0, 3.0):
            view *= np.float32(scale)
            found = shared_form(view, ("doubled",), lambda view=view: 2 * view)  # type: ignore[misc]
            np.testing.assert_array_equal(found.data.view(np.float32), 2 * view)


@pytest.mark.parametrize("mmap", [True, False])
def test_a_form_of_a_file_is_made_once_and_not_taken_for_one_of_another_file(tmp_path: Path, mmap: bool) -> None:
    made: list[int] = []

    def form(path: Path, scale: float) -> SharedArray:
        source = open_bytes(path, mmap=mmap).data.view(np.float32)[16:]

        def make() -> np.ndarray[Any, np.dtype[np.float32]]:
            made.append(1)
            return source * np.float32(scale)

        found = shared_form(source, ("scaled", scale), make)
        assert shared_form(source, ("scaled", scale), make) is found
        np.testing.assert_array_equal(found.data.view(np.float32), source * np.float32(scale))
        return found

    for seed in range(6):  # what was mapped before is gone, and its address is used again
        path = tmp_path / "weights"
        numbers(seed).tofile(path)
        kept = [form(path, scale) for scale in (2.0, 3.0)]
        assert len(made) == 2 * (seed + 1)
        assert len(kept) == 2
        path.unlink()


def test_the_last_user_frees() -> None:
    content = numbers(3)
    first, second = shared(content), shared(content.copy())
    address = first.address
    del first
    gc.collect()
    assert shared(content).address == address
    data = second.data
    reference = second.digest
    del second
    gc.collect()
    from mace_core.provider import weights

    assert reference not in weights._arrays
    np.testing.assert_array_equal(data.view(np.float32), content)  # who holds the memory itself keeps it


def test_threads_that_share_at_one_moment_get_one_array() -> None:
    content = numbers(4, 200_000)
    found: list[SharedArray] = []
    barrier = threading.Barrier(6)

    def work() -> None:
        barrier.wait()
        found.append(shared(content))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(array) for array in found}) == 1


@pytest.fixture
def files(tmp_path: Path) -> WeightFiles:
    return opened(tmp_path)


def opened(folder: Path, mmap: bool = True) -> WeightFiles:
    packs, index = MappedCache("blobs", "1", folder), CheckedCache("weights", "1", folder)
    return WeightFiles(packs, index, lambda: "model", mmap=mmap)


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "blobs").glob("*.entry"))


@pytest.mark.parametrize("mmap", [True, False])
def test_only_what_is_missing_is_written(tmp_path: Path, mmap: bool) -> None:
    contents = [numbers(seed) for seed in (10, 11, 12)]
    first = [shared(content) for content in contents[:2]]
    assert opened(tmp_path).keep(first) is not None
    size = stored_bytes(tmp_path)
    assert opened(tmp_path).keep(first[::-1]) is not None
    assert stored_bytes(tmp_path) == size
    both = [*first, shared(contents[2])]
    places = opened(tmp_path).keep(both)
    assert places is not None
    assert size < stored_bytes(tmp_path) <= 1.6 * size
    del first, both
    gc.collect()
    restored = opened(tmp_path, mmap).restore(places)
    for array, content in zip(restored, contents, strict=True):
        np.testing.assert_array_equal(array.data.view(np.float32), content)
        assert shared(content) is array
        assert array.address % ALIGNMENT_BYTES == 0


def test_a_content_that_is_stored_is_used_where_it_lies(tmp_path: Path) -> None:
    content = numbers(20)
    assert opened(tmp_path).keep([shared(content)]) is not None
    gc.collect()
    with using_weight_files(opened(tmp_path)):
        found = shared(content)
    maps = Path("/proc/self/maps")
    if maps.exists():
        lines = [line for line in maps.read_text().splitlines() if str(tmp_path) in line]
        spans = [[int(part, 16) for part in line.split()[0].split("-")] for line in lines]
        assert any(low <= found.address < high for low, high in spans)
    np.testing.assert_array_equal(found.data.view(np.float32), content)


def test_weights_that_are_gone_are_told_and_stored_again(files: WeightFiles, tmp_path: Path) -> None:
    content = numbers(30)
    array = shared(content)
    places = files.keep([array])
    assert places is not None
    (pack,) = (tmp_path / "blobs").glob("*.entry")
    pack.unlink()
    assert files.keep([array]) == places
    assert pack.exists()
    pack.unlink()
    del array
    gc.collect()
    with pytest.raises(UnsupportedError, match="not in the cache any more"):
        opened(tmp_path).restore(places)


def test_a_damaged_index_is_an_empty_one(tmp_path: Path) -> None:
    array = shared(numbers(40))
    CheckedCache("weights", "1", tmp_path).put("model", b'{"not": "places"}')
    places = opened(tmp_path).keep([array])
    assert places is not None
    assert opened(tmp_path).restore(places) == [array]
