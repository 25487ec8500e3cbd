"""Constant payloads of an ONNX model: ``TensorProto`` to Tensor, wherever the file keeps the values."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError, ModelFileError, ModelNotFoundError, UnsupportedModelError, model_file_error
from mace_core.frontend.onnx.text import text, text_or_bytes
from mace_core.frontend.onnx.types import check_rank, dtype_of
from mace_core.frontend.onnx.wire import payload_range
from mace_core.tensor import DType, FileRange, Tensor
from mace_core.tensor.files import FileBytes, open_bytes

if TYPE_CHECKING:
    import onnx

MAX_DENSE_BYTES = 1 << 30
"""Sparse initializers that take more than this when written out, all together, are refused: a few bytes can declare
any size."""

_LARGEST = (1 << 63) - 1

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

# The typed field each element type uses, and the numpy dtype of that field's elements.
_TYPED: dict[DType, tuple[str, type]] = {
    DType.FLOAT32: ("float_data", np.float32),
    DType.COMPLEX64: ("float_data", np.float32),
    DType.FLOAT64: ("double_data", np.float64),
    DType.COMPLEX128: ("double_data", np.float64),
    DType.INT64: ("int64_data", np.int64),
    DType.UINT32: ("uint64_data", np.uint64),
    DType.UINT64: ("uint64_data", np.uint64),
    DType.STRING: ("string_data", np.object_),
}


class TensorReader:
    """Turns the tensors of one model into constants.

    Payloads that the scanner took out of the model are views into ``content``; external ones are views into their own
    files, which must lie in the model's folder: the one that its path names, or, where that is a link, the one that its
    file is in.  (Caches of model hubs keep files under the names of their contents and link to them.)
    """

    def __init__(self, label: str, content: FileBytes | None, path: Path | None, *, mmap: bool) -> None:
        """``label`` names the model in messages; ``content`` is what was scanned; external data is beside ``path``."""
        self._label = label
        self._content = content
        self._path = path
        self._mmap = mmap
        self._external: dict[str, FileBytes] = {}
        self._dense_bytes = 0  # of sparse tensors, written out

    def read(self, proto: onnx.TensorProto, where: str) -> Tensor:
        """The constant that ``proto`` describes; ``where`` names it in messages ("initializer 'w'").

        Raises:
            ModelError: if the description is contradictory or the values are not there.
        """
        dtype = dtype_of(proto.data_type, f"{self._label}: {where}")
        if dtype is None:
            raise self._error(where, "has no element type")
        check_rank(len(proto.dims), f"{self._label}: {where}")
        shape = tuple(proto.dims)
        if any(size < 0 for size in shape):
            raise self._error(where, f"has a negative size in its shape {list(shape)}")
        payload, source = self._payload(proto, dtype, where)
        try:
            return Tensor(dtype, shape, payload, source)
        except ValueError as error:
            raise self._error(where, f"does not hold what it declares: {error}") from error

    def read_sparse(self, proto: onnx.SparseTensorProto, where: str) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Values (NNZ,), indices (NNZ,) or (NNZ, rank), and the dense shape.

        Raises:
            ModelError: if they do not fit each other.
        """
        values = self.read(proto.values, f"the values of {where}")
        indices = self.read(proto.indices, f"the indices of {where}")
        dims = tuple(proto.dims)
        count = values.size
        if any(size < 0 for size in dims):
            raise self._error(where, f"has a negative size in its shape {list(dims)}")
        if indices.dtype is not DType.INT64 or indices.shape not in ((count,), (count, len(dims))):
            raise self._error(where, f"has {count} values but indices {indices}, not int64[{count}] or [{count}, rank]")
        if len(values.shape) != 1:
            raise self._error(where, f"has values of shape {list(values.shape)}; they must be a list")
        places = indices.numpy()
        columns = places.reshape(count, -1 if count else 0)
        # no index reaches the largest number, so that sizes beyond it can count as it
        limits = np.array([min(size, _LARGEST) for size in ([math.prod(dims)] if places.ndim == 1 else dims)], np.int64)
        if count and (np.any(columns < 0) or np.any(columns >= limits)):
            raise self._error(where, f"has an index outside its shape {list(dims)}")
        if count and len(np.unique(columns, axis=0)) < count:
            raise self._error(where, "has two values for one index")
        return values, indices, dims

    def read_dense(self, proto: onnx.SparseTensorProto, where: str) -> Tensor:
        """A sparse tensor written out.

        Raises:
            ModelError: if it is not valid, or makes all those read so far larger than ``MAX_DENSE_BYTES``.
        """
        return self.written_out(*self.read_sparse(proto, where), where)

    def written_out(self, values: Tensor, indices: Tensor, dims: tuple[int, ...], where: str) -> Tensor:
        """What :meth:`read_sparse` has read, as a dense tensor.

        Raises:
            ModelError: if all those written out so far are larger than ``MAX_DENSE_BYTES``.
        """
        if values.dtype is DType.STRING:
            raise UnsupportedModelError(f"{self._label}: {where} is a sparse tensor of strings, which is not supported")
        check_rank(len(dims), f"{self._label}: {where}")
        size = math.prod(dims)
        taken = values.dtype.nbytes(size)
        self._dense_bytes += taken
        if self._dense_bytes > MAX_DENSE_BYTES:
            others = f" after {self._dense_bytes - taken:,} for those before it" if self._dense_bytes > taken else ""
            raise UnsupportedModelError(
                f"{self._label}: {where} takes {taken:,} bytes when written out{others}, "
                f"more than the {MAX_DENSE_BYTES:,} that sparse initializers may"
            )
        dense = np.zeros(size, values.dtype.numpy)
        dense[_flat_places(indices.numpy(), dims)] = values.numpy().reshape(-1)
        try:
            return Tensor.from_numpy(dense.reshape(dims))
        except ValueError as error:  # nothing at all, in dimensions that numpy cannot count
            raise self._error(where, f"has the shape {list(dims)}, which is not supported: {error}") from error

    def _payload(self, proto: onnx.TensorProto, dtype: DType, where: str) -> tuple[npt.NDArray[Any], FileRange | None]:
        """Stored bytes (or strings), with their place in a file where they are a view of one."""
        if proto.data_location == 1:  # EXTERNAL
            return self._external_payload(proto, dtype, where)
        used = [field for field in _FIELDS if len(getattr(proto, field)) > 0]
        if proto.HasField("segment"):
            place = payload_range(proto.segment.begin, proto.segment.end)
            if place is None or self._content is None:
                raise UnsupportedModelError(f"{self._label}: {where} is stored in segments, which is not supported")
            used.append("raw_data")
        elif proto.HasField("raw_data") and (proto.raw_data or not used):
            used.append("raw_data")
        if len(used) > 1:
            raise self._error(where, f"holds its values twice, in {' and in '.join(used)}")
        if used == ["raw_data"]:
            if dtype is DType.STRING:
                raise self._error(where, "is a string tensor with raw_data, which strings cannot use")
            if proto.HasField("segment") and place is not None and self._content is not None:
                return self._range(self._content, *place, where)
            return np.frombuffer(proto.raw_data, np.uint8), None
        field, element = _TYPED.get(dtype, ("int32_data", np.int32))
        if used and used != [field]:
            raise self._error(where, f"is {dtype.label} but holds its values in {used[0]}, not in {field}")
        return _typed_payload(getattr(proto, field), dtype, element), None

    def _range(
        self, file: FileBytes, offset: int, length: int, where: str
    ) -> tuple[npt.NDArray[Any], FileRange | None]:
        if offset < 0 or length < 0 or offset + length > file.data.size:
            raise self._error(
                where, f"needs bytes {offset} to {offset + length} of '{file.path}', which has {file.data.size}"
            )
        source = FileRange(str(file.path), offset, length, file.identity) if file.path.name else None
        return file.data[offset : offset + length], source

    def _external_payload(
        self, proto: onnx.TensorProto, dtype: DType, where: str
    ) -> tuple[npt.NDArray[Any], FileRange | None]:
        if dtype is DType.STRING:
            raise self._error(where, "is a string tensor with external data, which strings cannot use")
        entries = {text(entry.key): text(entry.value) for entry in proto.external_data}
        location = entries.get("location", "")
        if not location:
            raise self._error(where, "has external data but no location")
        try:
            offset = int(entries.get("offset", "0"))
            declared = int(entries["length"]) if "length" in entries else None
        except ValueError as error:
            raise self._error(where, f"has an external data offset or length that is not a number: {error}") from error
        size = dtype.nbytes(math.prod(proto.dims))
        if declared is not None and declared != size:
            raise self._error(where, f"takes {size} bytes but declares {declared} bytes of external data")
        file = self._external.get(location)
        if file is None and size > 0:
            path = self._external_path(location, where)
            try:
                file = open_bytes(path, mmap=self._mmap, what="external data file")
            except ModelError as error:
                told = self._error(where, f"keeps its values in another file: {str(error).rstrip('.')}")
                if isinstance(error, ModelFileError):
                    raise model_file_error(str(told), error, path) from error
                raise told from error
            self._external[location] = file
        if file is None:
            return np.empty(0, np.uint8), None
        return self._range(file, offset, size, where)

    def _external_path(self, location: str, where: str) -> Path:
        """The file meant by ``location``, made sure to lie in the model's folder or in that of what it links to."""
        if self._path is None:
            raise self._error(
                where, f"keeps its values in the file '{location}' beside the model: load the model from its path"
            )
        if "\0" in location:
            raise self._error(where, "has a NUL character in its external data location")
        portable = location.replace("\\", "/") if os.sep == "\\" else location
        if Path(portable).is_absolute() or Path(os.path.normpath(portable)).parts[:1] == ("..",):
            raise self._error(
                where, f"points to external data outside the model's folder ('{location}'), which is refused"
            )
        try:
            folders = list(dict.fromkeys((self._path.parent, self._path.resolve().parent)))
            candidates = [folder / portable for folder in folders]
            found = next((candidate for candidate in candidates if candidate.is_file()), None)
            target = (found or candidates[0]).resolve()
            inside = any(target.is_relative_to(folder.resolve()) for folder in folders)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            raise self._error(where, f"has external data in '{location}', which cannot be followed: {error}") from error
        if not inside:
            raise self._error(
                where,
                f"points to external data outside the model's folder ('{location}' leads to '{target}'), which is "
                "refused; copy that file beside the model if you trust it",
            )
        if found is None:
            problem = f"keeps its values in '{candidates[0]}', which is missing or no file"
            raise ModelNotFoundError(str(self._error(where, problem)), candidates[0])
        return found

    def _error(self, where: str, problem: str) -> ModelError:
        return ModelError(f"{self._label}: {where} {problem}")


def _flat_places(indices: npt.NDArray[np.int64], dims: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Places in the flattened tensor, of indices (NNZ,) or (NNZ, rank) that lie inside it."""
    if indices.ndim == 1:
        return indices
    steps = np.array([math.prod(dims[axis + 1 :]) for axis in range(len(dims))], np.int64)
    return indices @ steps if indices.size else np.zeros(len(indices), np.int64)


def _typed_payload(values: Any, dtype: DType, element: type) -> npt.NDArray[Any]:
    """Stored bytes of the values of a typed field (ONNX widens small kinds to int32, unsigned ones to uint64)."""
    if dtype is DType.STRING:
        strings = np.empty(len(values), object)
        strings[:] = [text_or_bytes(value) for value in values]
        return strings
    array: npt.NDArray[Any] = np.fromiter(values, element, len(values))
    if dtype.is_packed:
        if dtype.bits == 6:  # one code for each value here, unlike the other narrow kinds
            return Tensor.from_numpy((array.astype(np.uint8) & 0x3F).view(dtype.numpy)).payload
        return array.astype(np.uint8)
    if element is np.int32:
        array = array.astype(f"<u{dtype.bits // 8}")
    elif dtype is DType.UINT32:
        array = array.astype(np.uint32)
    return array.view(np.uint8)
