"""A server that is told to end answers what it has accepted, and takes nothing more."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest

from mace_core import Session
from mace_core.serving import ModelServer, ServerOptions
from mace_core.serving.messages import SERVICE, message

from .conftest import DATATYPES, Client, echo, heavy

AT_ONCE = 5


def http_request(length: int, text: bytes) -> bytes:
    return (
        b"POST /v2/models/heavy/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
        b"Inference-Header-Content-Length: %d\r\n\r\n" % (length, len(text))
    ) + text


def square_request() -> bytes:
    parameters = {"binary_data_size": 262144}
    tensor = {"name": "x", "datatype": "FP32", "shape": [256, 256], "parameters": parameters}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return http_request(len(text) + 262144, text) + np.eye(256, dtype=np.float32).tobytes()


def read_answer(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 20):
            found += piece
    return found


def grpc_square() -> bytes:
    found = message("ModelInferRequest")(
        model_name="heavy", raw_input_contents=[np.eye(256, dtype=np.float32).tobytes()]
    )
    found.inputs.add(name="x", datatype="FP32", shape=[256, 256])
    return bytes(found.SerializeToString())


def ask_and_end(http_port: int, grpc_port: int, end: Any) -> None:
    """Send requests over both protocols, have the server end while they wait, and look at the answers."""
    channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
    grpc.channel_ready_future(channel).result(60)
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    connections = [socket.create_connection(("127.0.0.1", http_port), timeout=120) for _ in range(AT_ONCE)]
    request = square_request()
    for connection in connections:
        connection.sendall(request)
    futures = [call.future(grpc_square(), timeout=120) for _ in range(AT_ONCE)]
    client = Client(http_port)
    while sum(counts := on_their_way_and_done(client)) < 2 * AT_ONCE:
        time.sleep(0.01)
    assert counts[0] > 2, "the model is too quick for this test"
    end()
    for connection in connections:
        head, _, body = read_answer(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
        assert len(body) > 262144
        connection.close()
    for future in futures:
        assert len(message("ModelInferResponse").FromString(future.result()).raw_output_contents[0]) == 262144
    channel.close()


def on_their_way_and_done(client: Client) -> tuple[float, float]:
    text = client.ask("GET", "/metrics")[2].decode()
    names = ("mace_requests_in_flight", 'mace_requests_total{model="heavy",result="success"}')
    shown = [re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE) for name in names]
    assert all(shown), text
    return float(shown[0][1]), float(shown[1][1])  # type: ignore[index]


def test_what_was_accepted_is_answered() -> None:
    options = ServerOptions(http=0, grpc=0, drain=0.1, grace=120)
    with ModelServer({"heavy": Session(heavy(400), devices=["cpu"], cache=False)}, options) as server:
        ask_and_end(server.http_port or 0, server.grpc_port or 0, server.stop)
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.http_port or 0), timeout=5)


IN_PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from signal_state import signal_state
from mace_core.cli.main import main
before = signal_state()
code = main(sys.argv[1:])
print(code, signal_state() == before or (before, signal_state()), flush=True)
"""
"""The command, called by a program that goes on after it."""


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_a_signal_ends_the_command_when_all_is_answered(tmp_path: Path, number: int) -> None:
    """And the program that called it reacts to signals as it did before, whatever the devices' libraries did."""
    onnx.save(heavy(400), tmp_path / "heavy.onnx")
    script = IN_PROCESS.format(folder=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, "serve", "heavy.onnx", "--http", "0", "--grpc", "0", "--grace", "120"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        ports = re.fullmatch(r"Serving heavy at http://127.0.0.1:(\d+) and grpc://127.0.0.1:(\d+)\n", told)
        assert ports is not None, told
        ask_and_end(int(ports[1]), int(ports[2]), lambda: process.send_signal(number))
        assert process.wait(60) == 0
        assert process.stdout.read() == "0 True\n"
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_what_is_not_done_in_time_is_told_so() -> None:
    options = ServerOptions(http=0, drain=0.0, grace=0.0)
    with ModelServer({"heavy": Session(heavy(400), devices=["cpu"], cache=False)}, options) as server:
        client = Client(server.http_port or 0)
        with contextlib.ExitStack() as opened:
            connections = [
                opened.enter_context(socket.create_connection(("127.0.0.1", server.http_port or 0), timeout=120))
                for _ in range(AT_ONCE)
            ]
            for connection in connections:
                connection.sendall(square_request())
            while sum(on_their_way_and_done(client)) < AT_ONCE:
                time.sleep(0.01)
            server.stop()
            answers = [read_answer(connection) for connection in connections]
    assert {answer[:13] for answer in answers} <= {b"HTTP/1.1 200 ", b"HTTP/1.1 503 "}
    assert b"not done in time" in answers[-1]


def test_no_request_is_lost_while_clients_go_on_asking() -> None:
    """Connections that are kept open get an answer to each request, until they are told to close."""
    options = ServerOptions(http=0, drain=0.3)
    lost: list[str] = []
    counts = {"answered": 0}
    ended = threading.Event()
    text = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [5]}]}).encode()

    def ask(port: int) -> None:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            try:
                connection.connect()
            except ConnectionError:
                return
            try:
                while True:
                    connection.request("POST", "/v2/models/small/infer", text)
                    answer = connection.getresponse()
                    answer.read()
                    assert answer.status == 200
                    counts["answered"] += 1
                    if answer.will_close:
                        break
            except (OSError, http.client.HTTPException) as error:
                if connection.sock is not None and not ended.is_set():
                    lost.append(repr(error))
                return
            connection.close()

    with ModelServer({"small": Session(echo(DATATYPES["FP32"]), devices=["cpu"], cache=False)}, options) as server:
        threads = [threading.Thread(target=ask, args=(server.http_port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while counts["answered"] < 50:
            time.sleep(0.01)
    ended.set()
    for thread in threads:
        thread.join(60)
    assert lost == []
