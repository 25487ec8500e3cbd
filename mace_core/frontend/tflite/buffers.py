"""Constants of .tflite files: views into the file wherever the form allows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError, ModelNotFoundError, UnsupportedModelError
from mace_core.frontend.tflite.description import FileModel, FileTensor
from mace_core.frontend.tflite.sparse import densified
from mace_core.frontend.tflite.types import PARTS, dtype_of, is_handle
from mace_core.tensor import DType, FileRange, Tensor
from mace_core.tensor.files import FileBytes, open_bytes

MAX_DENSE_BYTES = 1 << 30
"""Sparse tensors that take more than this when written out, all together, are refused."""


class Constants:
    """The constants of one file, by tensor."""

    def __init__(self, model: FileModel, content: FileBytes, path: Path | None, label: str, *, mmap: bool) -> None:
        """``content`` is the whole file; buffers in other files lie beside ``path``."""
        self._model = model
        self._content = content
        self._path = path
        self._label = label
        self._mmap = mmap
        self._others: dict[str, FileBytes] = {}
        self._dense_bytes = 0

    def has(self, tensor: FileTensor) -> bool:
        """Whether the file has values for a tensor."""
        return bool(tensor.external_buffer) or (
            tensor.buffer > 0
            and tensor.buffer < len(self._model.buffers)
            and self._model.buffers[tensor.buffer].size > 0
        )

    def of(self, tensor: FileTensor, where: str) -> Tensor | None:
        """The values of a tensor; None where the file has none.

        Raises:
            ModelError: if there are not as many as its shape says, or the file that has them cannot be read.
        """
        if is_handle(tensor) or not self.has(tensor):
            return None
        dtype = dtype_of(tensor, f"{self._label}: {where}")
        payload, source = self._payload(tensor, where)
        if tensor.sparsity is not None:
            return self._dense(tensor, dtype, payload, where)
        try:
            if dtype is DType.STRING:
                return Tensor(dtype, tensor.shape, strings(payload))
            if dtype in PARTS:
                return Tensor(PARTS[dtype], (*tensor.shape, 2), payload, source)
            return Tensor(dtype, tensor.shape, payload, source)
        except ValueError as error:
            raise ModelError(f"{self._label}: {where} does not hold what it declares: {error}") from error

    def bytes_of(self, buffer: int) -> bytes:
        """The content of a buffer of the file (metadata)."""
        place = self._model.buffers[buffer]
        return self._content.data[place.offset : place.offset + place.size].tobytes()

    def _payload(self, tensor: FileTensor, where: str) -> tuple[npt.NDArray[np.uint8], FileRange | None]:
        if tensor.external_buffer:
            return self._external(tensor, where)
        place = self._model.buffers[tensor.buffer]
        return _range(self._content, place.offset, place.size)

    def _external(self, tensor: FileTensor, where: str) -> tuple[npt.NDArray[np.uint8], FileRange | None]:
        place = self._model.external.get(tensor.external_buffer)
        if place is None:
            raise ModelError(
                f"{self._label}: {where} has its values in external buffer {tensor.external_buffer}, which the file "
                "does not describe"
            )
        if place.packing not in ("", "unpacked"):
            raise UnsupportedModelError(
                f"{self._label}: {where} has its values in another file, packed as '{place.packing}', which is not "
                "supported"
            )
        file = self._others.get(place.file)
        if file is None:
            file = self._others[place.file] = open_bytes(
                self._beside(place.file, where), mmap=self._mmap, what="file of external buffers"
            )
        if place.offset + place.size > file.data.size:
            raise ModelError(
                f"{self._label}: {where} needs bytes {place.offset} to {place.offset + place.size} of '{file.path}', "
                f"which has {file.data.size}"
            )
        return _range(file, place.offset, place.size)

    def _beside(self, name: str, where: str) -> Path:
        """A file in the model's folder, or in the folder of what the model's path links to."""
        if self._path is None:
            raise ModelError(
                f"{self._label}: {where} has its values in the file '{name}' beside the model: load the model from its "
                "path"
            )
        if not name or "\0" in name or "/" in name or "\\" in name or name in (".", ".."):
            raise ModelError(
                f"{self._label}: {where} has its values in '{name}', which is no file in the model's folder"
            )
        folders = list(dict.fromkeys((self._path.parent, self._path.resolve().parent)))
        found = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if found is None:
            missing = folders[0] / name
            raise ModelNotFoundError(
                f"{self._label}: {where} has its values in '{missing}', which is missing or no file", missing
            )
        if not any(found.resolve().is_relative_to(folder.resolve()) for folder in folders):
            raise ModelError(
                f"{self._label}: {where} has its values in '{name}', a link that leads out of the model's folder to "
                f"'{found.resolve()}', which is refused; copy that file beside the model if you trust it"
            )
        return found

    def _dense(self, tensor: FileTensor, dtype: DType, payload: npt.NDArray[np.uint8], where: str) -> Tensor:
        assert tensor.sparsity is not None
        if dtype is DType.STRING or dtype.is_packed or dtype in PARTS:
            raise UnsupportedModelError(
                f"{self._label}: {where} is a sparse tensor of {dtype.label}, which is not supported"
            )
        taken = dtype.nbytes(math.prod(tensor.shape))
        self._dense_bytes += taken
        if self._dense_bytes > MAX_DENSE_BYTES:
            raise UnsupportedModelError(
                f"{self._label}: {where} takes {taken:,} bytes when written out; all sparse tensors together may take "
                f"{MAX_DENSE_BYTES:,}"
            )
        if payload.size % dtype.nbytes(1):
            raise ModelError(f"{self._label}: {where} has {payload.size} bytes, not a whole number of {dtype.label}")
        try:
            dense = densified(payload.view(dtype.numpy), tensor.shape, tensor.sparsity)
        except ValueError as error:
            raise ModelError(f"{self._label}: {where}, a sparse tensor, cannot be written out: {error}") from error
        return Tensor.from_numpy(dense)


def strings(payload: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The strings of a tensor: their number, where each begins and the last ends (int32), and their bytes.

    Raises:
        ValueError: if that does not fit the payload.
    """
    content = payload.tobytes()
    count = int.from_bytes(content[:4], "little", signed=True)
    if len(content) < 4 or not 0 <= count <= (len(content) - 8) // 4:
        raise ValueError(f"{count} strings in {len(content)} bytes")
    places = np.frombuffer(content, "<i4", count + 1, 4)
    if np.any(places[1:] < places[:-1]) or places[0] < 4 * (count + 2) or places[-1] > len(content):
        raise ValueError("strings that lie outside their buffer")
    found = np.empty(count, object)
    for index in range(count):
        text = content[places[index] : places[index + 1]]
        try:
            found[index] = text.decode()
        except UnicodeDecodeError:
            found[index] = text
    return found


def _range(file: FileBytes, offset: int, size: int) -> tuple[npt.NDArray[np.uint8], FileRange | None]:
    source = FileRange(str(file.path), offset, size, file.identity) if file.path.name else None
    return file.data[offset : offset + size], source
