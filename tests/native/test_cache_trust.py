"""A cache is only used where nobody else can have written to it: what it holds is run as code."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mace_core.caching import cache as cache_module
from mace_core.caching import mapped as mapped_cache
from mace_core.caching.cache import CheckedCache, cache_dir
from mace_core.caching.mapped import MappedCache
from mace_core.errors import UsageError

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner in this sense here")

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to another user"
)

OTHER_USER = 54321

Make = Callable[[Path], CheckedCache]


@pytest.fixture(autouse=True)
def nothing_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_REPORTED", set())
    monkeypatch.setattr(cache_module, "_ABOVE_IS_PRIVATE", {})


@pytest.fixture(params=[CheckedCache, MappedCache])
def make(request: pytest.FixtureRequest) -> Make:
    kind: type[CheckedCache] = request.param
    return lambda folder: kind("things", "1", folder)


@contextlib.contextmanager
def other_effective_user(uid: int) -> Iterator[None]:
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def only_file(cache: CheckedCache) -> Path:
    (path,) = cache.directory.glob("*.entry")
    return path


def test_folders_are_made_for_the_user_alone(make: Make, tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        make(tmp_path / "above" / "cache").put("key", b"payload")
    finally:
        os.umask(before)
    for folder in ("above", "above/cache", "above/cache/things"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(make(tmp_path / "above" / "cache")).stat().st_mode) == 0o600


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["above/cache/things", "above/cache", "above"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
def test_a_folder_that_others_can_write_to_is_not_used(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, which: str, mode: int
) -> None:
    folder = tmp_path / "above" / "cache"
    make(folder).put("key", b"payload")
    entry = only_file(make(folder))
    (tmp_path / which).chmod(mode)
    cache_module._ABOVE_IS_PRIVATE.clear()  # as in another process
    cache = make(folder)
    for _ in range(3):
        assert cache.get("key") is None
    cache.put("another", b"payload")
    cache.remove("key")
    cache.clear()
    assert cache.entries() == []
    assert list(cache.directory.iterdir()) == [entry], "nothing is read there, nothing written and nothing removed"
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "chmod go-w" in told.getMessage()
    assert "MACE_CACHE_DIR" in told.getMessage()
    assert str(tmp_path / which) in told.getMessage()
    (tmp_path / which).chmod(0o700)
    assert make(folder).get("key") == b"payload", "the advice helps"


def test_a_folder_that_is_opened_to_others_meanwhile_is_not_used_any_more(make: Make, tmp_path: Path) -> None:
    cache = make(tmp_path)
    cache.put("key", b"payload")
    cache.directory.chmod(0o777)
    assert cache.get("key") is None


def test_nothing_is_made_in_a_folder_that_others_can_write_to(make: Make, tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    make(tmp_path / "cache").put("key", b"payload")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_one_that_is_sticky_is_used(make: Make, tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    make(shared / "cache").put("key", b"payload")
    assert make(shared / "cache").get("key") == b"payload"


@as_root
@pytest.mark.parametrize("which", ["above/cache/things", "above/cache", "above"])
def test_a_folder_of_another_user_is_not_used(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    folder = tmp_path / "above" / "cache"
    make(folder).put("key", b"payload")
    os.chown(tmp_path / which, OTHER_USER, -1)
    cache_module._ABOVE_IS_PRIVATE.clear()
    assert make(folder).get("key") is None
    assert f"uid {OTHER_USER}" in caplog.text


@as_root
@pytest.mark.parametrize("owner", [OTHER_USER, 0])
def test_a_link_to_the_folder_counts_as_much_as_who_made_it(make: Make, tmp_path: Path, owner: int) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    make(tmp_path / "real").put("key", b"payload")
    (shared / "cache").symlink_to(tmp_path / "real")
    os.chown(shared / "cache", owner, -1, follow_symlinks=False)
    assert make(shared / "cache").get("key") == (b"payload" if owner == 0 else None)


def test_where_a_link_leads_is_looked_at_too(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "open" / "real").put("key", b"payload")
    (tmp_path / "cache").symlink_to("open/../open/real")
    assert make(tmp_path / "cache").get("key") == b"payload"
    (tmp_path / "open").chmod(0o777)
    cache_module._ABOVE_IS_PRIVATE.clear()
    assert make(tmp_path / "cache").get("key") is None


def test_links_in_a_circle_only_cost_the_cache(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    cache = make(tmp_path / "a")
    cache.put("key", b"payload")
    assert cache.get("key") is None
    assert "MACE_CACHE_DIR" in caplog.text


@as_root
def test_what_the_system_made_serves_a_user_and_not_the_other_way_round(make: Make, tmp_path: Path) -> None:
    """A container's image may bring a cache; a program run by root does not run what a user has stored."""
    folder = Path("/tmp") / f"mace-test-{os.getpid()}-{make(tmp_path).__class__.__name__}"
    try:
        make(folder).put("key", b"payload")
        for path in (folder, folder / "things"):
            path.chmod(0o755)
        only_file(make(folder)).chmod(0o644)
        with other_effective_user(OTHER_USER):
            assert make(folder).get("key") == b"payload"
        os.chown(only_file(make(folder)), OTHER_USER, -1)
        assert make(folder).get("key") is None
    finally:
        import shutil

        shutil.rmtree(folder)


# --- entries ----------------------------------------------------------------------------------------------------------


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link_to_the_entry(path: Path) -> None:
    moved = path.with_name("moved")
    path.rename(moved)
    path.symlink_to(moved)


def a_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    before = Path.cwd()
    os.fchdir(here)  # the whole path may be longer than an address can be
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)
        os.close(here)


def a_file_without_end(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)


def writable_by_all(path: Path) -> None:
    path.chmod(0o666)


def writable_by_the_group(path: Path) -> None:
    path.chmod(0o660)


def of_another_user(path: Path) -> None:
    os.chown(path, OTHER_USER, -1)


SPOILERS = [
    a_pipe,
    a_link_to_zeros,
    a_link_to_the_entry,
    a_socket,
    a_file_without_end,
    writable_by_all,
    writable_by_the_group,
    pytest.param(of_another_user, marks=as_root),
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_an_entry_that_is_no_file_of_the_users_own_is_replaced(
    make: Make, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    cache = make(tmp_path)
    cache.put("key", b"payload")
    path = only_file(cache)
    if spoil in (a_pipe, a_link_to_zeros, a_socket, a_file_without_end):
        path.unlink()
    spoil(path)
    assert cache.entries() == []
    assert cache.get("key") is None
    cache.put("key", b"new")
    assert cache.get("key") == b"new"
    assert stat.S_ISREG(path.lstat().st_mode)


def test_a_folder_in_the_place_of_an_entry_only_costs_that_entry(make: Make, tmp_path: Path) -> None:
    cache = make(tmp_path)
    cache.put("key", b"payload")
    path = only_file(cache)
    path.unlink()
    path.mkdir()
    cache.put("other", b"payload")
    assert cache.get("key") is None
    assert cache.get("other") == b"payload"
    cache.put("key", b"new")
    assert cache.get("key") is None


@pytest.mark.parametrize("stated", [1 << 40, (1 << 64) - 1, (1 << 63) - 1])
def test_the_length_that_an_entry_states_is_bounded_before_anything_is_read(
    make: Make, tmp_path: Path, stated: int
) -> None:
    """A file as long as its head says, and longer than any entry: nothing of it is read or mapped."""
    cache = make(tmp_path)
    cache.put("key", b"payload")
    path = only_file(cache)
    head = bytearray(path.read_bytes()[: cache._head_bytes])
    at = len(cache_module._MAGIC) + 8 if type(cache) is CheckedCache else mapped_cache._HEAD.size - 8
    struct.pack_into("<Q", head, at, stated)
    path.write_bytes(bytes(head))
    with contextlib.suppress(OSError, OverflowError):  # no file system holds the longest
        os.truncate(path, cache._stated_bytes(bytes(head)) or 0)
    assert cache.get("key") is None
    assert not path.exists()


# --- the name of the folder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [("~no-such-user/x", "home folder"), ("cache", "relative"), (".", "relative"), ("../cache", "relative")],
)
def test_a_name_that_is_no_folder_is_told_once_and_nothing_is_cached(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    """A relative name would be a folder of wherever the program is started: beside a model from the net, say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CACHE_DIR", name)
    with pytest.raises(UsageError, match=words):
        cache_dir()
    for kind in (CheckedCache, MappedCache):
        cache = kind("things", "1")
        cache.put("key", b"payload")
        assert cache.get("key") is None
        cache.clear()
        assert cache.entries() == []
    assert list(tmp_path.iterdir()) == []
    (told,) = caplog.records
    assert words in told.getMessage()
