"""Large entries: handed out where they lie, whole or not at all, and never more of them than the limit."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.caching.cache import CheckedCache
from mace_core.caching.mapped import DEFAULT_LIMIT_BYTES, MappedCache, cache_limit
from mace_core.errors import UsageError

_relaxed = settings(max_examples=60)


@pytest.fixture
def cache(tmp_path: Path) -> MappedCache:
    return MappedCache("things", "1.0", tmp_path)


def only_file(cache: CheckedCache) -> Path:
    (path,) = cache.directory.iterdir()
    return path


@_relaxed
@given(
    key=st.text(st.characters(exclude_categories=["Cs"])),
    parts=st.lists(st.binary(max_size=9000), max_size=4),
    mmap=st.booleans(),
)
def test_what_is_put_is_seen(cache: MappedCache, key: str, parts: list[bytes], mmap: bool) -> None:
    assert cache.put_parts(key, parts)
    seen = cache.view(key, mmap=mmap)
    assert seen is not None
    assert seen == b"".join(parts)
    assert seen.readonly
    if seen.nbytes:
        assert np.frombuffer(seen, np.uint8).ctypes.data % 64 == 0


def test_arrays_are_stored_without_being_copied_together(cache: MappedCache) -> None:
    arrays: list[np.ndarray] = [np.arange(1000, dtype=np.float32), np.ones((3, 5), np.int64)]
    cache.put_parts("k", [array.data for array in arrays])
    assert cache.get("k") == b"".join(array.tobytes() for array in arrays)


def test_no_byte_of_an_entry_can_change_unnoticed(cache: MappedCache) -> None:
    cache.put_parts("key", [b"payload" * 9])
    path = only_file(cache)
    whole = path.read_bytes()
    for at in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << at % 8
        path.write_bytes(spoilt)
        assert cache.view("key") is None, f"byte {at}"
        assert not path.exists()


@_relaxed
@given(length=st.integers(0, 4096 + 62))
def test_a_truncated_entry_is_removed_and_not_returned(cache: MappedCache, length: int) -> None:
    cache.put_parts("key", [b"payload" * 9])
    path = only_file(cache)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.view("key") is None
    assert not path.exists()


def test_entries_of_another_version_or_key_are_not_returned(cache: MappedCache, tmp_path: Path) -> None:
    cache.put_parts("key", [b"payload"])
    path = only_file(cache)
    path.rename(cache._path("other"))
    assert cache.view("other") is None
    cache.put_parts("key", [b"payload"])
    assert MappedCache("things", "1.1", tmp_path).view("key") is None
    assert cache.view("key") is None, "entries of another version are removed when met"


def test_an_entry_of_the_plain_cache_is_none_of_this_one(cache: MappedCache, tmp_path: Path) -> None:
    CheckedCache("things", "1.0", tmp_path).put("key", b"x" * 5000)
    assert cache.view("key") is None


def test_what_was_not_used_for_longest_is_dropped(tmp_path: Path) -> None:
    cache = MappedCache("things", "1", tmp_path, limit_bytes=3 * (4096 + 10_000))
    for age, key in ((30, "a"), (20, "b"), (10, "c")):
        cache.put_parts(key, [bytes(10_000)])
        os.utime(cache._path(key), (time.time() - age, time.time() - age))
    assert cache.view("a") is not None  # which makes it the one used last
    assert cache.put_parts("d", [bytes(10_000)])
    assert cache.entries() == ["a", "c", "d"]


def test_a_view_outlives_its_entry(tmp_path: Path) -> None:
    cache = MappedCache("things", "1", tmp_path, limit_bytes=20_000)
    cache.put_parts("a", [b"a" * 10_000])
    seen = cache.view("a")
    cache.put_parts("b", [b"b" * 10_000])
    assert cache.entries() == ["b"]
    assert seen is not None
    assert bytes(seen) == b"a" * 10_000


def test_what_alone_is_over_the_limit_is_not_stored_and_displaces_nothing(tmp_path: Path) -> None:
    cache = MappedCache("things", "1", tmp_path, limit_bytes=20_000)
    cache.put_parts("a", [bytes(10_000)])
    assert not cache.put_parts("b", [bytes(30_000)])
    assert cache.entries() == ["a"]


def test_nothing_is_stored_where_the_disk_is_nearly_full(cache: MappedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(cache.directory.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=15_000))
    assert not cache.put_parts("key", [bytes(10_000)])
    assert cache.put_parts("key", [bytes(5_000)])


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from mace_core.caching.mapped import MappedCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
cache = MappedCache("things", "1", Path({str(tmp_path)!r}))
assert not cache.put_parts("key", [bytes(100_000)])
assert cache.view("key") is None
assert cache.put_parts("small", [b"fits"])
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert MappedCache("things", "1", tmp_path).entries() == ["small"]
    assert len(list((tmp_path / "things").iterdir())) == 1


def test_what_interrupted_writers_left_is_removed_after_a_while(cache: MappedCache) -> None:
    cache.put_parts("a", [b"x"])
    old, new = cache.directory / ".new-old", cache.directory / ".new-new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    cache.put_parts("b", [b"y"])
    assert not old.exists()
    assert new.exists(), "its writer may be at work"
    cache.clear()
    assert not list(cache.directory.iterdir())


def test_a_folder_that_can_not_be_written_to_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = MappedCache("things", "1", tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        assert not cache.put_parts("a", [b"x"])
        assert not cache.put_parts("b", [b"y"])
    assert cache.view("a") is None
    assert [r for r in caplog.records if "MACE_CACHE_DIR" in r.getMessage()] == caplog.records
    assert len(caplog.records) == 1


def _write_and_read(folder: str, number: int) -> int:
    cache = MappedCache("things", "1", Path(folder), limit_bytes=400_000)
    good = 0
    for turn in range(40):
        cache.put_parts(f"k{turn % 7}", [bytes([turn % 7]) * 50_000, bytes([turn % 7]) * number])
        seen = cache.view(f"k{(turn + number) % 7}")
        if seen is not None:
            assert set(seen) == {(turn + number) % 7}
            good += 1
    return good


def test_processes_may_write_read_and_drop_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert sum(pool.starmap(_write_and_read, [(str(tmp_path), number) for number in range(3)])) > 0


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", DEFAULT_LIMIT_BYTES),
        ("0", 0),
        ("1000", 1000),
        ("2k", 2048),
        ("1.5M", 3 << 19),
        ("2G", 2 << 30),
        ("1 GiB", 1 << 30),
    ],
)
def test_the_limit_is_read_from_the_environment(text: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_LIMIT", text)
    assert cache_limit() == limit


@pytest.mark.parametrize("text", ["much", "-1", "5X", "1e999", "nan"])
def test_a_limit_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match="MACE_CACHE_LIMIT"):
        cache_limit()


def test_no_limit_of_this_process_is_left_changed() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
