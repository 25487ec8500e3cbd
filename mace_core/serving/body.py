"""The body of an HTTP request, read into memory that tensors can be views of."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.serving.failures import ClientGoneError, Fault, ServingError, bad_request
from mace_core.serving.rest import JSON_LENGTH

if TYPE_CHECKING:
    from mace_core.serving.connections import Peer

Receive = Callable[[], Awaitable[Any]]

ALIGNMENT = 64
"""Bytes; where the binary data begins, so that no tensor has to be copied to be computed with."""

LINGER = 2.0
"""Seconds in which the rest of a refused body is read, or the client would not get to read why it is refused."""


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


async def read_body(receive: Receive, peer: Peer, headers: Mapping[str, str], limit: int, timeout: float) -> memoryview:
    """The whole body; one whose length is told is written where it stays, and not copied.

    Args:
        limit: bytes at most.
        timeout: seconds for all of it.

    Raises:
        ServingError: if it is too large, too slow, or compressed in a way that is not known.
        ClientGoneError: if there is no client any more.
    """
    length = header_number(headers, "content-length")
    json_length = header_number(headers, JSON_LENGTH)
    incoming = _Incoming(receive)
    try:
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in ENCODINGS:
            raise ServingError(
                Fault.WRONG_MEDIA,
                f"bodies may be compressed with gzip or deflate, and this one is with {encoding[:40]}",
            )
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise ServingError(Fault.WRONG_MEDIA, "bodies may come in chunks, and encoded in no other way")
        if length is not None and length > limit:
            raise _too_large(limit)
        if length is None:
            async with asyncio.timeout(timeout):
                body = await _read_unknown(incoming, json_length or 0, limit)
        else:
            body = _room(length, json_length or 0)
            await peer.read_into(body, timeout)
        if encoding == "identity":
            return body
        return await asyncio.to_thread(_unpacked, body, json_length or 0, limit)
    except TimeoutError as error:
        raise ServingError(Fault.TOO_SLOW, f"the request did not come within {timeout:g} s") from error
    except ServingError:
        await _linger(incoming)
        raise


def _room(length: int, json_length: int) -> memoryview:
    """Memory whose byte number ``json_length`` is aligned."""
    memory = np.empty(length + ALIGNMENT, np.uint8)
    address: int = memory.__array_interface__["data"][0]  # ten times as fast as ``.ctypes.data``
    start = -(address + json_length) % ALIGNMENT
    return memory.data[start : start + length]


ENCODINGS = ("identity", "gzip", "deflate")

GZIP_OR_ZLIB = 47
"""For zlib: any window, and the header tells which of both it is."""


class _Incoming:
    """The pieces of a body.

    Attributes:
        more: whether it goes on.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.more = True

    async def piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        self.more = message.get("more_body", False)
        found: bytes = message.get("body", b"")
        return found


async def _read_unknown(incoming: _Incoming, json_length: int, limit: int) -> memoryview:
    pieces: list[bytes] = []
    size = 0
    while incoming.more:
        pieces.append(await incoming.piece())
        size += len(pieces[-1])
        if size > limit:
            raise _too_large(limit)
    room = _room(size, json_length)
    room[:] = b"".join(pieces)
    return room


def _unpacked(body: memoryview, json_length: int, limit: int) -> memoryview:
    """What a compressed body holds; no more of it is unpacked than may be."""
    unpacking = zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        found = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise bad_request("the body is not compressed as its header says") from error
    if len(found) > limit:
        raise _too_large(limit)
    if not unpacking.eof or unpacking.unused_data:
        raise bad_request("the compressed body ends too early, or goes on behind its end")
    room = _room(len(found), json_length)
    room[:] = found
    return room


def _too_large(limit: int) -> ServingError:
    return ServingError(Fault.TOO_LARGE, f"the request has more than {limit} bytes, the most that this server takes")


async def _linger(incoming: _Incoming) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while incoming.more:
                await incoming.piece()
