"""Writing files that are either the old one or the whole new one."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends well (a mapped old one stays as it was)."""
    temporary = _beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_together(first: Path, second: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """As `replacing` for two files of which the second refers to the first: nothing is raised between the two."""
    temporaries = _beside(first), _beside(second)
    try:
        with temporaries[0].open("xb") as one, temporaries[1].open("xb") as other:
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


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
