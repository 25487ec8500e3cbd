"""Files that commands write: looked at before the work is done, and whole or not there after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mace_core.errors import MaceError, UsageError


def check_target(option: str, path: Path | None, suffixes: Sequence[str] = ()) -> None:
    """Refuse a file that cannot be written before its content has cost anything.

    Args:
        suffixes: what its name may end in; anything where empty.

    Raises:
        UsageError: saying why.
    """
    if path is None:
        return
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} {path}: its name must end in {' or '.join(suffixes)}, which says what is written")
    if path.is_dir():
        raise UsageError(f"{option} {path}: it cannot be written, it is a folder")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: it cannot be written, there is no folder '{path.parent}'")


def write_whole(path: Path, content: bytes, option: str) -> None:
    """Write a file in one step: what was there before stays until the new one is whole.

    Raises:
        MaceError: if that cannot be.
    """
    from mace_core.host.files import replacing

    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a named pipe: nothing to replace
            with path.open("wb") as device:
                device.write(content)
            return
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise MaceError(f"{option} {path}: it cannot be written: {error.strerror or error}") from None
