"""Where a conversion puts what it makes, and how it gets there all at once.

    build/LIBRARY/
      model/MODEL.mace          graph, weights and what devices compiled
      model/ABI/…               libraries and objects of each ABI
      include/…                 headers
      conversion.json           what was done

Everything is made in a folder beside it, which takes its place when it is complete.  What was there before goes only
then, and only if a conversion made it.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from mace_core.deployment.yaml_tree import ConfigError
from mace_core.errors import MaceError
from mace_core.host.staging import staging_folder

REPORT = "conversion.json"
"""What tells a folder that a conversion made."""


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``folder`` when the body ends well, and vanishes where it does not.

    Raises:
        ConfigError: if there is something that no conversion made.
        MaceError: if it cannot be written.
    """
    _check(folder)
    above = [parent for parent in folder.parents if not parent.exists()]
    try:
        with contextlib.ExitStack() as stack:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                staging = stack.enter_context(staging_folder(folder))
            except OSError as error:
                raise MaceError(f"'{folder}' cannot be made: {error.strerror or error}") from None
            try:
                yield staging
            except MaceError as error:
                name_place(error, staging, folder)
                raise
            _check(folder)
            _replace(folder, staging)
    finally:
        for parent in above:
            with contextlib.suppress(OSError):  # something is in it now: it stays
                parent.rmdir()


def name_place(error: MaceError, staging: Path, place: Path) -> None:
    """Let an error name what is asked for, and not where it is made."""
    error.args = tuple(part.replace(str(staging), str(place)) if isinstance(part, str) else part for part in error.args)


def _check(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a link" if folder.is_symlink() else "no folder"
        raise ConfigError(f"'{folder}' is {what}: remove it, or write somewhere else (--output)")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / REPORT).is_file():
        raise ConfigError(
            f"'{folder}' has files that no conversion made (there is no {REPORT}): remove it, or write somewhere else "
            "(--output)"
        )


def _replace(folder: Path, staging: Path) -> None:
    """Put ``staging`` in the place of ``folder``; the old one is there until the new one is."""
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
    try:
        moved = folder.exists()
        if moved:
            folder.rename(old)
        try:
            staging.rename(folder)
        except BaseException:
            if moved and not folder.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise MaceError(f"'{folder}' cannot be replaced: {error.strerror or error}") from None
    shutil.rmtree(old, ignore_errors=True)
