"""One server with small models, reached over loopback."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.serving import ModelServer, ServerOptions

NEEDED = ("starlette", "uvicorn", "grpc", "prometheus_client", "tritonclient")
if any(importlib.util.find_spec(name) is None for name in NEEDED):
    collect_ignore_glob = ["test_*.py"]  # of the extras "serve" and "dev"

DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def model_of(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> onnx.ModelProto:
    ends = [[helper.make_tensor_value_info(name, *spec) for name, spec in each.items()] for each in (inputs, outputs)]
    graph = helper.make_graph(nodes, "small", *ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def echo(kind: int) -> onnx.ModelProto:
    return model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, ["n", "m"])}, {"y": (kind, ["n", "m"])})


def arithmetic() -> onnx.ModelProto:
    """sum = a + b and product = a * b, of rows of three."""
    shape = (TensorProto.FLOAT, ["rows", 3])
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    return model_of(nodes, {"a": shape, "b": shape}, {"sum": shape, "product": shape})


def sums() -> onnx.ModelProto:
    """Of all x so far, which it keeps from run to run: it begins with 10."""
    one = (TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Add", ["x", "before"], ["total"]), helper.make_node("Identity", ["total"], ["after"])]
    model = model_of(nodes, {"x": one, "before": one}, {"total": one, "after": one})
    model.metadata_props.add(key="mace.state", value=json.dumps({"before": {"output": "after", "fill": 10.0}}))
    return model


def heavy(turns: int = 40) -> onnx.ModelProto:
    """Takes some milliseconds: x @ x, again and again."""
    square = (TensorProto.FLOAT, [256, 256])
    names = ["x", *(f"t{i}" for i in range(turns - 1)), "y"]
    nodes = [helper.make_node("MatMul", [a, "x"], [b]) for a, b in pairwise(names)]
    return model_of(nodes, {"x": square}, {"y": square})


def open_sessions() -> dict[str, Session]:
    models = {name: echo(kind) for name, kind in DATATYPES.items()}
    models |= {"arithmetic": arithmetic(), "heavy": heavy(), "sums": sums()}
    return {name: Session(model, devices=["cpu"], cache=False) for name, model in models.items()}


@pytest.fixture(scope="package")
def server() -> Iterator[ModelServer]:
    options = ServerOptions(
        http=0, grpc=0, max_body=1 << 20, body_timeout=2.0, max_batch=4, drain=0.05, max_sequences=3
    )
    with ModelServer(open_sessions(), options) as running:
        yield running


class Client:
    """Plain HTTP, without a library that knows the protocol."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        try:
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def infer(self, model: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        status, _, data = self.ask("POST", f"/v2/models/{model}/infer", body, headers)
        return status, json.loads(data)


def talk(server: ModelServer, *pieces: bytes) -> bytes:
    """What comes back over one connection, until the server closes it."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
        found = b""
        while got := connection.recv(1 << 16):
            found += got
    return found


@pytest.fixture
def client(server: ModelServer) -> Client:
    assert server.http_port is not None
    return Client(server.http_port)
