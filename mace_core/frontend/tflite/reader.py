"""Reading a .tflite file into its description, with nothing believed.

A flatbuffer is a graph of offsets that may point anywhere.  Python's readers raise where one leaves the file; what they
do not notice is looked at here: lists longer than the file, tables that are reached again and again (a few kilobytes
could stand for millions of operators), numbers of tensors, buffers and subgraphs that do not exist.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from flatbuffers import number_types

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend.tflite.bindings import KNOWN_DETAILS, Bindings, newest_bindings, small_bindings
from mace_core.frontend.tflite.description import (
    FileBuffer,
    FileDimension,
    FileExternalBuffer,
    FileModel,
    FileOperator,
    FileQuantization,
    FileSignature,
    FileSparsity,
    FileSubgraph,
    FileTensor,
)
from mace_core.frontend.tflite.scales import with_scales

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every file."""

DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, UnicodeDecodeError)
"""What reading a damaged flatbuffer raises in Python."""

_FIELD_OF_BUILTIN_CODE = 10
"""Where a vtable has the newer field for an operator's number.  The older one is a byte; writers fill in both, or one:
the greater number counts.  The accessor of the small package gives the older one for every small number."""

_FIELDS_OF_MODEL = 8
_FIELDS_OF_TENSOR = 10
"""How many the small package knows of each."""

_BLOCKS = 2
"""The kind of quantization details of blocks."""

_TEXT_SHARE, _LEAST_TEXT = 4, 1 << 20
"""How many times the size of the file its texts may take, and the bytes that they may take in any case."""


def is_tflite(head: bytes) -> bool:
    """Whether a file that begins like this may be a .tflite file."""
    return head[4:8] == IDENTIFIER


def read_model(content: npt.NDArray[np.uint8], label: str) -> FileModel:
    """The description of a file.

    Args:
        content: the whole file, uint8.
        label: names it in messages.

    Raises:
        ModelError: if it is damaged.
        UnsupportedModelError: if reading it needs a package that is not installed.
    """
    reader = _Reader(content, label, small_bindings())
    try:
        try:
            return reader.model()
        except _NeedsNewerSchemaError as error:
            newest = newest_bindings()
            if newest is None:
                raise UnsupportedModelError(
                    f"{label} has {error}, which the package tflite does not know yet: pip install ai-edge-litert, "
                    "whose schema is read instead"
                ) from None
            return _Reader(content, label, newest).model()
    except DAMAGE as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{label} is damaged or no TensorFlow Lite model: what an offset in it points to is not there"
        ) from error


class _NeedsNewerSchemaError(Exception):
    """The file says something that the small package has no name for."""


class _Reader:
    def __init__(self, content: npt.NDArray[np.uint8], label: str, bindings: Bindings) -> None:
        self._content = content
        self._bytes = content.data
        self._label = label
        self._bindings = bindings
        self._left = content.size
        """Bytes that tables and lists may still take: a file cannot hold more of them than fit into it."""
        self._text_left = max(_TEXT_SHARE * content.size, _LEAST_TEXT)
        """Bytes that texts may still take: writers store a text that comes several times once."""

    # --- whole ---------------------------------------------------------------------------------------------------

    def model(self) -> FileModel:
        if self._content.size < 8 or not is_tflite(bytes(self._content[:8])):
            raise ModelError(f"{self._label} is damaged or no TensorFlow Lite model: it does not say TFL3 at byte 4")
        model = self._bindings.of("Model").GetRootAs(self._bytes, 0)
        self._expect_known(model, _FIELDS_OF_MODEL, "buffers in other files")
        if model.Version() != 3:
            raise UnsupportedModelError(
                f"{self._label} is written in version {model.Version()} of the schema; this version reads version 3"
            )
        codes = [self._code(code) for code in self._tables(model, "OperatorCodes", "operator codes")]
        buffers = tuple(self._buffer(buffer) for buffer in self._tables(model, "Buffers", "buffers", bytes_each=4))
        count = self._count(model.SubgraphsLength(), 4, "subgraphs")
        if count == 0:
            raise ModelError(f"{self._label} contains no graph: it is not a TensorFlow Lite model, or only part of one")
        subgraphs = tuple(self._subgraph(model.Subgraphs(i), i, codes, len(buffers), count) for i in range(count))
        return FileModel(
            model.Version(),
            self._text(model.Description()),
            subgraphs,
            buffers,
            self._external(model),
            tuple(self._signatures(model, subgraphs)),
            {
                self._text(entry.Name()): self._index(entry.Buffer(), len(buffers), "metadata", "buffer")
                for entry in self._tables(model, "Metadata", "metadata")
            },
        )

    def _code(self, code: Any) -> tuple[str, str, int]:
        """Name of the builtin, name of the custom operator, version."""
        number = max(code.DeprecatedBuiltinCode(), _whole_number(code, _FIELD_OF_BUILTIN_CODE))
        builtin = self._bindings.builtins.get(number)
        if builtin is None:
            newest = None if self._bindings.is_newest else newest_bindings()
            builtin = None if newest is None else newest.builtins.get(number)
        if builtin is None:  # told when a node needs it
            builtin = f"builtin operator {number}"
        custom = self._text(code.CustomCode()) if builtin == "CUSTOM" else ""
        return builtin, custom or ("a custom operator without a name" if builtin == "CUSTOM" else ""), code.Version()

    def _buffer(self, buffer: Any) -> FileBuffer:
        offset, size = buffer.Offset(), buffer.Size()
        if offset > 1 and size > 0:  # behind the flatbuffer, where that would become too large
            if offset + size > self._content.size:
                raise ModelError(
                    f"{self._label} is damaged: a buffer takes bytes {offset} to {offset + size} of the file, "
                    f"which has {self._content.size}"
                )
            return FileBuffer(offset, size)
        length = buffer.DataLength()
        if length == 0:
            return FileBuffer(0, 0)
        data = buffer.DataAsNumpy()
        return FileBuffer(data.__array_interface__["data"][0] - self._content.__array_interface__["data"][0], length)

    def _external(self, model: Any) -> dict[int, FileExternalBuffer]:
        if not self._bindings.is_newest:
            return {}
        groups = [
            self._text(group.Name()) for group in self._tables(model, "ExternalBufferGroups", "external buffer groups")
        ]
        found: dict[int, FileExternalBuffer] = {}
        for entry in self._tables(model, "ExternalBuffers", "external buffers"):
            group = self._index(entry.Group(), len(groups), "an external buffer", "group")
            found[entry.Id()] = FileExternalBuffer(
                groups[group], entry.Offset(), entry.Length(), self._text(entry.Packing())
            )
        return found

    def _signatures(self, model: Any, subgraphs: tuple[FileSubgraph, ...]) -> Iterator[FileSignature]:
        for signature in self._tables(model, "SignatureDefs", "signatures"):
            key = self._text(signature.SignatureKey())
            where = f"signature '{key}'"
            index = self._index(signature.SubgraphIndex(), len(subgraphs), where, "subgraph")
            count = len(subgraphs[index].tensors)
            maps = [
                tuple(
                    (self._text(entry.Name()), self._index(entry.TensorIndex(), count, where, "tensor"))
                    for entry in self._tables(signature, side, f"{side.lower()} of {where}")
                )
                for side in ("Inputs", "Outputs")
            ]
            yield FileSignature(key, index, *maps)

    # --- subgraphs -----------------------------------------------------------------------------------------------

    def _subgraph(
        self, graph: Any, index: int, codes: list[tuple[str, str, int]], buffers: int, subgraphs: int
    ) -> FileSubgraph:
        name = self._text(graph.Name())
        where = f"subgraph {index}{f' ({name!r})' if name else ''}"
        tensors = with_scales(
            self._tensor(tensor, number, buffers, where)
            for number, tensor in enumerate(self._tables(graph, "Tensors", f"tensors of {where}"))
        )
        operators = tuple(
            self._operator(operator, number, codes, len(tensors), where)
            for number, operator in enumerate(self._tables(graph, "Operators", f"operators of {where}"))
        )
        return FileSubgraph(
            index,
            name,
            tensors,
            self._indices(graph, "Inputs", len(tensors), f"inputs of {where}"),
            self._indices(graph, "Outputs", len(tensors), f"outputs of {where}"),
            operators,
        )

    def _tensor(self, tensor: Any, index: int, buffers: int, where: str) -> FileTensor:
        self._expect_known(tensor, _FIELDS_OF_TENSOR, "weights in other files")
        name = self._text(tensor.Name())
        where = f"tensor {index} ('{name}') of {where}"
        shape = self._whole(tensor, "Shape", where)
        signature = self._whole(tensor, "ShapeSignature", where) if tensor.ShapeSignatureLength() else None
        if any(size < 0 for size in shape):
            if signature is None and all(size >= -1 for size in shape):  # some converters write it there
                signature, shape = shape, tuple(1 if size < 0 else size for size in shape)
            else:
                raise ModelError(f"{self._label}: {where} has a negative size in its shape {list(shape)}")
        if signature is not None and (len(signature) != len(shape) or any(size < -1 for size in signature)):
            raise ModelError(
                f"{self._label}: {where} has the shape {list(shape)} and the shape signature {list(signature)}, "
                "which do not fit each other"
            )
        sparsity = tensor.Sparsity()
        return FileTensor(
            index,
            name,
            shape,
            signature,
            tensor.Type(),
            self._index(tensor.Buffer(), max(buffers, 1), where, "buffer"),
            tensor.ExternalBuffer() if self._bindings.is_newest else 0,
            tensor.HasRank(),
            tensor.IsVariable(),
            self._quantization(tensor.Quantization(), where),
            None if sparsity is None else self._sparsity(sparsity, where),
        )

    def _quantization(self, given: Any, where: str) -> FileQuantization | None:
        if given is None:
            return None
        details = given.DetailsType()
        if details > KNOWN_DETAILS and not self._bindings.is_newest:
            raise _NeedsNewerSchemaError(f"quantization of kind {details} in {where}")
        if details == _BLOCKS:
            table = given.Details()
            blocks = self._bindings.of("BlockwiseQuantization")()
            blocks.Init(table.Bytes, table.Pos)
            return FileQuantization(
                np.zeros(0, np.float32),
                np.zeros(0, np.int64),
                given.QuantizedDimension(),
                blocks.BlockSize(),
                blocks.Scales(),
                blocks.ZeroPoints(),
            )
        if details:
            raise UnsupportedModelError(
                f"{self._label}: {where} is quantized in a way of its own (details of kind {details}), "
                "which is not supported"
            )
        scales = self._array(given, "Scale", np.float32, where)
        if scales.size == 0:
            return None
        zeros = self._array(given, "ZeroPoint", np.int64, where)
        if zeros.size == 0:
            zeros = np.zeros(scales.size, np.int64)
        elif zeros.size == 1:
            zeros = np.broadcast_to(zeros, scales.shape)
        if zeros.size != scales.size:
            raise ModelError(f"{self._label}: {where} has {scales.size} scales and {zeros.size} zero points")
        if not np.all(np.isfinite(scales)):
            raise ModelError(f"{self._label}: {where} has a quantization scale that is not a finite number")
        return FileQuantization(scales, zeros, given.QuantizedDimension())

    def _sparsity(self, given: Any, where: str) -> FileSparsity:
        where = f"the sparsity of {where}"
        dimensions = []
        for entry in self._tables(given, "DimMetadata", where):
            segments, indices = np.zeros(0, np.int64), np.zeros(0, np.int64)
            if entry.Format():
                segments = self._sparse_list(entry.ArraySegments(), entry.ArraySegmentsType(), where)
                indices = self._sparse_list(entry.ArrayIndices(), entry.ArrayIndicesType(), where)
            dimensions.append(FileDimension(bool(entry.Format()), entry.DenseSize(), segments, indices))
        return FileSparsity(
            self._whole(given, "TraversalOrder", where), self._whole(given, "BlockMap", where), tuple(dimensions)
        )

    def _sparse_list(self, table: Any, kind: int, where: str) -> npt.NDArray[np.int64]:
        names = {1: ("Int32Vector", np.int32), 2: ("Uint16Vector", np.uint16), 3: ("Uint8Vector", np.uint8)}
        if table is None or kind not in names:
            raise ModelError(f"{self._label}: {where} lacks the places of its values")
        name, dtype = names[kind]
        found = self._bindings.of(name)()
        found.Init(table.Bytes, table.Pos)
        return self._array(found, "Values", dtype, where).astype(np.int64)

    def _operator(
        self, operator: Any, index: int, codes: list[tuple[str, str, int]], tensors: int, where: str
    ) -> FileOperator:
        where = f"operator {index} of {where}"
        builtin, custom, version = codes[self._index(operator.OpcodeIndex(), len(codes), where, "operator code")]
        kind, table, names = operator.BuiltinOptionsType(), operator.BuiltinOptions, self._bindings.options
        if not kind and hasattr(operator, "BuiltinOptions2Type"):
            kind, table, names = operator.BuiltinOptions2Type(), operator.BuiltinOptions2, self._bindings.options2
        options, options_type = None, ""
        found = table() if kind else None
        if found is not None:
            options_type = names.get(kind, f"of an unknown kind ({kind})")
            if kind in names:
                options = self._bindings.of(options_type)()
                options.Init(found.Bytes, found.Pos)
        return FileOperator(
            index,
            builtin,
            custom,
            version,
            self._indices(operator, "Inputs", tensors, f"inputs of {where}", optional=True),
            self._indices(operator, "Outputs", tensors, f"outputs of {where}", optional=True),
            self._indices(operator, "Intermediates", tensors, f"intermediates of {where}", optional=True),
            options,
            options_type,
            self._custom_options(operator) if custom else b"",
        )

    def _custom_options(self, operator: Any) -> bytes:
        offset, size = operator.LargeCustomOptionsOffset(), operator.LargeCustomOptionsSize()
        if offset > 1 and size > 0:
            if offset + size > self._content.size:
                raise ModelError(
                    f"{self._label} is damaged: the options of a custom operator take bytes {offset} to "
                    f"{offset + size} of the file, which has {self._content.size}"
                )
            self._count(size, 1, "bytes of custom options")
            return bytes(self._content[offset : offset + size])
        return self._array(operator, "CustomOptions", np.uint8, "custom options").tobytes()

    # --- lists ---------------------------------------------------------------------------------------------------

    def _tables(self, owner: Any, name: str, what: str, *, bytes_each: int = 4) -> Iterator[Any]:
        count = self._count(getattr(owner, f"{name}Length")(), bytes_each, what)
        item: Callable[[int], Any] = getattr(owner, name)
        for index in range(count):
            yield item(index)

    def _count(self, count: int, bytes_each: int, what: str) -> int:
        """A length that the rest of the file can hold."""
        self._left -= count * bytes_each
        if count < 0 or self._left < 0:
            raise ModelError(f"{self._label} is damaged: it says that it has {count:,} {what}, more than fit into it")
        return count

    def _text(self, given: bytes | None) -> str:
        """A text; "" where there is none."""
        if given is None:
            return ""
        self._text_left -= len(given)
        if self._text_left < 0:
            raise ModelError(f"{self._label} is damaged: it repeats its names until they take many times its own size")
        return given.decode("utf-8", "replace")

    def _array(self, owner: Any, name: str, dtype: type, what: str) -> npt.NDArray[Any]:
        """A list of numbers; empty where there is none."""
        count = getattr(owner, f"{name}Length")()
        self._count(count, np.dtype(dtype).itemsize, f"numbers in {name} of {what}")
        if count == 0:
            return np.zeros(0, dtype)
        found: npt.NDArray[Any] = getattr(owner, f"{name}AsNumpy")()
        return found

    def _whole(self, owner: Any, name: str, what: str) -> tuple[int, ...]:
        return tuple(self._array(owner, name, np.int32, what).tolist())

    def _indices(self, owner: Any, name: str, count: int, what: str, *, optional: bool = False) -> tuple[int, ...]:
        found = self._whole(owner, name, what)
        for index in found:
            if not (0 <= index < count or (optional and index == -1)):
                raise ModelError(f"{self._label} is damaged: the {what} are tensors {list(found)[:8]} of {count}")
        return found

    def _index(self, index: int, count: int, where: str, what: str) -> int:
        if not 0 <= index < count:
            raise ModelError(f"{self._label} is damaged: {where} refers to {what} {index}, and there are {count}")
        return index

    def _expect_known(self, table: Any, fields: int, what: str) -> None:
        """Refuse a table with more fields than the schema at hand has names for."""
        if self._bindings.is_newest:
            return
        tab = table._tab
        vtable = tab.Pos - struct.unpack_from("<i", self._bytes, tab.Pos)[0]
        if vtable < 0:
            raise IndexError(f"byte {vtable}")
        (size,) = struct.unpack_from("<H", self._bytes, vtable)
        if (size - 4) // 2 > fields:
            raise _NeedsNewerSchemaError(what)


def _whole_number(table: Any, field: int) -> int:
    """An int32 of a table; 0 where it is left out."""
    tab = table._tab
    offset = tab.Offset(field)
    return int(tab.Get(number_types.Int32Flags, offset + tab.Pos)) if offset else 0
