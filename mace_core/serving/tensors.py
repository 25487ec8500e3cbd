"""Tensors in the forms of the protocol: little-endian bytes, and lists of JSON."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.serving.datatypes import BYTES, numpy_type
from mace_core.serving.failures import bad_request

MAX_DIMENSIONS = 64
"""Of numpy."""

Array = npt.NDArray[Any]
Buffer = bytes | bytearray | memoryview


def checked_shape(shape: object, where: str) -> tuple[int, ...]:
    """A shape that a client states.

    Raises:
        ServingError: if it is none.
    """
    if (
        not isinstance(shape, Sequence)
        or isinstance(shape, str)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape)
    ):
        raise bad_request(f"{where}: 'shape' must be a list of whole numbers that are not negative")
    return tuple(shape)


def from_bytes(data: Buffer, datatype: object, shape: tuple[int, ...], where: str) -> Array:
    """A view of ``data`` where its address suits the type, else a copy.

    Raises:
        ServingError: if it has not as many bytes as the shape asks for.
    """
    dtype = numpy_type(datatype, where)
    if dtype.hasobject:
        return _strings_from_bytes(data, shape, where)
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise bad_request(
            f"{where}: {datatype} of shape {_shown(shape)} has {_number(wanted)} bytes, and {len(data)} were sent"
        )
    if not wanted:
        return _reshaped(np.empty(0, dtype), shape, where)
    array = np.frombuffer(data, np.uint8)
    if dtype == np.bool_ and array.max() > 1:
        raise bad_request(f"{where}: elements of {datatype} are bytes of 0 or 1")
    array = array.view(dtype)
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def _strings_from_bytes(data: Buffer, shape: tuple[int, ...], where: str) -> Array:
    """Each element: its length as four little-endian bytes, then its UTF-8."""
    count = math.prod(shape)
    if 4 * count > len(data):
        raise bad_request(f"{where}: BYTES of shape {_shown(shape)} has {_number(count)} elements, and fewer were sent")
    found: list[str] = []
    at, end = 0, len(data)
    for _ in range(count):
        if at + 4 > end:
            raise bad_request(f"{where}: the data ends within an element")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if length > end - at:
            raise bad_request(f"{where}: the data ends within an element")
        found.append(_text(bytes(data[at : at + length]), where))
        at += length
    if at != end:
        raise bad_request(f"{where}: {end - at} bytes are left after {count} elements")
    return strings(found, shape, where)


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request(f"{where}: elements of BYTES must be UTF-8") from error


def strings(items: Sequence[str | bytes], shape: tuple[int, ...], where: str) -> Array:
    """An array of strings.

    Raises:
        ServingError: if there are not as many as the shape asks for, or one is not UTF-8.
    """
    if len(items) != math.prod(shape):
        raise _wrong_count(BYTES, shape, len(items), where)
    array = np.empty(len(items), object)
    array[:] = [_text(item, where) if isinstance(item, bytes) else item for item in items]
    return _reshaped(array, shape, where)


def from_list(data: object, datatype: object, shape: tuple[int, ...], where: str) -> Array:
    """The tensor that JSON, or a field of a message, has as a list, flat or nested.

    Raises:
        ServingError: for elements of another type or out of its range, and another number of them.
    """
    dtype = numpy_type(datatype, where)
    if not isinstance(data, list):
        raise bad_request(f"{where}: 'data' must be a list")
    try:
        nested = np.array(data, object)  # not a type of numpy's choice: one long string would make all elements long
    except (ValueError, OverflowError) as error:
        raise bad_request(f"{where}: 'data' must be a flat list, or lists nested like the shape") from error
    if nested.size != math.prod(shape):
        raise _wrong_count(datatype, shape, nested.size, where)
    if nested.ndim > 1 and nested.shape != shape:
        raise bad_request(f"{where}: 'data' is nested as {_shown(nested.shape)}, and 'shape' is {_shown(shape)}")
    flat = nested.reshape(-1).tolist()
    if not set(map(type, flat)) <= _PYTHON_TYPES[dtype.kind]:
        raise bad_request(f"{where}: 'data' has elements that are no {datatype}")
    if dtype.hasobject:
        return strings(flat, shape, where)
    return _reshaped(_numbers(flat, dtype, datatype, where), shape, where)


_PYTHON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}, "V": {int, float}}
_PYTHON_TYPES["O"] = {str}


def _numbers(flat: list[Any], dtype: np.dtype[Any], datatype: object, where: str) -> Array:
    is_narrow = dtype.kind == "V" or (dtype.kind == "f" and dtype.itemsize < 4)
    try:
        with np.errstate(over="ignore"):
            found = np.array(flat, np.float64).astype(dtype) if is_narrow else np.array(flat, dtype)
    except OverflowError as error:
        raise bad_request(f"{where}: 'data' has elements out of the range of {datatype}") from error
    if dtype.kind in "fV" and not np.isfinite(found).all():
        raise bad_request(f"{where}: 'data' has elements out of the range of {datatype}")
    return found


def _reshaped(array: Array, shape: tuple[int, ...], where: str) -> Array:
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:  # numpy counts the bytes of what is not there
        raise bad_request(f"{where}: the shape {_shown(shape)} is too large") from error


def _wrong_count(datatype: object, shape: tuple[int, ...], count: int, where: str) -> Exception:
    return bad_request(
        f"{where}: {datatype} of shape {_shown(shape)} has {_number(math.prod(shape))} elements, and {count} were sent"
    )


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape[:8]))}{', …' if len(shape) > 8 else ''}]"


def _number(count: int) -> str:
    return str(count) if count < 1 << 63 else "more than 2**63"


def to_bytes(array: Array) -> Buffer:
    """The elements in row-major order, little-endian; a view where they lie like that."""
    if array.dtype.hasobject:
        parts: list[bytes] = []
        for item in array.reshape(-1).tolist():
            data = item if isinstance(item, bytes) else str(item).encode("utf-8", "surrogateescape")
            parts += (struct.pack("<I", len(data)), data)
        return b"".join(parts)
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def to_list(array: Array, name: str) -> list[Any]:
    """The elements in row-major order, for JSON.

    Raises:
        ServingError: for what JSON cannot say: numbers that are not finite, strings that are not UTF-8.
    """
    flat = array.reshape(-1)
    if array.dtype.hasobject:
        try:
            return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in flat.tolist()]
        except UnicodeDecodeError as error:
            raise bad_request(f"the output '{name}' is not UTF-8: ask for it as binary data") from error
    if array.dtype.kind not in "biu":
        flat = flat.astype(np.float64) if array.dtype.kind == "V" or array.dtype.itemsize < 4 else flat
        if not np.isfinite(flat).all():
            raise bad_request(
                f"the output '{name}' has numbers that are not finite, which JSON cannot say: ask for it as binary data"
            )
    return list(flat.tolist())
