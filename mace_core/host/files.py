"""Writing files that are either the old one or the whole new one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mace_core.host.staging import hold, staging_path, sweep


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends well (a mapped old one stays as it was)."""
    sweep(path)
    temporary = staging_path(path)
    try:
        with temporary.open("xb") as file:
            hold(file.fileno())
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_together(first: Path, second: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """As `replacing` for two files of which the second refers to the first: nothing is raised between the two."""
    sweep(first)
    sweep(second)
    temporaries = staging_path(first), staging_path(second)
    try:
        with temporaries[0].open("xb") as one, temporaries[1].open("xb") as other:
            hold(one.fileno())
            hold(other.fileno())
            yield one, other
        try:
            temporaries[0].replace(first)
        finally:  # whoever interrupts now shall find both
            if not temporaries[0].exists():
                temporaries[1].replace(second)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise
