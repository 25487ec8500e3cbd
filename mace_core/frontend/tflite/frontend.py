"""The TensorFlow Lite frontend: a file or bytes become a Graph."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mace_core.errors import ModelError, ModelFileError
from mace_core.frontend.base import Frontend, ModelSource
from mace_core.frontend.importing import ImportOptions
from mace_core.tensor.files import FileBytes, open_bytes

if TYPE_CHECKING:
    from mace_core.graph import Graph

_HEAD = 8


class TfliteFrontend(Frontend):
    """Reads models of TensorFlow Lite (LiteRT), of version 3 of its schema: all since 2017."""

    name: ClassVar[str] = "tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)

    def __init__(self, options: ImportOptions | None = None) -> None:
        """``options``: of what is read; without a signature the usual one, else the first subgraph."""
        self._options = options or ImportOptions()

    def choosing(self, signature: str) -> TfliteFrontend:
        """What reads the signature of this key; see :meth:`Frontend.choosing`."""
        return TfliteFrontend(replace(self._options, signature=signature))

    def importing(self, options: ImportOptions) -> TfliteFrontend:
        """See :meth:`Frontend.importing`."""
        return TfliteFrontend(options)

    def can_read(self, source: ModelSource) -> bool:
        """Whether the content says that it is a TensorFlow Lite model.

        Where the name does not say so too, the first offset has to lie inside: names in other files may read TFL3.
        """
        try:
            if isinstance(source, Path):
                with source.open("rb") as file:
                    head = file.read(_HEAD)
                    size = os.fstat(file.fileno()).st_size
            else:
                head, size = bytes(source[:_HEAD]), len(source)
        except OSError:
            return False
        is_named = isinstance(source, Path) and source.suffix.lower() in self.suffixes
        return head[4:8] == b"TFL3" and (is_named or 8 <= int.from_bytes(head[:4], "little") < size)

    def load(self, source: ModelSource, *, path: Path | None = None, mmap: bool = True) -> Graph:
        """Import a model; see :meth:`Frontend.load`."""
        from mace_core.frontend.messages import tidy
        from mace_core.frontend.tflite.buffers import Constants
        from mace_core.frontend.tflite.importer import Importer
        from mace_core.frontend.tflite.metadata import metadata_of
        from mace_core.frontend.tflite.reader import read_model

        if isinstance(source, Path):
            content = open_bytes(source, mmap=mmap)
            path = source
        else:
            content = FileBytes(Path(), np.frombuffer(source, np.uint8))
        label = f"model '{path}'" if path is not None else "the model"
        try:
            model = read_model(content.data, label)
            constants = Constants(model, content, path, label, mmap=mmap)
            chosen = self._options
            is_hybrid = chosen.dynamic_range == "integer"
            graph = Importer(model, constants, label, chosen.signature, is_hybrid=is_hybrid).build()
            about = metadata_of(model, constants, content)
            graph.metadata = {**{k: v for k, v in about.items() if not k.startswith("mace.")}, **graph.metadata}
        except ModelFileError as error:
            error.message = tidy(error.message)
            raise
        except ModelError as error:
            raise type(error)(tidy(str(error))) from error
        graph.source_path = str(path) if path is not None else None
        return graph
