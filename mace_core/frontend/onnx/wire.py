"""A scanner of the protobuf wire format that takes tensor payloads out of an ONNX model without copying them.

The onnx library copies every payload it parses.  Here the mapped file is walked once: messages that can hold tensors
are entered, and a payload found in one is replaced by its place in the file.  What is left, the *stripped* model, is
small and parsed by the onnx library as usual.

The place is written into the tensor's ``segment`` field as ``begin = -1 - offset`` and ``end = offset + length``.  ONNX
uses ``segment`` with non-negative numbers only (and nobody reads it), so the two cannot be confused.
"""

from __future__ import annotations

from typing import Final

MODEL: Final = 0
GRAPH: Final = 1
NODE: Final = 2
ATTRIBUTE: Final = 3
TENSOR: Final = 4
SPARSE: Final = 5
FUNCTION: Final = 6
DROPPED: Final = 7

# Which fields of a message can hold tensors, and what they are.
_CHILDREN: Final[tuple[dict[int, int], ...]] = (
    {7: GRAPH, 20: DROPPED, 25: FUNCTION},  # 20: training information, of no use to inference
    {1: NODE, 5: TENSOR, 15: SPARSE},
    {5: ATTRIBUTE},
    {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    {},
    {1: TENSOR, 2: TENSOR},
    {7: NODE, 11: ATTRIBUTE},
)

# Fields of a ModelProto and how they are written: numbers (0) and messages or text (2).
_MODEL_FIELDS: Final = {1: 0, 5: 0, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), 2)}

_TELLING_FIELDS: Final = frozenset({1, 7, 8})
"""The version of the format, the graph and the opsets: a model has one of them at least."""

_LAST_FIELD: Final = (1 << 29) - 1
"""Of protobuf."""

LOOKED_AT_BYTES: Final = 4096
"""More than these are looked at only to find a telling field."""

SMALL_BYTES: Final = 128
"""Messages shorter than this are left as they are: copying them costs less than taking them apart."""

MAX_DEPTH: Final = 100  # what protobuf's own parsers allow

_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA = 9, 4, 10
_SEGMENT_TAG: Final = b"\x1a"


class WireError(ValueError):
    """The bytes are not a protobuf message; the text says why and at which byte."""


def strip(buffer: memoryview) -> bytes:
    """The model in ``buffer`` without its training information and large tensor payloads.

    Raises:
        WireError: if the bytes are no protobuf message.
    """
    try:
        stripped = _strip(buffer, MODEL, 0, len(buffer), 0)
    except IndexError:
        raise WireError(f"it ends in the middle of a field (at byte {len(buffer)})") from None
    return bytes(buffer) if stripped is None else stripped


def looks_like_model(head: bytes) -> bool:
    """Whether ``head``, the first bytes of something, are fields of a ModelProto (the last one may be cut off).

    Fields that are not known are passed over, as every reader of protobuf does; one that every model has must be met.
    """
    buffer = memoryview(head)
    position = 0
    is_telling = False
    try:
        while position < len(buffer) and not (is_telling and position > LOOKED_AT_BYTES):
            start = position
            tag, position = _varint(buffer, position)
            field, wire_type = tag >> 3, tag & 7
            if _MODEL_FIELDS.get(field, wire_type) != wire_type or field > _LAST_FIELD:
                return False
            if wire_type == 2:
                length, position = _varint(buffer, position)
                position += length
            else:
                position = _skip(buffer, tag, start, position)
            is_telling = is_telling or field in _TELLING_FIELDS
    except WireError:
        return False
    except IndexError:
        pass
    return is_telling


def payload_range(begin: int, end: int) -> tuple[int, int] | None:
    """Offset and length of the payload that a ``segment`` of a stripped tensor stands for; None for a real segment."""
    if begin >= 0:
        return None
    offset = -1 - begin
    return offset, end - offset


def _strip(buffer: memoryview, kind: int, begin: int, end: int, depth: int) -> bytes | None:
    """The message at ``begin:end`` without its payloads, or None if it has none and can stay as it is."""
    if depth > MAX_DEPTH:
        raise WireError(f"its messages are nested more than {MAX_DEPTH} deep (at byte {begin})")
    if kind == TENSOR:
        return _strip_tensor(buffer, begin, end)
    children = _CHILDREN[kind]
    parts: list[bytes | memoryview] = []
    kept = begin  # everything from here on is not in parts yet
    position = begin
    while position < end:
        start = position
        tag = buffer[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(buffer, start)
        wire_type = tag & 7
        if wire_type == 2:
            length = buffer[position]
            position += 1
            if length >= 0x80:
                length, position = _varint(buffer, position - 1)
            stop = position + length
            if stop > end:
                raise WireError(f"a field of {length} bytes at byte {start} does not fit into what is left of the file")
            child = children.get(tag >> 3)
            if child == DROPPED:
                parts.append(buffer[kept:start])
                kept = stop
            elif child is not None and length >= SMALL_BYTES:
                stripped = _strip(buffer, child, position, stop, depth + 1)
                if stripped is not None:
                    parts += (buffer[kept:start], _encode_varint(tag), _encode_varint(len(stripped)), stripped)
                    kept = stop
            position = stop
        else:
            position = _skip(buffer, tag, start, position)
    if position != end:
        raise WireError(f"a message does not end where it says (at byte {end})")
    if kept == begin:
        return None
    parts.append(buffer[kept:end])
    return b"".join(parts)


def _strip_tensor(buffer: memoryview, begin: int, end: int) -> bytes | None:
    """A TensorProto whose payload stands in one piece as stored bytes, with its place instead; None for others."""
    found: list[tuple[int, int, int, int]] = []  # field, start of field, start and end of payload
    data_type = 0
    mixed = False  # values one by one, which protobuf allows for repeated fields
    position = begin
    while position < end:
        start = position
        tag, position = _varint(buffer, position)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == 2:
            length, position = _varint(buffer, position)
            stop = position + length
            if stop > end:
                raise WireError(f"a field of {length} bytes at byte {start} does not fit into what is left of the file")
            if field in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA):
                found.append((field, start, position, stop))
            position = stop
        else:
            if field == 2 and wire_type == 0:
                data_type, _ = _varint(buffer, position)
            mixed = mixed or field in (_FLOAT_DATA, _DOUBLE_DATA)
            position = _skip(buffer, tag, start, position)
    if position != end:
        raise WireError(f"a message does not end where it says (at byte {end})")
    if len(found) != 1 or mixed:
        return None
    field, start, payload, stop = found[0]
    stored_as_is = (
        field == _RAW_DATA
        or (field == _FLOAT_DATA and data_type in (1, 14))
        or (field == _DOUBLE_DATA and data_type in (11, 15))
    )
    if not stored_as_is or stop - payload < SMALL_BYTES:
        return None
    segment = b"\x08" + _encode_varint((1 << 64) - 1 - payload) + b"\x10" + _encode_varint(stop)
    return b"".join((buffer[begin:start], _SEGMENT_TAG, _encode_varint(len(segment)), segment, buffer[stop:end]))


def _skip(buffer: memoryview, tag: int, start: int, position: int) -> int:
    """Where the field with ``tag``, whose value begins at ``position``, ends."""
    wire_type = tag & 7
    if tag >> 3 == 0:
        raise WireError(f"there is no field number 0 (at byte {start})")
    if wire_type == 0:
        return _varint(buffer, position)[1]
    if wire_type == 5:
        return position + 4
    if wire_type == 1:
        return position + 8
    raise WireError(f"byte {start} begins no field of a model")


def _varint(buffer: memoryview, position: int) -> tuple[int, int]:
    """The number at ``position`` and where it ends."""
    byte = buffer[position]
    if byte < 0x80:
        return byte, position + 1
    start = position
    value = byte & 0x7F
    shift = 7
    while True:
        position += 1
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
        if shift > 63:
            raise WireError(f"a number is longer than 64 bits (at byte {start})")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append((value & 0x7F) | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
