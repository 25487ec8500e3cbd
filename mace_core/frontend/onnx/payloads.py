"""Where a model that is written keeps the values of its constants: inside, or in a file beside it; never copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

import onnx

from mace_core.errors import ModelError
from mace_core.frontend.onnx.protos import write_payload
from mace_core.tensor import DType, Tensor

_EXTERNAL_FROM_BYTES = 1024
_PAGE_BYTES, _LINE_BYTES = 4096, 64  # alignment of large and small external payloads

_STREAMED_FROM_BYTES = 65536
"""Smaller payloads are copied into the message that is written."""

_LARGEST_MESSAGE = (1 << 31) - 1
"""Bytes that readers of protobuf take."""

_GRAPH_OF_MODEL, _INITIALIZER_OF_GRAPH, _RAW_DATA_OF_TENSOR = 7, 5, 9  # numbers of fields


class PayloadWriter(Protocol):
    """Puts the values of an initializer into its description, or beside it."""

    def __call__(self, tensor: Tensor, proto: onnx.TensorProto) -> None: ...


class ExternalPayloads:
    """Writes large payloads to a file, one after another."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        self._file = file
        self._location = location

    def __call__(self, tensor: Tensor, proto: onnx.TensorProto) -> None:
        if tensor.nbytes < _EXTERNAL_FROM_BYTES:
            write_payload(tensor, proto)
            return
        alignment = _PAGE_BYTES if tensor.nbytes >= 16 * _PAGE_BYTES else _LINE_BYTES
        self._file.write(bytes(-self._file.tell() % alignment))
        offset = self._file.tell()
        self._file.write(tensor.payload.data)
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self._location), ("offset", offset), ("length", tensor.nbytes)):
            proto.external_data.add(key=key, value=str(value))


class StreamedPayloads:
    """Keeps large payloads of the outermost graph out of the message, and writes them into their places in the file.

    protobuf would hold each payload twice meanwhile: in the message, and in its bytes.
    """

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def __call__(self, tensor: Tensor, proto: onnx.TensorProto) -> None:
        if tensor.dtype is DType.STRING or tensor.nbytes < _STREAMED_FROM_BYTES:
            write_payload(tensor, proto)
        else:
            self._tensors[proto.name] = tensor

    def size(self, model: onnx.ModelProto) -> int:
        """At most so many bytes does the model take, in one file or two; it is less by no more than 128 a weight."""
        return int(model.ByteSize()) + sum(tensor.nbytes + 128 for tensor in self._tensors.values())

    def write(self, model: onnx.ModelProto, file: BinaryIO) -> None:
        """Write the model that was exported with this; its message loses its graph.

        Raises:
            ModelError: if it is too large for one file.
        """
        heads = [(proto.name, proto.SerializeToString()) for proto in model.graph.initializer]
        del model.graph.initializer[:]
        rest = model.graph.SerializeToString()
        model.ClearField("graph")
        tensors = [(head, self._tensors.get(name)) for name, head in heads]
        size = len(rest) + sum(len(part) for head, tensor in tensors for part in _tensor_head(head, tensor))
        size += sum(tensor.nbytes for _, tensor in tensors if tensor is not None)
        frame = model.SerializeToString()
        if len(frame) + size > _LARGEST_MESSAGE - 16:
            raise ModelError(
                f"the model of {(len(frame) + size) / 2**30:.1f} GiB does not fit into one file: "
                "save it with external_data=True"
            )
        file.write(frame + _field(_GRAPH_OF_MODEL, size) + rest)
        for head, tensor in tensors:
            for part in _tensor_head(head, tensor):
                file.write(part)
            if tensor is not None:
                file.write(tensor.payload.data)


def _tensor_head(head: bytes, tensor: Tensor | None) -> Iterator[bytes]:
    """What stands in a graph before the payload of an initializer, whose other fields are ``head``."""
    before = b"" if tensor is None else _field(_RAW_DATA_OF_TENSOR, tensor.nbytes)
    payload = 0 if tensor is None else tensor.nbytes
    yield _field(_INITIALIZER_OF_GRAPH, len(head) + len(before) + payload)
    yield head
    yield before


def _field(number: int, length: int) -> bytes:
    """The beginning of a field of protobuf whose content has ``length`` bytes."""
    return bytes([number << 3 | 2]) + _varint(length)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
