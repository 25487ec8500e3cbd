"""Connections of HTTP: what a client may send and for how long, and bodies that are written where they are to lie.

Uvicorn's protocol parses requests and runs the application.  Two classes are put around it:

- `Http` is that protocol, and says what is wrong with a request in the words of the Open Inference Protocol.
- `Connection` is what the loop sees.  It takes what comes into a small buffer of its own and gives it to `Http`; the
  body of a request it takes into the memory that the application names (`Peer.read_into`), so that it is not copied.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mace_core.serving.failures import ClientGoneError, bad_request
from mace_core.serving.http import PEER

PIECE = 1 << 13
"""Bytes that are taken at once where no memory is named for them: a request's head, and a little of its body."""

MAX_HEAD = 1 << 16
"""Bytes of a request's line and headers, and of what stands between the pieces of a body that comes in chunks."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of connections.

    Attributes:
        seconds: from the first byte of a request, or from the connection's beginning, to the end of the request's
            headers; and for a client to take what waits to be sent.
        most: connections at a time.
    """

    seconds: float
    most: int


class Peer:
    """The client of one request."""

    def __init__(self, http: Http, cycle: Any) -> None:
        self._http = http
        self._cycle = cycle
        self._leaving: Callable[[], object] = _nothing

    @property
    def is_gone(self) -> bool:
        """Whether it closed its connection."""
        return bool(self._cycle.disconnected)

    @property
    def is_answered(self) -> bool:
        """Whether its request is done with."""
        return bool(self._cycle.response_complete)

    def when_gone(self, call: Callable[[], object]) -> None:
        """Have ``call`` called if it closes its connection before it is answered."""
        self._leaving = call

    def leave(self) -> None:
        """Its connection is closed."""
        if not self.is_answered:
            self._cycle.disconnected = True
            self._cycle.message_event.set()
            self._leaving()

    async def read_into(self, room: memoryview, timeout: float) -> None:
        """Read the body, whose length is known and is that of ``room``.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: if it does not come in time.
            ClientGoneError: if the connection is closed before.
            ServingError: if the body has another length; what lies in ``room`` is never taken for it.
        """
        cycle = self._cycle
        if self.is_gone:
            raise ClientGoneError
        count = len(cycle.body)
        if count > len(room) or (count < len(room) and not cycle.more_body):
            raise bad_request(f"the body has {count} bytes, and {len(room)} were announced")
        room[:count] = cycle.body
        cycle.body = bytearray()
        cycle.message_event.clear()
        if not cycle.more_body:
            return
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self._http.connection.take(room[count:], timeout)

    def answer_and_close(self) -> None:
        """Have its connection closed once it is answered."""
        self._cycle.keep_alive = False

    @property
    def is_sending(self) -> bool:
        """Whether its body has not ended."""
        return bool(self._cycle.more_body)


class Http(HttpToolsProtocol):  # type: ignore[misc]
    """Uvicorn's protocol.

    Attributes:
        connection: what it is part of.
        fed: bytes that were parsed since there was a request's head or a piece of a body.
        has_head: a request's head was just read.
        peers: of the requests that are not answered yet.
    """

    connection: Connection
    fed: int = 0
    has_head: bool = False

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.peers: list[Peer] = []

    def data_received(self, data: Any) -> None:
        self._unset_keepalive_if_required()
        self.fed += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._do_not_upgrade(bytes(data[upgrade.args[0] :]))
        except HttpParserError:
            self.refuse(400, "this is no request of HTTP/1.1")
        else:
            if self.fed > MAX_HEAD:
                self.refuse(431, f"the headers of a request may have {MAX_HEAD} bytes at most")

    def _do_not_upgrade(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol: with it, the parser takes the body for that."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.refuse(400, "this server is no proxy")
            return
        version = self.parser.get_http_version().encode()
        head = [method, b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                value = b"close" if b"close" in value.lower() else b"keep-alive"
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self.begin_anew()
        self.data_received(b"".join((*head, b"\r\n", rest)))

    def begin_anew(self) -> None:
        """The next byte is the first of a request."""
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.fed = 0

    def body_is_read(self) -> None:
        """The body of the last request was read, and the parser did not see it."""
        self.cycle.more_body = False
        self.begin_anew()

    def refuse(self, status: int, reason: str) -> None:
        """Answer what cannot be read, and close; requests before it are answered first."""
        waiting = [peer for peer in self.peers if not peer.is_answered]
        if waiting and waiting[-1].is_sending:  # it is the body of this one that is wrong
            waiting.pop().leave()
        if waiting:
            for peer in waiting:
                peer.answer_and_close()
            self.connection.read_no_more()
            return
        text = json.dumps({"error": reason}).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)
        self.connection.end()

    def timeout_keep_alive_handler(self) -> None:
        self.connection.end()

    # --- called by the parser -------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self.fed = 0
        self.peers = [peer for peer in self.peers if not peer.is_answered]
        self.peers.append(Peer(self, self.cycle))
        self.scope["extensions"] = {PEER: self.peers[-1]}
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self.fed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.fed = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.connection.end()


class Connection(asyncio.BufferedProtocol):
    """A client's connection."""

    def __init__(self, limits: Limits, **given: Any) -> None:
        """
        Args:
            given: as uvicorn makes a protocol.
        """
        self._limits = limits
        self._http = Http(**given)
        self._http.connection = self
        self._loop: asyncio.AbstractEventLoop = self._http.loop
        self._piece = memoryview(bytearray(PIECE))
        self._room: memoryview | None = None  # for the rest of a body
        self._taken: asyncio.Future[None] | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._is_ended = False

    # --- called by the loop ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._http.connection_made(transport)
        if len(self._http.connections) > self._limits.most:
            self._http.refuse(503, f"{self._limits.most} connections are open already; try again later")
        self._wait_for_head()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._room = None
        if self._taken is not None and not self._taken.done():
            self._taken.set_exception(ClientGoneError())
        for peer in self._http.peers:
            peer.leave()
        self._http.connection_lost(error)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._piece if self._room is None else self._room

    def buffer_updated(self, count: int) -> None:
        if self._room is not None:
            self._fill(count)
        elif not self._is_ended:
            self._read(count)

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()
        self._write_timer = self._loop.call_later(self._limits.seconds, self._transport.abort)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._http.resume_writing()

    # --- what comes -----------------------------------------------------------------------------------------------

    def _read(self, count: int) -> None:
        if self._head_timer is None and self._is_between():
            self._wait_for_head()
        self._http.data_received(self._piece[:count])
        if not self._is_between():
            self._stop_waiting()
        if self._http.has_head:
            self._http.has_head = False
            if self._http.cycle.more_body:  # the application says where it is to lie, if it wants it
                self._http.flow.pause_reading()

    async def take(self, room: memoryview, timeout: float) -> None:
        """Have what comes next written into ``room``, until it is full.

        Raises:
            TimeoutError: if it is not full in time.
            ClientGoneError: if the connection is closed before.
        """
        self._room = room
        self._taken = taken = self._loop.create_future()
        timer = self._loop.call_later(timeout, _too_late, taken)
        self._http.flow.resume_reading()
        try:
            await taken
        finally:
            timer.cancel()
            if self._room is not None:  # the rest of the body means nothing to anybody
                self._room = None
                self.read_no_more()
            self._taken = None

    def _fill(self, count: int) -> None:
        assert self._room is not None
        if count < len(self._room):
            self._room = self._room[count:]
            return
        self._room = None
        self._http.body_is_read()
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    # --- time -----------------------------------------------------------------------------------------------------

    def _is_between(self) -> bool:
        """Whether no request is being read or answered."""
        cycle = self._http.cycle
        return cycle is None or bool(cycle.response_complete)

    def _wait_for_head(self) -> None:
        self._head_timer = self._loop.call_later(self._limits.seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self._is_between():
            self.end()

    def read_no_more(self) -> None:
        """Whatever else comes is thrown away."""
        self._is_ended = True

    def end(self) -> None:
        """Close; what waits to be sent is given up if the client does not take it in time."""
        self.read_no_more()
        if self._end_timer is None:
            self._transport.close()
            self._end_timer = self._loop.call_later(self._limits.seconds, self._transport.abort)


def _too_late(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _nothing() -> None:
    """Nobody wants to know."""
