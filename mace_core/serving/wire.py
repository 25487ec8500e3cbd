"""Raw contents of tensors in messages of gRPC, taken out and put in without protobuf copying them.

A message is a list of fields, each a tag and its data (https://protobuf.dev/programming-guides/encoding/).  Where the
data is a tensor, protobuf would copy it into the message and then again for whoever reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.serving.failures import bad_request
from mace_core.serving.tensors import Buffer

RAW_INPUTS = 7
"""The field ``raw_input_contents`` of ``ModelInferRequest``."""

RAW_OUTPUTS = 6
"""The field ``raw_output_contents`` of ``ModelInferResponse``."""

VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5
"""Kinds of fields: what their data looks like."""


def taken_out(data: bytes, field: int) -> tuple[bytes, list[memoryview]]:
    """A message without those of its outermost fields that have a number and are bytes, and views of them.

    Raises:
        ServingError: if it is no message.
    """
    view = memoryview(data)
    rest: list[memoryview] = []
    found: list[memoryview] = []
    at = kept = 0  # everything before the second one is in one of the lists
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            _, at = _varint(data, at)
        elif kind == LENGTH:
            length, at = _varint(data, at)
            if tag >> 3 == field and length <= len(data) - at:
                found.append(view[at : at + length])
                rest.append(view[kept:start])
                kept = at + length
            at += length
        elif kind in (FIXED_64, FIXED_32):
            at += 8 if kind == FIXED_64 else 4
        else:
            raise _no_message()
    if at != len(data):
        raise _no_message()
    rest.append(view[kept:])
    return b"".join(rest), found


def put_in(message: bytes, field: int, contents: Sequence[Buffer]) -> bytes:
    """A message with ``contents`` as one more field each."""
    pieces: list[Buffer] = [message]
    for each in contents:
        pieces += (_as_varint(field << 3 | LENGTH) + _as_varint(len(each)), each)
    return b"".join(pieces)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    found = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
    raise _no_message()


def _as_varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _no_message() -> Exception:
    return bad_request("the request is no message of the protocol")
