"""HTTP as it comes over a connection: several requests, bodies in any pieces, and what is no HTTP at all."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import pytest

from mace_core import Session
from mace_core.serving import ModelServer, ServerOptions
from mace_core.serving.connections import MAX_HEAD, PIECE
from mace_core.serving.server import BACKLOG

from .conftest import DATATYPES, Client, echo, talk

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
"""What clients send that would rather speak HTTP/2, like Java's."""

CLOSE = b"Connection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def document(name: str, padding: int = 0) -> bytes:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]
    return json.dumps({"inputs": inputs, "id": name}).encode() + b" " * padding


def head(headers: bytes = b"", path: bytes = b"/v2/models/FP32/infer", version: bytes = b"1.1") -> bytes:
    return b"POST " + path + b" HTTP/" + version + b"\r\nHost: a\r\n" + headers + b"\r\n"


def request(body: bytes, headers: bytes = b"", path: bytes = b"/v2/models/FP32/infer") -> bytes:
    return head(b"Content-Length: %d\r\n" % len(body) + headers, path) + body


def chunks(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def names(answers: bytes) -> list[str]:
    """Of the requests that were answered well, in the order of the answers."""
    return [name.decode() for name in re.findall(rb'"data":\[1\.0,2\.0\]\}\],"id":"(\w+)"', answers)]


@pytest.fixture(autouse=True)
def still_serves(server: ModelServer) -> Iterator[None]:
    yield
    assert names(talk(server, request(document("after"), CLOSE))) == ["after"]


@pytest.mark.parametrize("padding", [0, PIECE, 40 * PIECE])
def test_requests_that_follow_each_other_are_answered_in_their_order(server: ModelServer, padding: int) -> None:
    """All are sent before the first answer is read; bodies end within the first piece that is read, or long after."""
    sent = [request(document(f"r{i}", padding + i)) for i in range(4)]
    found = talk(server, b"".join(sent) + request(document("last"), CLOSE))
    assert names(found) == ["r0", "r1", "r2", "r3", "last"]


@pytest.mark.parametrize("size", [1, 7, PIECE])
def test_requests_that_come_in_pieces(server: ModelServer, size: int) -> None:
    data = request(document("one", 3 * PIECE if size > 1 else 0)) + request(document("two"), CLOSE)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert names(talk(server, *pieces)) == ["one", "two"]


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_bodies_in_chunks(server: ModelServer, size: int) -> None:
    body = document("chunks", 5000)
    assert names(talk(server, head(CHUNKED + CLOSE) + chunks(body, size))) == ["chunks"]


@pytest.mark.parametrize("padding", [0, 10 * PIECE])
def test_a_client_that_waits_to_be_asked_for_the_body(server: ModelServer, padding: int) -> None:
    body = document("asked", padding)
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as connection:
        connection.sendall(head(b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(body) + CLOSE))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert names(b"".join(iter(lambda: connection.recv(1 << 16), b""))) == ["asked"]


@pytest.mark.parametrize("padding", [0, 20 * PIECE])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_wish_for_another_protocol_is_not_heard_and_the_body_is_read(
    server: ModelServer, padding: int, is_chunked: bool
) -> None:
    body = document("upgrade", padding)
    first = head(CHUNKED + UPGRADE) + chunks(body, 1000) if is_chunked else request(body, UPGRADE)
    assert names(talk(server, first + request(document("next"), CLOSE))) == ["upgrade", "next"]


def test_a_body_that_asks_for_another_protocol_is_not_taken_for_a_request(server: ModelServer) -> None:
    hidden = request(document("hidden"))
    found = talk(server, request(hidden, UPGRADE) + request(document("next"), CLOSE))
    assert names(found) == ["next"]
    assert found.startswith(b"HTTP/1.1 400 ")


def test_http_1_0(server: ModelServer) -> None:
    body = document("old")
    data = head(b"Content-Length: %d\r\n" % len(body), version=b"1.0") + body
    assert names(talk(server, data)) == ["old"]


@pytest.mark.parametrize("path", [b"/nothing", b"/v2/models/nothing/infer"])
@pytest.mark.parametrize("padding", [0, 30 * PIECE])
def test_a_body_that_nobody_wants_is_passed_over(server: ModelServer, path: bytes, padding: int) -> None:
    found = talk(server, request(document("none", padding), path=path) + request(document("next"), CLOSE))
    assert found.startswith(b"HTTP/1.1 404 ")
    assert names(found) == ["next"]


NO_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a proxy is asked for": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in a header": b"GET /v2 HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "two lengths": request(document("a"), b"Content-Length: 5\r\n"),
    "length and chunks": request(document("a"), CHUNKED),
    "chunks of no size": head(CHUNKED) + b"zz\r\n",
    "chunks not at the end": head(b"Transfer-Encoding: chunked, identity\r\n") + chunks(document("a"), 100),
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused_in_json(server: ModelServer, data: bytes) -> None:
    first, _, body = talk(server, data).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in first
    assert set(json.loads(body)) == {"error"}


def test_a_request_before_what_is_no_http_is_answered(server: ModelServer) -> None:
    assert names(talk(server, request(document("good")) + b"\xff\xff\r\n\r\n" + request(document("bad")))) == ["good"]


def test_bodies_that_are_encoded_are_refused(server: ModelServer) -> None:
    found = talk(server, head(b"Transfer-Encoding: gzip, chunked\r\n" + CLOSE) + chunks(b"abc", 3))
    assert found.startswith(b"HTTP/1.1 415 ")


LONG = {
    "line": b"GET /v2/" + b"a" * MAX_HEAD + b"%s HTTP/1.1\r\nHost: a\r\n\r\n",
    "header": b"GET /v2 HTTP/1.1\r\nHost: a\r\nX: " + b"a" * MAX_HEAD + b"%s\r\n\r\n",
    "headers": b"GET /v2 HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * (MAX_HEAD // 6) + b"X: %s\r\n\r\n",
    "trailers": head(CHUNKED) + b"1\r\n{\r\n0\r\n" + b"X: a\r\n" * (MAX_HEAD // 6) + b"X: %s\r\n\r\n",
    "extension of a chunk": head(CHUNKED) + b"1;" + b"a" * MAX_HEAD + b"%s",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_headers_without_an_end(server: ModelServer, text: bytes) -> None:
    """Memory for them is not given without end."""
    found = b""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as connection,
    ):
        connection.sendall(text % (b"a" * 2 * PIECE))
        while got := connection.recv(1 << 16):
            found += got
    assert found[:13] in (b"", b"HTTP/1.1 431 ")  # a reset may overtake the answer


@pytest.mark.parametrize("values", [("3", "3"), ("3", "4")])
def test_a_length_of_the_json_that_is_given_twice(server: ModelServer, values: tuple[str, str]) -> None:
    headers = b"".join(b"Inference-Header-Content-Length: %s\r\n" % value.encode() for value in values)
    found = talk(server, request(document("a"), headers + CLOSE))
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"must be a number of bytes" in found


def test_a_client_that_does_not_take_its_answers(server: ModelServer, client: Client) -> None:
    """Its connection is closed, and its requests do not stay for ever."""
    size = 1 << 19
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, size // 4], "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    data = request(text + bytes(size), b"Inference-Header-Content-Length: %d\r\n" % len(text))
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(data)
    assert b"mace_requests_in_flight 0.0\n" in client.ask("GET", "/metrics")[2]


def test_more_connections_than_a_server_takes(server: ModelServer) -> None:
    sessions = {"FP32": Session(echo(DATATYPES["FP32"]), devices=["cpu"], cache=False)}
    with (
        ModelServer(sessions, ServerOptions(http=0, max_requests=1, drain=0.0)) as own,
        contextlib.ExitStack() as opened,
    ):
        address = ("127.0.0.1", own.http_port)
        for _ in range(2 + BACKLOG):
            opened.enter_context(socket.create_connection(address, timeout=60))
        assert talk(own).startswith(b"HTTP/1.1 503 ")
        opened.close()
        while not answered(own):
            pass  # until the server has seen them close


def answered(server: ModelServer) -> list[str]:
    try:
        return names(talk(server, request(document("next"), CLOSE)))
    except ConnectionError:  # it was refused before its request was read
        return []
