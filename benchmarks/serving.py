"""What `mace serve` costs: against the same session called directly, over loopback, by clients in another process.

    python -m benchmarks.serving [--seconds 4]

The model is mobilenet_v2 with one picture of 1x3x224x224 float32 (602,112 bytes).  For the time of one request, direct
calls and requests take turns, so that what else the machine does meets both; the difference of the medians is the
overhead, the client's own work included.  A model that takes the same picture and computes next to nothing shows the
overhead without the arithmetic.  For throughput several clients ask at once, and direct calls are made as fast as one
thread can.

Beside each client stand its floors, asked in the same turns: two processes with plain sockets, and uvicorn or gRPC with
an application that does nothing.  The CPU time of a server for a request tells more than the clock where other programs
keep the machine busy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper

from benchmarks.serving_floor import SERVERS
from mace_core import Session
from mace_core.testing import models

SHAPE = [1, 3, 224, 224]


def first_element() -> onnx.ModelProto:
    """Takes the same tensor and computes next to nothing."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "zero", "one", "last"], ["y"])],
        "first",
        [value("x", TensorProto.FLOAT, SHAPE)],
        [value("y", TensorProto.FLOAT, [*SHAPE[:3], 1])],
        [helper.make_tensor(name, TensorProto.INT64, [1], [v]) for name, v in (("zero", 0), ("one", 1), ("last", 3))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def triton_client(kind: str, port: int, model: str, picture: Any) -> Callable[[], Any]:
    import importlib

    module = importlib.import_module(f"tritonclient.{kind}")
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    tensor = module.InferInput("x", SHAPE, "FP32").set_data_from_numpy(picture)
    return lambda: client.infer(model, [tensor]).as_numpy("y")


def raw_client(port: int, model: str, picture: Any) -> Callable[[], Any]:
    """A client that does as little as it can."""
    parameters = {"binary_data_size": picture.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": SHAPE, "parameters": parameters}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(text) + picture.nbytes}\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\n\r\n"
    ).encode() + text
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = picture.tobytes()

    def ask() -> Any:
        _send(connection, head, data)
        found = b""
        while b"\r\n\r\n" not in found:
            found += _received(connection)
        headers, _, body = found.partition(b"\r\n\r\n")
        length = int(headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += _received(connection)
        return body

    return ask


def _received(connection: socket.socket) -> bytes:
    found = connection.recv(1 << 16)
    if not found:
        raise ConnectionError("the server closed the connection")
    return found


def _send(connection: socket.socket, head: bytes, data: bytes) -> None:
    sent = connection.sendmsg([head, data])
    if sent < len(head) + len(data):
        connection.sendall((head + data)[sent:])


def clients(kind: str, ports: tuple[int, int], model: str, picture: Any) -> Callable[[], Any]:
    if kind == "raw http":
        return raw_client(ports[0], model, picture)
    name = kind.removeprefix("tritonclient ")
    return triton_client(name, ports[0] if name == "http" else ports[1], model, picture)


KINDS = ("raw http", "tritonclient http", "tritonclient grpc")


@dataclass
class Server:
    """A server in another process, and its ports for HTTP and gRPC."""

    process: psutil.Process
    ports: tuple[int, int]

    def cpu(self) -> float:
        """Seconds."""
        times = self.process.cpu_times()
        return times.user + times.system


FLOORS: dict[str, Server] = {}
FLOORS_OF = {"raw http": ("sockets", "uvicorn"), "tritonclient http": (), "tritonclient grpc": ("grpc",)}

TURN = 20
"""Calls of each kind in a turn."""


def latency(
    servers: list[Server], calls: list[Callable[[], Any]], seconds: float
) -> tuple[list[float], list[list[float]]]:
    """Milliseconds of CPU of each server for a request, and the times of all calls, which take turns.

    Args:
        calls: the direct one, then one for each server.
    """
    times: list[list[float]] = [[] for _ in calls]
    spent = [0.0] * len(servers)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for index, call in enumerate(calls):
            before = servers[index - 1].cpu() if index else 0.0
            for _ in range(TURN):
                start = time.perf_counter()
                call()
                times[index].append(time.perf_counter() - start)
            if index:
                spent[index - 1] += servers[index - 1].cpu() - before
    return [each / len(found) * 1e3 for each, found in zip(spent, times[1:], strict=True)], times


def throughput(calls: list[Callable[[], Any]], seconds: float) -> float:
    """Requests a second of so many threads."""
    counts = [0] * len(calls)
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        while time.perf_counter() < end:
            calls[index]()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure(name: str, path: Path, server: Server, seconds: float, at_once: int) -> None:
    ports = server.ports
    picture = np.random.default_rng(0).random(SHAPE, np.float32)
    with Session(path) as session:

        def direct() -> Any:
            return session.run({"x": picture})["y"]

        for kind in KINDS:
            servers = [server, *(FLOORS[floor] for floor in FLOORS_OF[kind])]
            asks = [clients(kind, each.ports, name, picture) for each in servers]
            for call in (direct, *asks):
                for _ in range(5):
                    call()
            spent, times = latency(servers, [direct, *asks], seconds)
            p50 = [statistics.median(each) * 1e3 for each in times]
            best = [min(each) * 1e3 for each in times]
            _print(
                f"{name:14} {kind:18} direct p50 {p50[0]:7.3f} ms, served {p50[1]:7.3f} ms: +{p50[1] - p50[0]:6.3f} ms"
                f"   (best {best[0]:.3f}, {best[1]:.3f}: +{best[1] - best[0]:.3f}; the server's CPU {spent[0]:.3f})"
            )
            for index, floor in enumerate(FLOORS_OF[kind], 2):
                shown = f"p50 {p50[index]:7.3f} ms (best {best[index]:.3f}; the server's CPU {spent[index - 1]:.3f})"
                _print(f"{'':14} {'floor: ' + floor:18} {shown}")
        rounds: dict[str, list[float]] = {kind: [] for kind in ("direct", *KINDS)}
        several = {  # the client for HTTP does not work in threads that did not make it
            kind: [clients(kind, ports, name, picture) for _ in range(at_once)] for kind in KINDS if kind != KINDS[1]
        }
        for _ in range(3):
            rounds["direct"].append(throughput([direct], seconds / 3))
            for kind, calls in several.items():
                rounds[kind].append(throughput(calls, seconds / 3))
        most = max(rounds["direct"])
        _print(f"{name:14} {'direct':18} {most:8.1f} runs/s")
        for kind in several:
            rate = max(rounds[kind])
            _print(f"{name:14} {kind:18} {rate:8.1f} requests/s, {rate / most:.2f} of it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure")
    parser.add_argument("--at-once", type=int, default=4, help="clients, for throughput")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {"mobilenet_v2": Path(folder) / "mobilenet_v2.onnx", "first": Path(folder) / "first.onnx"}
        onnx.save(models.mobilenet_v2(), paths["mobilenet_v2"])
        onnx.save(first_element(), paths["first"])
        with contextlib.ExitStack() as opened:
            for floor in SERVERS:
                process, told = started(opened, ["-m", "benchmarks.serving_floor", floor])
                FLOORS[floor] = Server(psutil.Process(process.pid), (int(told), int(told)))
            options = ["-m", "mace_core.cli.main", "serve", *map(str, paths.values()), "--http", "0", "--grpc", "0"]
            process, told = started(opened, options)
            ports = [int(place.rsplit(":", 1)[1]) for place in told.split() if "://" in place]
            server = Server(psutil.Process(process.pid), (ports[0], ports[1]))
            for name, path in paths.items():
                measure(name, path, server, given.seconds, given.at_once)


def started(opened: contextlib.ExitStack, options: list[str]) -> tuple[subprocess.Popen[str], str]:
    """A process of Python, which ends with ``opened``, and the first line that it wrote."""
    process = opened.enter_context(subprocess.Popen([sys.executable, *options], stdout=subprocess.PIPE, text=True))
    opened.callback(process.terminate)
    assert process.stdout is not None
    return process, process.stdout.readline()


if __name__ == "__main__":
    main()
