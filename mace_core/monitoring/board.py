"""The files in which processes show what their sessions do: one for each, below the folder for caches.

A file is its user's alone (mode 0600), is replaced as a whole, and is removed when its process ends.  Those of
processes that ended otherwise are told by number and start time of the process, left out, and removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_core.caching.cache import cache_dir
from mace_core.host.private_files import NotPrivateError, check_private_folder, make_private_folder, open_private

FORMAT = 1
_FACTS = ("sessions", "queues", "governor")
_MOST_BYTES = 1 << 20
_CLOCK_SLACK_SECONDS = 1.0
"""Start times follow from ticks and the time of booting, which clocks that are set move."""


@dataclass(frozen=True, slots=True)
class Published:
    """What one process showed last.

    Attributes:
        pid: its number.
        started: when it began, seconds since the epoch.
        time: when it wrote this.
        program: its command line, shortened.
        content: sessions, queues, governor.
    """

    pid: int
    started: float
    time: float
    program: str
    content: Mapping[str, Any]

    def as_data(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pid": self.pid,
            "started": self.started,
            "time": self.time,
            "program": self.program,
            **{key: self.content[key] for key in _FACTS},
        }


def board_folder() -> Path:
    """Where the files are."""
    return cache_dir() / "monitor"


def prepare_folder(folder: Path) -> None:
    """Make the folder, and see that nobody else can write to it.

    Raises:
        NotPrivateError, OSError: if that is not so.
    """
    check_private_folder(folder)
    make_private_folder(folder)


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Replace this process's file.

    Raises:
        OSError: if that is not possible.
    """
    path = folder / f"{os.getpid()}.json"
    temporary = folder / f".{os.getpid()}.part"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **content}, file)
    temporary.replace(path)


def withdraw(folder: Path | None = None, pid: int | None = None) -> None:
    """Remove a process's file, this one's by default."""
    folder, pid = folder or board_folder(), pid or os.getpid()
    for name in (f"{pid}.json", f".{pid}.part"):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def published(folder: Path | None = None) -> list[Published]:
    """What the living processes of this user show, by process number; files of dead ones are removed.

    Raises:
        NotPrivateError: if others may write to the folder.
    """
    folder = folder or board_folder()
    if not folder.is_dir():
        return []
    check_private_folder(folder)
    found = []
    for path in sorted(folder.glob("*.json")):
        shown = _read(path)
        if shown is None:
            continue
        if path.stem == str(shown.pid) and _is_alive(shown):
            found.append(shown)
        elif path.stem.isdigit():
            withdraw(folder, int(path.stem))
    return sorted(found, key=lambda each: each.pid)


def _read(path: Path) -> Published | None:
    """What a file says; None where it is gone, another version's or no such file."""
    try:
        descriptor, size = open_private(path)
        with os.fdopen(descriptor, "rb") as file:
            data = json.loads(file.read(_MOST_BYTES)) if size <= _MOST_BYTES else None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            return None
        facts = {key: data[key] for key in _FACTS}
        if not all(isinstance(each, dict) for each in [*facts["sessions"], *facts["queues"], facts["governor"]]):
            return None
        return Published(int(data["pid"]), float(data["started"]), float(data["time"]), str(data["program"]), facts)
    except (NotPrivateError, OSError, ValueError, KeyError, TypeError):
        return None


def _is_alive(shown: Published) -> bool:
    import psutil

    try:
        return bool(abs(psutil.Process(shown.pid).create_time() - shown.started) <= _CLOCK_SLACK_SECONDS)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
