"""The ONNX frontend: a file, bytes or a ModelProto becomes a Graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mace_core.errors import ModelError, ModelFileError
from mace_core.frontend.base import Frontend, ModelSource
from mace_core.frontend.messages import tidy
from mace_core.frontend.onnx.wire import LOOKED_AT_BYTES, WireError, looks_like_model, strip
from mace_core.tensor.files import FileBytes, open_bytes

if TYPE_CHECKING:
    import onnx

    from mace_core.graph import Graph


class OnnxFrontend(Frontend):
    """Reads ONNX models of every opset that the installed onnx package knows."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def can_read(self, source: ModelSource) -> bool:
        """Whether the content begins like a ModelProto: well-formed fields that a model has."""
        try:
            if isinstance(source, Path):
                with source.open("rb") as file:
                    head = file.read(LOOKED_AT_BYTES)
            else:
                head = source
        except OSError:
            return False
        return looks_like_model(head)

    def load(self, source: ModelSource, *, path: Path | None = None, mmap: bool = True) -> Graph:
        """Import a model; see :meth:`Frontend.load`."""
        if isinstance(source, Path):
            content = open_bytes(source, mmap=mmap)
            path = source
        else:
            content = FileBytes(Path(), np.frombuffer(source, np.uint8))
        return self._import(content, path, mmap=mmap)

    def load_proto(self, model: onnx.ModelProto, *, path: Path | None = None) -> Graph:
        """Import a model that is in memory already; ``path`` tells where external data lies.

        Raises:
            ModelError: if the model is not valid, or too large to serialize (2 GB).
        """
        try:
            content = model.SerializeToString()
        except Exception as error:  # protobuf's implementations raise kinds of their own
            raise ModelError(
                f"the ModelProto cannot be serialized ({error}): save it with external data and load it from its path"
            ) from error
        if not content:
            raise ModelError("the ModelProto is empty")
        return self._import(FileBytes(Path(), np.frombuffer(content, np.uint8)), path, mmap=True)

    def _import(self, content: FileBytes, path: Path | None, *, mmap: bool) -> Graph:
        import onnx
        from google.protobuf.message import DecodeError

        from mace_core.frontend.onnx.importer import Importer
        from mace_core.frontend.onnx.tensors import TensorReader

        label = f"model '{path}'" if path is not None else "the model"
        try:
            model = onnx.ModelProto.FromString(strip(content.data.data))
        except WireError as error:
            raise ModelError(f"{label} is damaged or no ONNX model: {error}") from error
        except DecodeError as error:
            raise ModelError(f"{label} is damaged or no ONNX model: {str(error).rstrip('.')}") from error
        reader = TensorReader(label, content, path, mmap=mmap)
        try:
            graph = Importer(model, reader, label).build()
        except UnicodeDecodeError as error:
            raise ModelError(f"{label} is damaged: a name in it is not UTF-8 ({error.reason})") from error
        except ModelFileError as error:
            error.message = tidy(error.message)
            raise
        except ModelError as error:
            raise type(error)(tidy(str(error))) from error
        graph.source_path = str(path) if path is not None else None
        return graph
