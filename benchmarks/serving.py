"""What `mace serve` costs: against the same session called directly, over loopback, by clients in another process.

    python -m benchmarks.serving [--seconds 4]

The model is mobilenet_v2 with one picture of 1x3x224x224 float32 (602,112 bytes).  For the time of one request, direct
calls and requests take turns, so that what else the machine does meets both; the difference of the medians is the
overhead, the client's own work included.  For throughput several clients ask at once, and direct calls are made as fast
as one thread can.  An echo model shows the overhead without the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

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
            found += connection.recv(1 << 16)
        headers, _, body = found.partition(b"\r\n\r\n")
        length = int(headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(1 << 16)
        return body

    return ask


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


def latency(direct: Callable[[], Any], ask: Callable[[], Any], seconds: float) -> tuple[list[float], list[float]]:
    """Times of both, taking turns."""
    found: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for call, times in zip((direct, ask), found, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return found


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


def measure(name: str, path: Path, ports: tuple[int, int], seconds: float, at_once: int) -> None:
    picture = np.random.default_rng(0).random(SHAPE, np.float32)
    with Session(path) as session:

        def direct() -> Any:
            return session.run({"x": picture})["y"]

        for kind in KINDS:
            ask = clients(kind, ports, name, picture)
            for _ in range(5):
                direct()
                ask()
            times = latency(direct, ask, seconds)
            p50 = [statistics.median(each) * 1e3 for each in times]
            best = [min(each) * 1e3 for each in times]
            _print(
                f"{name:14} {kind:18} direct p50 {p50[0]:7.3f} ms, served {p50[1]:7.3f} ms: +{p50[1] - p50[0]:6.3f} ms"
                f"   (best {best[0]:.3f}, {best[1]:.3f}: +{best[1] - best[0]:.3f})"
            )
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
        command = [sys.executable, "-m", "mace_core.cli.main", "serve", *map(str, paths.values())]
        with subprocess.Popen([*command, "--http", "0", "--grpc", "0"], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            told = server.stdout.readline()
            ports = [int(place.rsplit(":", 1)[1]) for place in told.split() if "://" in place]
            try:
                for name, path in paths.items():
                    measure(name, path, (ports[0], ports[1]), given.seconds, given.at_once)
            finally:
                server.terminate()
                server.wait(60)


if __name__ == "__main__":
    main()
