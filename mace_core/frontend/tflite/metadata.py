"""What a .tflite file says about itself, as the text entries that a graph's metadata has.

Google's metadata for models (github.com/google-ai-edge/mediapipe, mediapipe/tasks/metadata/metadata_schema.fbs) are a
flatbuffer inside the model: names, authors, how inputs are normalized.  Files that belong to the model (labels, above
all) are a zip archive behind it.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
import zlib
from typing import Any

from mace_core.frontend.tflite.buffers import Constants
from mace_core.frontend.tflite.description import FileModel
from mace_core.frontend.tflite.flat_tables import FlatTable
from mace_core.tensor.files import FileBytes

_log = logging.getLogger("mace.frontend")

METADATA = "TFLITE_METADATA"
"""The file's entry with that flatbuffer."""

MAX_FILE = 1 << 20
MAX_FILES = 100
"""Texts that are kept, of entries and of files behind the model: the longest, in bytes, and how many of each."""

MAX_TEXT = 16 << 20
"""Bytes of all of them: many entries may name one buffer."""

_TEXTS = {"name": 0, "description": 1, "version": 2, "author": 4, "license": 5}
"""Fields of ModelMetadata."""

_NORMALIZATION = 1
"""The kind of process unit that tells mean and deviation."""


def metadata_of(model: FileModel, constants: Constants, content: FileBytes) -> dict[str, str]:
    """Entries by name, all of them beginning with ``tflite.`` but for the files behind the model, under their names."""
    found: dict[str, str] = {}
    left = MAX_TEXT
    if model.description:
        found["tflite.description"] = model.description
    for name, buffer in list(model.metadata.items())[:MAX_FILES]:
        size = model.buffers[buffer].size
        if size > min(left, MAX_FILE):
            continue
        if name == METADATA:
            found |= _described(constants.bytes_of(buffer))
        elif (text := _plain_text(constants.bytes_of(buffer))) is not None:
            found[f"tflite.{name}"] = text
            left -= size
    if model.signatures:
        found["tflite.signatures"] = json.dumps(
            {
                signature.key: {
                    "inputs": [name for name, _ in signature.inputs],
                    "outputs": [name for name, _ in signature.outputs],
                }
                for signature in model.signatures
            }
        )
    found |= _files_behind(content, left)
    return found


def _described(content: bytes) -> dict[str, str]:
    root = FlatTable.root(content)
    if root is None:
        return {}
    found = {f"tflite.{name}": root.text(field) for name, field in _TEXTS.items() if root.text(field)}
    graphs = root.tables(3)
    if graphs:
        for side, field in (("inputs", 2), ("outputs", 3)):
            tensors = [_tensor(table) for table in graphs[0].tables(field)]
            if any(tensors):
                found[f"tflite.{side}"] = json.dumps(tensors)
    return found


def _tensor(table: FlatTable) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in (("name", 0), ("description", 1)):
        if text := table.text(field):
            found[name] = text
    for unit in table.tables(4):
        options = unit.table(1) if unit.kind(0) == _NORMALIZATION else None
        if options is not None:
            found |= {"mean": options.floats(0), "std": options.floats(1)}
    stats = table.table(5)
    if stats is not None:
        found |= {name: numbers for name, field in (("max", 0), ("min", 1)) if (numbers := stats.floats(field))}
    files = [entry.text(0) for entry in table.tables(6)]
    if files:
        found["files"] = files
    return found


def _plain_text(content: bytes) -> str | None:
    """Text with zeros behind it; None for anything else."""
    try:
        text = content.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return None
    return text if text and len(text) <= MAX_FILE and all(c.isprintable() or c in "\r\n\t" for c in text) else None


def _files_behind(content: FileBytes, left: int) -> dict[str, str]:
    """Texts of the archive behind the model, by the names of the files, ``left`` bytes of them at most; of others, how
    long they are."""
    tail = content.data[-(1 << 16) - 22 :].tobytes()
    if b"PK\x05\x06" not in tail:
        return {}
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(content.path if content.path.name else io.BytesIO(content.data.tobytes())) as archive:
            for entry in archive.infolist()[:MAX_FILES]:
                if entry.is_dir():
                    continue
                text = None
                if entry.file_size <= min(left, MAX_FILE):
                    with archive.open(entry) as file:
                        text = _plain_text(file.read(MAX_FILE))
                    left -= entry.file_size
                found[entry.filename] = text if text is not None else f"({entry.file_size:,} bytes)"
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        _log.warning("the archive behind the model '%s' cannot be read: %s", content.path, error)
    return found
