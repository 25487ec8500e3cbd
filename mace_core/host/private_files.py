"""Files that nobody but their user can have written.

What the caches hold is run as machine code, so whoever can write there can run code as the user.  The rules are those
of OpenSSH's ``StrictModes`` (sshd_config(5)): a folder and every folder above it must belong to the user or to the
system, and nobody else may be able to write to them.  Folders above may be writable by all if they have the sticky bit
(as /tmp), because then nobody can rename or remove what is another's.  Access lists of POSIX show in the mode of the
group; other kinds of access lists are not looked at.  Where files have no owner in this sense (Windows) only their kind
is looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

_HAS_OWNERS = hasattr(os, "geteuid")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40
_FIRST_ANDROID_APP = 10_000
"""On Android the folders above an app's own belong to the system's users, whose numbers are below this."""

# a link is not followed, a pipe without a writer does not block, a terminal does not become ours
_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)


class NotPrivateError(Exception):
    """A file or folder that somebody else may have written; the message says why, as part of a sentence."""


def check_private_folder(folder: Path) -> None:
    """Check that nobody else can put a file into ``folder``, or another folder in its place.

    Every link on the way is followed, and the folders it lies in are looked at too.  A folder that does not exist yet
    is as good as what there is of its path.

    Args:
        folder: an absolute path.

    Raises:
        NotPrivateError: if somebody else can, or if it is not a folder; the message says which part of the path, and
            what to do.
        OSError: if it cannot be looked at.
    """
    if not _HAS_OWNERS:
        return
    try:
        for place, status in _passed(str(folder)):
            _check_above(place, status)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        raise NotPrivateError(f"'{place}' is not a folder")
    check_private_status(place, status)


def check_private_status(path: str | os.PathLike[str], status: os.stat_result) -> None:
    """Check that a file or folder belongs to the user, or to root, and that nobody else may write to it.

    Raises:
        NotPrivateError: otherwise.
    """
    if not _HAS_OWNERS:
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise NotPrivateError(f"'{os.fspath(path)}' belongs to another user ({_name_of(status.st_uid)})")
    if status.st_mode & _OTHERS_WRITE:
        raise NotPrivateError(_writable_text(os.fspath(path), status))


def open_private(path: Path) -> tuple[int, int]:
    """Open a file for reading: never through a link, never a pipe, a device or a folder, never another user's.

    Returns:
        A descriptor, which is to be closed, and the size of the file in bytes.

    Raises:
        NotPrivateError: if the file is none to be read.
        OSError: if it is not there or cannot be opened.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # EMLINK: what FreeBSD says
            raise NotPrivateError("it is a link") from error
        if error.errno in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):  # a socket
            raise NotPrivateError("it is not a regular file") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotPrivateError("it is not a regular file")
        check_private_status(path, status)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for the user alone.

    Raises:
        OSError: if that is not possible.
    """
    for missing in reversed([folder, *folder.parents]):
        with contextlib.suppress(FileExistsError):
            if not missing.exists():
                missing.mkdir(mode=stat.S_IRWXU)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def _passed(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every folder and link that is passed on the way to ``path``, and last what it stands for."""
    here = "/"
    ahead = path.split("/")[::-1]
    links = 0
    yield here, os.lstat(here)
    while ahead:
        name = ahead.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120
            yield here, os.lstat(here)
            continue
        place = f"{here.rstrip('/')}/{name}"
        status = os.lstat(place)
        yield place, status
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(place)  # noqa: PTH115
            if target.startswith("/"):
                here = "/"
            ahead += target.split("/")[::-1]
            yield here, os.lstat(here)
        else:
            here = place


def _check_above(place: str, status: os.stat_result) -> None:
    """One folder or link above the folder in question."""
    if not _is_trusted(status.st_uid):
        raise NotPrivateError(f"'{place}' belongs to another user ({_name_of(status.st_uid)})")
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return
    open_to = status.st_mode & _OTHERS_WRITE
    if open_to == stat.S_IWGRP and _is_android() and status.st_gid < _FIRST_ANDROID_APP:
        return
    if open_to:
        raise NotPrivateError(_writable_text(place, status))


def _writable_text(path: str, status: os.stat_result) -> str:
    import shlex  # only where something is wrong

    mode = stat.S_IMODE(status.st_mode)
    return f"other users can write to '{path}' (mode {mode:04o}; to fix that: chmod go-w {shlex.quote(path)})"


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid()) or (_is_android() and uid < _FIRST_ANDROID_APP)


def _is_android() -> bool:
    return hasattr(sys, "getandroidapilevel")


def _name_of(uid: int) -> str:
    import pwd  # only where somebody is named; not on Windows

    try:
        return f"{pwd.getpwuid(uid).pw_name}, uid {uid}"
    except KeyError:
        return f"uid {uid}"
