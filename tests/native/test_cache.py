"""The checked cache: it gives back what was put, or nothing."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.caching.cache import CheckedCache, cache_dir

_relaxed = settings(max_examples=60)


@pytest.fixture
def cache(tmp_path: Path) -> CheckedCache:
    return CheckedCache("things", "1.0", tmp_path)


def only_file(cache: CheckedCache) -> Path:
    (path,) = cache.directory.iterdir()
    return path


@_relaxed
@given(key=st.text(st.characters(exclude_categories=["Cs"])), payload=st.binary(max_size=5000))
def test_what_is_put_is_got(cache: CheckedCache, key: str, payload: bytes) -> None:
    cache.put(key, payload)
    assert cache.get(key) == payload


@_relaxed
@given(payload=st.binary(max_size=200), data=st.data())
def test_a_truncated_entry_is_removed_and_not_returned(
    cache: CheckedCache, payload: bytes, data: st.DataObject
) -> None:
    cache.put("key", payload)
    path = only_file(cache)
    blob = path.read_bytes()
    path.write_bytes(blob[: data.draw(st.integers(0, len(blob) - 1))])
    assert cache.get("key") is None
    assert not path.exists()


@_relaxed
@given(payload=st.binary(max_size=200), data=st.data())
def test_an_entry_with_any_flipped_bit_is_removed_and_not_returned(
    cache: CheckedCache, payload: bytes, data: st.DataObject
) -> None:
    cache.put("key", payload)
    path = only_file(cache)
    blob = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[bit // 8] ^= 1 << bit % 8
    path.write_bytes(blob)
    assert cache.get("key") is None
    assert cache.entries() == []
    assert not path.exists()


def test_every_single_bit_of_a_small_entry_is_guarded(cache: CheckedCache) -> None:
    cache.put("k", b"ab")
    path = only_file(cache)
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        blob = bytearray(good)
        blob[bit // 8] ^= 1 << bit % 8
        path.write_bytes(blob)
        assert cache.get("k") is None, f"bit {bit}"


def test_bytes_added_at_the_end_spoil_an_entry(cache: CheckedCache) -> None:
    cache.put("key", b"payload")
    path = only_file(cache)
    path.write_bytes(path.read_bytes() + b"\0")
    assert cache.get("key") is None


def test_an_entry_of_another_version_is_removed(cache: CheckedCache, tmp_path: Path) -> None:
    CheckedCache("things", "0.9", tmp_path).put("key", b"old")
    assert cache.get("key") is None
    assert list(cache.directory.iterdir()) == []


def test_an_entry_copied_to_the_place_of_another_key_is_not_returned(cache: CheckedCache) -> None:
    cache.put("a", b"1")
    first = only_file(cache)
    cache.put("b", b"2")
    (second,) = (path for path in cache.directory.iterdir() if path != first)
    second.write_bytes(first.read_bytes())
    assert cache.get("b") is None
    assert cache.get("a") == b"1"


def test_entries_remove_and_clear(cache: CheckedCache) -> None:
    for key in ("b", "a", "c"):
        cache.put(key, key.encode())
    assert cache.entries() == ["a", "b", "c"]
    cache.remove("b")
    cache.remove("never there")
    assert cache.entries() == ["a", "c"]
    (cache.directory / ".new-left").write_bytes(b"by a killed process")
    cache.clear()
    assert cache.entries() == []
    assert cache.get("a") is None
    assert list(cache.directory.iterdir()) == []


def test_kinds_are_apart(tmp_path: Path) -> None:
    CheckedCache("one", "1", tmp_path).put("key", b"1")
    assert CheckedCache("two", "1", tmp_path).get("key") is None


def test_a_folder_that_cannot_be_written_is_logged_once_and_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "things").write_text("a file where the folder should be")
    cache = CheckedCache("things", "1", tmp_path)
    with caplog.at_level(logging.WARNING, "mace.cache"):
        cache.put("a", b"1")
        cache.put("b", b"2")
    assert cache.get("a") is None
    assert len(caplog.records) == 1
    assert "MACE_CACHE_DIR" in caplog.text


def test_a_failed_write_leaves_no_temporary_file(cache: CheckedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache.put("key", b"payload")
    assert list(cache.directory.iterdir()) == []


def test_concurrent_writers_leave_a_whole_entry(cache: CheckedCache) -> None:
    payloads = [bytes([i]) * 100_000 for i in range(4)]
    seen: list[bytes | None] = []

    def work(payload: bytes) -> None:
        for _ in range(20):
            cache.put("key", payload)
            seen.append(cache.get("key"))

    threads = [threading.Thread(target=work, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80
    assert set(seen) <= set(payloads)
    assert [path.suffix for path in cache.directory.iterdir()] == [".entry"]


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("MACE_CACHE_DIR")
    assert cache_dir().name == "mace"
