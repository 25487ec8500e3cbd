"""What a TensorFlow Lite file says in its own words: the graph that is shown beside it is what it is imported as."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

from mace_core.errors import ModelError
from mace_core.frontend.tflite.description import FileSignature
from mace_core.inspection.facts import Inspection
from mace_core.tensor.files import open_bytes

_LARGEST_FILE = 1 << 20
"""Bytes of an associated file whose lines are counted."""


def add_tflite_facts(found: Inspection, path: Path) -> None:
    """Operators as the file calls them, signatures, the files packed into it.

    A file that cannot be read has no facts: loading it tells why.
    """
    from mace_core.frontend.tflite.reader import is_tflite, read_model

    content = open_bytes(path, mmap=True)
    if not is_tflite(bytes(content.data[:8])):
        return
    try:
        model = read_model(content.data, f"model '{path}'")
    except ModelError:
        return
    counts = Counter(operator.label for graph in model.subgraphs for operator in graph.operators)
    found.file_operators = dict(counts.most_common())
    quantized = sum(tensor.quantization is not None for graph in model.subgraphs for tensor in graph.tensors)
    tensors = sum(len(graph.tensors) for graph in model.subgraphs)
    told = {
        "format": "TensorFlow Lite",
        "subgraphs": str(len(model.subgraphs)) if len(model.subgraphs) > 1 else "",
        "quantized tensors": f"{quantized} of {tensors}" if quantized else "",
        "signatures": "; ".join(_signature(each) for each in model.signatures),
        "packed files": ", ".join(_packed(path)),
    }
    found.properties |= {key: text for key, text in told.items() if text}


def _signature(signature: FileSignature) -> str:
    """``decode (tokens, state -> logits)``."""
    inputs, outputs = (", ".join(name for name, _ in side) for side in (signature.inputs, signature.outputs))
    return f"{signature.key} ({inputs} -> {outputs})"


def _packed(path: Path) -> list[str]:
    """Files in the archive that TensorFlow Lite's metadata appends to a model: labels, vocabularies."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [_described(archive, entry) for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return []


def _described(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    if entry.file_size > _LARGEST_FILE:
        return f"{entry.filename} ({entry.file_size} bytes)"
    with archive.open(entry) as file:
        lines = file.read(_LARGEST_FILE).count(b"\n")
    return f"{entry.filename} ({lines} lines)"
