"""Graphs as bytes, for a warm start: no onnx, no parsing of a model file.

The form is private to one version of the core: a header in JSON, then the payloads it refers to, each aligned to 64
bytes.  Constants that are views of a file are stored as references to that file and mapped again when loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError
from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.graph.computed import ComputedTensor
from mace_core.graph.graph import Graph, Node, Value
from mace_core.graph.origin import Origin
from mace_core.tensor import (
    DType,
    FileRange,
    MapType,
    OptionalType,
    SequenceType,
    Tensor,
    TensorType,
    ValueType,
)
from mace_core.tensor.files import FileBytes, open_bytes

_MAGIC = b"MACEGR01"
_HEAD = struct.Struct("<8sQ")  # magic, length of the JSON header
_ALIGNMENT = 64

_KINDS = {kind.value: kind for kind in AttributeKind}
_DTYPES = {dtype.value: dtype for dtype in DType}

_DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, struct.error, RecursionError)
"""What Python raises for a stored graph that is none."""


def dump_graph(graph: Graph) -> bytes:
    """The graph as bytes.

    Constants with a ``FileRange`` are stored as references: whoever keeps the bytes must make sure that those files are
    still the same when they are loaded (``mace_core.frontend.warm`` does).
    """
    payloads = _Payloads()
    header = json.dumps(_Encoder(payloads.add).model(graph), separators=(",", ":")).encode()
    head = _HEAD.pack(_MAGIC, len(header)) + header
    return b"".join((head, bytes(-len(head) % _ALIGNMENT), *payloads.parts))


def load_graph(blob: bytes | memoryview, *, mmap: bool = True) -> Graph:
    """The graph that :func:`dump_graph` made bytes of; constants are views of ``blob`` and of the mapped files.

    Args:
        blob: the bytes.
        mmap: map the files that constants refer to; False reads those parts into memory.

    Raises:
        ModelError: if the bytes are damaged, or a file that constants refer to is missing or too short.
    """
    try:
        content = np.frombuffer(blob, np.uint8)
        magic, length = _HEAD.unpack_from(content.data)
        if magic != _MAGIC:
            raise ModelError("these bytes are not a stored graph of this version")
        start = _HEAD.size
        if start + length > content.size:
            raise ModelError("the stored graph is truncated")
        header = json.loads(bytes(content.data[start : start + length]))
        payloads = content[start + length + -(start + length) % _ALIGNMENT :]
        return _Decoder(payloads, mmap=mmap).model(header)
    except _DAMAGE as error:
        raise ModelError(f"the stored graph is damaged ({type(error).__name__}: {error})") from error


def encode_graph(graph: Graph, store: Callable[[Tensor], list[Any]]) -> dict[str, Any]:
    """The graph as an object for JSON, for who keeps constants elsewhere.

    Args:
        graph: the model.
        store: what stands for a constant; its first item is a text that `decode_graph` is to meet again.
    """
    return _Encoder(store).model(graph)


def decode_graph(document: Mapping[str, Any], read: Callable[[DType, tuple[int, ...], list[Any]], Tensor]) -> Graph:
    """The graph that `encode_graph` made an object of; it is not looked through.

    Args:
        document: the object.
        read: gives a constant from its element type, its shape, and what stands for it.

    Raises:
        ModelError: if it is none, or ``read`` raises what Python does for values that cannot be.
    """
    try:
        return _Decoder(np.empty(0, np.uint8), mmap=False, read=read).model(document)
    except _DAMAGE as error:
        raise ModelError(f"the stored graph is damaged ({type(error).__name__}: {error})") from error


def graph_fingerprint(graph: Graph) -> str:
    """A hexadecimal digest of everything in the graph but where it was loaded from (``source_path``) and comes from
    (``origins``).

    Constants that are views of a file count by the identity that this file had when it was opened and their place in
    it, which is cheap; others by their bytes.  So the same fingerprint means the same graph, but the same weights from
    another file give another fingerprint.
    """

    def identify(tensor: Tensor) -> list[Any]:
        source = tensor.source
        if source is not None and source.identity is not None and tensor.dtype is not DType.STRING:
            return ["f", source.identity, source.offset, source.nbytes]
        if tensor.dtype is DType.STRING:
            return ["s", [_encode_text(s) for s in tensor.payload.reshape(-1).tolist()]]
        return ["h", hashlib.blake2b(tensor.payload.data, digest_size=16).hexdigest()]

    encoded = _Encoder(identify).model(graph)
    del encoded["path"]
    encoded.pop("origins", None)
    text = json.dumps(encoded, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class _Payloads:
    """Payloads behind the header; the same array is stored once."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self._size = 0
        self._places: dict[int, int] = {}
        self._absolute: dict[str, str] = {}

    def add(self, tensor: Tensor) -> list[Any]:
        if tensor.dtype is DType.STRING:
            return ["s", [_encode_text(s) for s in tensor.payload.reshape(-1).tolist()]]
        source = tensor.source
        if source is not None:
            path = self._absolute.setdefault(source.path, str(Path(source.path).absolute()))
            return ["f", path, source.offset, source.nbytes]
        offset = self._places.get(id(tensor))
        if offset is None:
            offset = self._size
            payload = tensor.payload
            self.parts += (payload.data if payload.size else b"", bytes(-payload.nbytes % _ALIGNMENT))
            self._size += payload.nbytes + -payload.nbytes % _ALIGNMENT
            self._places[id(tensor)] = offset
        return ["b", offset, tensor.nbytes]


class _Encoder:
    """Graphs as JSON: values and types stand in tables and are referred to by number."""

    def __init__(self, store: Any) -> None:
        self._store = store  # Tensor -> list[Any]
        self._values: dict[Value, int] = {}
        self._value_rows: list[list[Any]] = []
        self._types: dict[ValueType, int] = {}
        self._type_rows: list[Any] = []
        self._computed: dict[int, int] = {}
        self._computed_rows: list[Any] = []

    def model(self, graph: Graph) -> dict[str, Any]:
        body = self._graph(graph)
        origins = [[name, *astuple(origin)] for name, origin in graph.origins.items()]
        return {
            **({"origins": origins} if origins else {}),
            "graph": body,
            "values": self._value_rows,
            "types": self._type_rows,
            "computed": self._computed_rows,
            "path": graph.source_path,
        }

    def _graph(self, graph: Graph) -> list[Any]:
        return [
            graph.name,
            graph.doc_string,
            graph.opset_imports,
            graph.metadata,
            [self._value(v) for v in graph.inputs],
            [[name, self._value(v)] for name, v in graph.initializers.items()],
            [self._node(node) for node in graph.nodes],
            [self._value(v) for v in graph.outputs],
            [[name, self._type(type)] for name, type in graph.defaults.items()],
        ]

    def _node(self, node: Node) -> list[Any]:
        return [
            node.op_type,
            node.domain,
            node.name,
            [-1 if v is None else self._value(v) for v in node.inputs],
            [-1 if v is None else self._value(v) for v in node.outputs],
            [[name, a.kind.value, self._plain(a.kind, a.value)] for name, a in node.attributes.items()],
            0 if node.source == (node.name,) else list(node.source),
        ]

    def _value(self, value: Value) -> int:
        number = self._values.get(value)
        if number is None:
            number = self._values[value] = len(self._value_rows)
            row = [value.name, -1 if value.type is None else self._type(value.type), None]
            self._value_rows.append(row)
            row[2] = None if value.constant is None else self._tensor(value.constant)
        return number

    def _type(self, type: ValueType) -> int:
        number = self._types.get(type)
        if number is None:
            row = _encode_type(type)
            number = self._types[type] = len(self._type_rows)
            self._type_rows.append(row)
        return number

    def _tensor(self, tensor: Tensor) -> list[Any]:
        stored = self._recipe(tensor) if isinstance(tensor, ComputedTensor) else self._store(tensor)
        return [tensor.dtype.value, list(tensor.shape), *stored]

    def _recipe(self, tensor: ComputedTensor) -> list[Any]:
        number = self._computed.get(id(tensor))
        if number is None:
            number = self._computed[id(tensor)] = len(self._computed_rows)
            self._computed_rows.append(None)
            self._computed_rows[number] = self._graph(tensor.recipe)
        return ["c", number]

    def _sparse(self, sparse: tuple[Tensor, Tensor, tuple[int, ...]]) -> list[Any]:
        values, indices, dims = sparse
        return [self._tensor(values), self._tensor(indices), list(dims)]

    def _plain(self, kind: AttributeKind, value: Any) -> Any:
        match kind:
            case AttributeKind.STRING:
                return _encode_text(value)
            case AttributeKind.STRINGS:
                return [_encode_text(s) for s in value]
            case AttributeKind.TENSOR:
                return self._tensor(value)
            case AttributeKind.TENSORS:
                return [self._tensor(t) for t in value]
            case AttributeKind.GRAPH:
                return self._graph(value)
            case AttributeKind.GRAPHS:
                return [self._graph(g) for g in value]
            case AttributeKind.SPARSE_TENSOR:
                return self._sparse(value)
            case AttributeKind.SPARSE_TENSORS:
                return [self._sparse(s) for s in value]
            case AttributeKind.TYPE:
                return _encode_type(value)
            case AttributeKind.TYPES:
                return [_encode_type(t) for t in value]
            case AttributeKind.FLOAT:
                return float(value)
            case AttributeKind.INT:
                return int(value)
            case AttributeKind.FLOATS:
                return [float(v) for v in value]
            case AttributeKind.INTS:
                return [int(v) for v in value]


class _Decoder:
    """The reverse of :class:`_Encoder`."""

    def __init__(
        self,
        payloads: npt.NDArray[np.uint8],
        *,
        mmap: bool,
        read: Callable[[DType, tuple[int, ...], list[Any]], Tensor] | None = None,
    ) -> None:
        self._payloads = payloads
        self._mmap = mmap
        self._read = read
        self._files: dict[str, FileBytes] = {}
        self._types: list[ValueType | None] = []
        self._values: list[Value | None] = []
        self._computed: dict[int, ComputedTensor] = {}

    def model(self, header: Mapping[str, Any]) -> Graph:
        types = [_decode_type(row) for row in header["types"]]
        self._types = [*types, None]  # -1 is "no type"
        values = [
            Value(name, self._types[type], None if constant is None else self._tensor(constant))
            for name, type, constant in header["values"]
        ]
        self._values = [*values, None]  # -1 is "left out"
        graph = self._graph(header["graph"])
        graph.source_path = header["path"]
        graph.origins = {name: _origin(*row) for name, *row in header.get("origins", ())}
        for number, tensor in list(self._computed.items()):
            tensor.recipe = self._graph(header["computed"][number])
        graph.computed = [self._computed[number] for number in sorted(self._computed)]
        return graph

    def _graph(self, row: list[Any]) -> Graph:
        name, doc, opsets, metadata, inputs, initializers, nodes, outputs, defaults = row
        graph = Graph(name)
        graph.doc_string = doc
        graph.opset_imports = opsets
        graph.metadata = metadata
        graph.inputs = [self._present(i) for i in inputs]
        graph.initializers = {key: self._present(i) for key, i in initializers}
        graph.nodes = [self._node(node) for node in nodes]
        graph.outputs = [self._present(i) for i in outputs]
        for key, number in defaults:
            type = self._types[number]
            if type is None:
                raise ValueError("a default has no type")
            graph.defaults[key] = type
        return graph

    def _present(self, number: int) -> Value:
        value = self._values[number]
        if value is None:
            raise ValueError("a value is left out where one must be")
        return value

    def _node(self, row: list[Any]) -> Node:
        op_type, domain, name, inputs, outputs, attributes, source = row
        values = self._values
        return Node(
            op_type,
            [values[i] for i in inputs],
            [values[i] for i in outputs],
            name=name,
            domain=domain,
            attributes={
                key: Attribute(_KINDS[kind], self._plain(_KINDS[kind], plain)) for key, kind, plain in attributes
            },
            source=None if source == 0 else tuple(source),
        )

    def _tensor(self, row: list[Any]) -> Tensor:
        dtype, shape = _DTYPES[row[0]], tuple(row[1])
        form = row[2]
        if form == "c":
            # the recipe is made of values, all of which are there when the graph is read
            return self._computed.setdefault(row[3], ComputedTensor(dtype, shape, Graph()))
        if self._read is not None:
            return self._read(dtype, shape, row[2:])
        if form == "s":
            strings = np.empty(len(row[3]), object)
            strings[:] = [_decode_text(s) for s in row[3]]
            return Tensor(dtype, shape, strings)
        if form == "b":
            offset, nbytes = row[3], row[4]
            return Tensor(dtype, shape, self._payloads[offset : offset + nbytes])
        path, offset, nbytes = row[3:]
        file = self._file(path)
        content = file.data
        if offset + nbytes > content.size:
            raise ModelError(
                f"the file '{path}' has {content.size} bytes, but weights were stored up to byte {offset + nbytes}: "
                "it has changed since"
            )
        if nbytes != dtype.nbytes(math.prod(shape)):
            raise ValueError("a stored size does not fit its shape")
        return Tensor(dtype, shape, content[offset : offset + nbytes], FileRange(path, offset, nbytes, file.identity))

    def _file(self, path: str) -> FileBytes:
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = open_bytes(Path(path), mmap=self._mmap, what="weight file")
        return file

    def _sparse(self, row: list[Any]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        return self._tensor(row[0]), self._tensor(row[1]), tuple(row[2])

    def _plain(self, kind: AttributeKind, plain: Any) -> Any:
        match kind:
            case AttributeKind.FLOAT | AttributeKind.INT:
                return plain
            case AttributeKind.FLOATS | AttributeKind.INTS:
                return tuple(plain)
            case AttributeKind.STRING:
                return _decode_text(plain)
            case AttributeKind.STRINGS:
                return tuple(_decode_text(s) for s in plain)
            case AttributeKind.TENSOR:
                return self._tensor(plain)
            case AttributeKind.TENSORS:
                return tuple(self._tensor(t) for t in plain)
            case AttributeKind.GRAPH:
                return self._graph(plain)
            case AttributeKind.GRAPHS:
                return tuple(self._graph(g) for g in plain)
            case AttributeKind.SPARSE_TENSOR:
                return self._sparse(plain)
            case AttributeKind.SPARSE_TENSORS:
                return tuple(self._sparse(s) for s in plain)
            case AttributeKind.TYPE:
                return _decode_type(plain)
            case AttributeKind.TYPES:
                return tuple(_decode_type(t) for t in plain)


def _origin(module: str, kind: str, file: str, line: int, code: str) -> Origin:
    if not all(isinstance(text, str) for text in (module, kind, file, code)) or not isinstance(line, int):
        raise ValueError("an origin is not made of texts and a number")
    return Origin(module, kind, file, line, code)


def _encode_text(text: str | bytes) -> Any:
    return text if isinstance(text, str) else [text.hex()]


def _decode_text(plain: Any) -> str | bytes:
    return plain if isinstance(plain, str) else bytes.fromhex(plain[0])


def _encode_type(type: ValueType) -> list[Any]:
    if isinstance(type, TensorType):
        return ["t", type.dtype.value, None if type.shape is None else list(type.shape)]
    if isinstance(type, SequenceType):
        return ["s", _encode_type(type.element)]
    if isinstance(type, OptionalType):
        return ["o", _encode_type(type.element)]
    return ["m", type.key.value, _encode_type(type.value)]


def _decode_type(row: list[Any]) -> ValueType:
    form = row[0]
    if form == "t":
        return TensorType(_DTYPES[row[1]], None if row[2] is None else tuple(row[2]))
    if form == "s":
        return SequenceType(_decode_type(row[1]))
    if form == "o":
        return OptionalType(_decode_type(row[1]))
    if form == "m":
        return MapType(_DTYPES[row[1]], _decode_type(row[2]))
    raise ValueError(f"unknown type form {form!r}")
