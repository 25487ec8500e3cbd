"""What lies in a zip archive, told from its directory alone."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from mace_core.frontend.base import ModelSource

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def zip_names(source: ModelSource) -> list[str]:
    """Names of the entries; none where it is no zip archive, or a damaged one."""
    try:
        if isinstance(source, Path):
            if not source.is_file():
                return []
            with source.open("rb") as file:
                if file.read(4) not in _MAGIC:
                    return []
        elif source[:4] not in _MAGIC:
            return []
        with zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source)) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return []
