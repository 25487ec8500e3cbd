"""Requests that are wrong by accident or on purpose: an answer that says what is wrong, and the server goes on."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from mace_core.serving import ModelServer
from mace_core.serving.messages import SERVICE, message

from .conftest import Client


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]} | changes]}


@pytest.fixture(autouse=True)
def still_serves(client: Client) -> Iterator[None]:
    yield
    status, found = client.infer("FP32", tensor())
    assert status == 200
    assert found["outputs"][0]["data"] == [1, 2, 3]


DOCUMENTS: dict[str, Any] = {
    "empty": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"id": "\xff"}',
    "not an object": b"[1]",
    "NaN": b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [NaN]}]}',
    "deep": b"[" * 200_000,
    "deep data": {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": json.loads("[" * 70 + "]" * 70)}]
    },
    "a long number": b'{"inputs": ' + b"9" * 100_000 + b"}",
    "inputs no list": {"inputs": 5},
    "inputs no objects": {"inputs": [5]},
    "no name": {"inputs": [{"datatype": "FP32", "shape": [1], "data": [1]}]},
    "no such datatype": tensor(datatype="FP31"),
    "datatype a list": tensor(datatype=["FP32"]),
    "no shape": tensor(shape=None),
    "shape a text": tensor(shape="13"),
    "negative": tensor(shape=[-1, 3]),
    "fraction": tensor(shape=[1.0, 3]),
    "true": tensor(shape=[True, 3]),
    "huge": tensor(shape=[1 << 62, 1 << 62]),
    "beyond 64 bits": tensor(shape=[1 << 70, 3]),
    "huge and empty": tensor(shape=[1 << 62, 1 << 62, 0], data=[]),
    "65 dimensions": tensor(shape=[1] * 65, data=[1]),
    "too few": tensor(data=[1, 2]),
    "too many": tensor(data=[1, 2, 3, 4]),
    "data a text": tensor(data="123"),
    "texts": tensor(data=["1", "2", "3"]),
    "nulls": tensor(data=[None, None, None]),
    "objects": tensor(data=[{}, {}, {}]),
    "ragged": tensor(data=[[1, 2], [3]]),
    "one long text": tensor(data=["a" * 500_000, *[""] * 100_000]),
    "nested otherwise": tensor(data=[[1], [2], [3]]),
    "out of range": tensor(data=[1e300, 0, 0]),
    "infinite": tensor(data=[1e999, 0, 0]),
    "a huge integer": tensor(data=[10**400, 0, 0]),
    "twice": {"inputs": tensor()["inputs"] * 2},
    "parameters a list": tensor(parameters=[]) | {"parameters": []},
    "priority": tensor() | {"parameters": {"priority": -1}},
    "priority a text": tensor() | {"parameters": {"priority": "first"}},
    "timeout": tensor() | {"parameters": {"timeout": 0.5}},
    "id a number": tensor() | {"id": 5},
    "no such output": tensor() | {"outputs": [{"name": "z"}]},
    "outputs no list": tensor() | {"outputs": {"name": "y"}},
    "binary_data a number": tensor() | {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
    "shared memory": tensor(parameters={"shared_memory_region": "a"}),
    "binary that is not there": tensor(parameters={"binary_data_size": 12}),
}


@pytest.mark.parametrize("body", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_that_is_wrong(client: Client, body: Any) -> None:
    status, found = client.infer("FP32", body)
    assert status == 400, found
    assert set(found) == {"error"}
    assert "Traceback" not in found["error"]
    assert len(found["error"]) < 600


@pytest.mark.parametrize(
    ("datatype", "data", "words"),
    [
        ("INT8", [128, 0, 0], "out of the range of INT8"),
        ("UINT8", [-1, 0, 0], "out of the range of UINT8"),
        ("UINT64", [-1, 0, 0], "out of the range of UINT64"),
        ("INT64", [1 << 63, 0, 0], "out of the range of INT64"),
        ("INT32", [1.5, 0, 0], "elements that are no INT32"),
        ("BOOL", [1, 0, 0], "elements that are no BOOL"),
        ("INT64", [True, 0, 0], "elements that are no INT64"),
        ("BYTES", [1, 2, 3], "elements that are no BYTES"),
    ],
)
def test_elements_that_are_no_such_type(client: Client, datatype: str, data: list[Any], words: str) -> None:
    status, found = client.infer(datatype, tensor(datatype=datatype, data=data))
    assert status == 400
    assert words in found["error"]


def binary(size: Any, data: bytes, datatype: str = "FP32", header: str | None = None) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(
        {"inputs": [{"name": "x", "datatype": datatype, "shape": [1, 3], "parameters": {"binary_data_size": size}}]}
    ).encode()
    return text + data, {"Inference-Header-Content-Length": str(len(text)) if header is None else header}


def words(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


BINARY = {
    "truncated": binary(12, b"\0" * 11),
    "too long": binary(12, b"\0" * 13),
    "another size": binary(8, b"\0" * 8),
    "negative": binary(-12, b"\0" * 12),
    "a text": binary("12", b"\0" * 12),
    "huge": binary(1 << 80, b"\0" * 12),
    "null": binary(None, b"\0" * 12),
    "header NaN": binary(12, b"\0" * 12, header="NaN"),
    "header negative": binary(12, b"\0" * 12, header="-5"),
    "header too large": binary(12, b"\0" * 12, header="100000"),
    "header huge": binary(12, b"\0" * 12, header="9" * 400),
    "header within the JSON": binary(12, b"\0" * 12, header="7"),
    "header empty": binary(12, b"\0" * 12, header=""),
    "BOOL of 2": binary(3, b"\0\1\2", "BOOL"),
    "strings cut": binary(3, b"\1\0\0", "BYTES"),
    "strings short": binary(12, words(b"", b"", b"")[:-4] + struct.pack("<I", 1 << 31), "BYTES"),
    "strings left": binary(16, words(b"", b"", b"", b""), "BYTES"),
    "strings no UTF-8": binary(13, words(b"", b"", b"\xff"), "BYTES"),
}


@pytest.mark.parametrize(("body", "headers"), BINARY.values(), ids=BINARY)
def test_binary_data_that_is_wrong(client: Client, body: bytes, headers: dict[str, str]) -> None:
    model = next(name for name in ("BYTES", "BOOL", "FP32") if name.encode() in body)
    status, found = client.infer(model, body, headers)
    assert status == 400
    assert set(found) == {"error"}


def test_numbers_that_json_cannot_say_are_not_sent_as_json(client: Client) -> None:
    body, headers = binary(12, np.array([np.nan, 1, 2], np.float32).tobytes())
    status, found = client.infer("FP32", body, headers)
    assert status == 400
    assert "binary data" in found["error"]


@pytest.mark.parametrize(
    "path", ["/", "/v2/", "/v2/models", "/v2/models/FP32/other", "/../etc/passwd", "/v2/models//infer"]
)
def test_paths_that_are_not_there(client: Client, path: str) -> None:
    status, _, data = client.ask("GET", path)
    assert status in (404, 405)
    assert set(json.loads(data)) == {"error"}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v2/models/FP32/infer"), ("POST", "/v2"), ("DELETE", "/metrics")]
)
def test_methods_that_are_not_taken(client: Client, method: str, path: str) -> None:
    status, headers, data = client.ask(method, path)
    assert status == 405
    assert "allow" in headers
    assert set(json.loads(data)) == {"error"}


def test_a_body_that_is_too_large_is_refused_and_the_client_reads_why(client: Client, server: ModelServer) -> None:
    large = b" " * (server.options.max_body + 1)
    for body in (large, iter([large[:1000], large])):  # the second one in chunks, without a length
        status, _, data = client.ask("POST", "/v2/models/FP32/infer", body)
        assert status == 413
        assert str(server.options.max_body) in json.loads(data)["error"]


def test_a_compression_that_is_not_known_is_refused(client: Client) -> None:
    status, found = client.infer("FP32", tensor(), {"Content-Encoding": "br"})
    assert status == 415
    assert "gzip or deflate" in found["error"]


DOCUMENT = json.dumps(tensor()).encode()


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies(client: Client, encoding: str, pack: Any) -> None:
    status, found = client.infer("FP32", pack(DOCUMENT), {"Content-Encoding": encoding})
    assert (status, found["outputs"][0]["data"]) == (200, [1, 2, 3])
    status, found = client.infer("FP32", iter([pack(DOCUMENT)]), {"Content-Encoding": encoding})  # in chunks
    assert (status, found["outputs"][0]["data"]) == (200, [1, 2, 3])


@pytest.mark.parametrize(
    "body",
    [b"", DOCUMENT, gzip.compress(DOCUMENT)[:-1], gzip.compress(DOCUMENT) * 2],
    ids=["nothing", "not compressed", "cut", "twice"],
)
def test_compressed_bodies_that_are_wrong(client: Client, body: bytes) -> None:
    status, found = client.infer("FP32", body, {"Content-Encoding": "gzip"})
    assert status == 400
    assert "compressed" in found["error"]


def test_a_small_body_that_unpacks_to_a_large_one(client: Client, server: ModelServer) -> None:
    bomb = gzip.compress(bytes(100 * server.options.max_body), 1)
    assert len(bomb) < server.options.max_body
    assert client.infer("FP32", bomb, {"Content-Encoding": "gzip"})[0] == 413


def raw(server: ModelServer, data: bytes) -> bytes:
    """What comes back, until the server closes."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(1 << 16):
            found += piece
    return found


def test_a_client_that_is_too_slow(server: ModelServer) -> None:
    head = b"POST /v2/models/FP32/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
    found = raw(server, head)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 2 s" in found


@pytest.mark.parametrize(
    "data", [b"", b"GET /v2 HT", b"GET /v2 HTTP/1.1\r\nHost: a\r\n"], ids=["nothing", "a line", "headers"]
)
def test_a_connection_without_a_request_is_closed(server: ModelServer, data: bytes) -> None:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        found = raw(server, data)
    assert found == b""


@pytest.mark.parametrize("length", [b"NaN", b"-1", b"1e3", b"99999999999999999999999"])
def test_lengths_that_are_no_numbers(server: ModelServer, length: bytes) -> None:
    head = b"POST /v2/models/FP32/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: " + length
    found = raw(server, head + b"\r\n\r\n{}")
    assert found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))


def test_a_client_that_leaves_within_its_request(server: ModelServer, client: Client) -> None:
    for cut in (40, 90, 100):
        with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
            text = b"POST /v2/models/FP32/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b" " * 100
            connection.sendall(text[:cut])
    while b"mace_requests_in_flight 0.0\n" not in (metrics := client.ask("GET", "/metrics")[2]):
        time.sleep(0.01)
    assert b"mace_refused_requests_total" in metrics


def call(server: ModelServer, method: str, data: bytes) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        found: bytes = channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=60)
        return found


def grpc_request(raw_contents: tuple[bytes, ...] = (), **changes: Any) -> bytes:
    found = message("ModelInferRequest")(model_name="FP32", raw_input_contents=raw_contents)
    found.inputs.add(**{"name": "x", "datatype": "FP32", "shape": [1, 3]} | changes)
    return bytes(found.SerializeToString())


MESSAGES = {
    "garbage": b"\xff\xff\xff\xff",
    "cut": grpc_request((b"\0" * 12,))[:-5],
    "no contents": grpc_request(),
    "too short": grpc_request((b"\0" * 11,)),
    "two for one": grpc_request((b"\0" * 12, b"")),
    "negative": grpc_request((b"\0" * 12,), shape=[-1, -3]),
    "huge": grpc_request((b"\0" * 12,), shape=[1 << 62, 1 << 62]),
    "both": grpc_request((b"\0" * 12,), contents={"fp32_contents": [1, 2, 3]}),
    "another field": grpc_request(contents={"fp64_contents": [1, 2, 3]}),
    "no such datatype": grpc_request(datatype="FP31"),
    "FP16 not raw": grpc_request(datatype="FP16", contents={"fp32_contents": [1, 2, 3]}),
    "shared memory": grpc_request(parameters={"shared_memory_region": {"string_param": "a"}}),
}


@pytest.mark.parametrize("data", MESSAGES.values(), ids=MESSAGES)
def test_a_message_that_is_wrong(server: ModelServer, data: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(server, "ModelInfer", data)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in caught.value.details()


def test_contents_that_are_not_raw(server: ModelServer) -> None:
    found = message("ModelInferResponse").FromString(
        call(server, "ModelInfer", grpc_request(contents={"fp32_contents": [1, np.inf, 3]}))
    )
    np.testing.assert_array_equal(np.frombuffer(found.raw_output_contents[0], np.float32), [1, np.inf, 3])


def test_a_message_that_is_too_large(server: ModelServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(server, "ModelInfer", b"\0" * (server.options.max_body + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_call_that_there_is_not(server: ModelServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(server, "ModelConfig", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
