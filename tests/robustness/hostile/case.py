"""One hostile file and how it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx


@dataclass(frozen=True, slots=True)
class Case:
    """A file that is not what it seems.

    Attributes:
        family: what is wrong with it, in a word or two.
        name: unique; the same seed gives the same file.
        write: puts it, and what belongs to it, into an empty folder, and returns its path.
    """

    family: str
    name: str
    write: Callable[[Path], Path]


def of_bytes(family: str, name: str, make: Callable[[], bytes]) -> Case:
    """A case that is one file of bytes, made when it is needed."""

    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(make())
        return path

    return Case(family, name, write)


def of_model(family: str, name: str, model: onnx.ModelProto | bytes) -> Case:
    """A case that is one model without other files."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return of_bytes(family, name, lambda: content)
