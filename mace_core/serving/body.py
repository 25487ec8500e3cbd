"""The body of an HTTP request, read into memory that tensors can be views of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from mace_core.serving.failures import Fault, ServingError, bad_request
from mace_core.serving.rest import JSON_LENGTH

Receive = Callable[[], Awaitable[Any]]

ALIGNMENT = 64
"""Bytes; where the binary data begins, so that no tensor has to be copied to be computed with."""

LINGER = 2.0
"""Seconds in which the rest of a refused body is read, or the client would not get to read why it is refused."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole; nobody is there to be answered."""


def header_number(headers: Mapping[str, str], name: str) -> int | None:
    """A header that counts bytes; None where it is not sent.

    Raises:
        ServingError: if it is no number.
    """
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise bad_request(f"the header {name} must be a number of bytes")
    return int(text)


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int, timeout: float) -> memoryview:
    """The whole body.

    Args:
        limit: bytes at most.
        timeout: seconds for all of it.

    Raises:
        ServingError: if it is too large, too slow, or compressed.
        ClientGoneError: if there is no client any more.
    """
    length = header_number(headers, "content-length")
    json_length = header_number(headers, JSON_LENGTH)
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        await _linger(receive)
        raise ServingError(Fault.WRONG_MEDIA, f"bodies must not be compressed, and this one is ({encoding[:40]})")
    if length is not None and length > limit:
        await _linger(receive)
        raise _too_large(limit)
    try:
        async with asyncio.timeout(timeout):
            if length is None:
                return await _read_unknown(receive, json_length or 0, limit)
            return await _read_known(receive, _room(length, json_length or 0))
    except TimeoutError as error:
        raise ServingError(Fault.TOO_SLOW, f"the request did not come within {timeout:g} s") from error


def _room(length: int, json_length: int) -> memoryview:
    """Memory whose byte number ``json_length`` is aligned."""
    memory = np.empty(length + ALIGNMENT, np.uint8)
    start = -(memory.ctypes.data + json_length) % ALIGNMENT
    return memory.data[start : start + length]


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message.get("body", b""), message.get("more_body", False)


async def _read_known(receive: Receive, room: memoryview) -> memoryview:
    at, more = 0, True
    while more:
        chunk, more = await _chunk(receive)
        room[at : at + len(chunk)] = chunk
        at += len(chunk)
    return room[:at]


async def _read_unknown(receive: Receive, json_length: int, limit: int) -> memoryview:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        chunk, more = await _chunk(receive)
        size += len(chunk)
        if size > limit:
            await _linger(receive)
            raise _too_large(limit)
        chunks.append(chunk)
    room = _room(size, json_length)
    room[:] = b"".join(chunks)
    return room


def _too_large(limit: int) -> ServingError:
    return ServingError(Fault.TOO_LARGE, f"the request has more than {limit} bytes, the most that this server takes")


async def _linger(receive: Receive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await _chunk(receive))[1]:
                pass
