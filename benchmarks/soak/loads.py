"""What the soak runs: each load asks for work of one kind until it is told to stop, and compares every answer."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.soak.ledger import CANCELLED, EXPIRED, FAILED, REFUSED, RIGHT, WRONG, Ledger
from mace_core import CancelFlag, Session
from mace_core.errors import CancelledError, DeadlineError, MaceError, QueueFullError
from mace_core.faults import FaultLimits
from mace_core.requests import RunFuture
from mace_core.serving import ModelServer, ServerOptions
from mace_core.testing import models
from mace_core.testing.network import NetworkBuilder

Array = npt.NDArray[Any]

RELATIVE, ABSOLUTE = 2e-3, 1e-4
"""How far an answer may be from the reference: other devices and batches sum in another order."""

MOST_IN_FLIGHT = 6
"""Of one load.  More would only wait: requests of a high priority would keep the others from ever having a turn."""


def differs(found: Mapping[str, Array], expected: Mapping[str, Array]) -> str:
    """In what an answer is not the reference; "" where it is."""
    for name, array in expected.items():
        if found[name].shape != array.shape:
            return f"'{name}' has the shape {found[name].shape} where {array.shape} is right"
        spread = max(float(np.ptp(array)), 1e-6)
        error = float(np.abs(found[name] - array).max())
        if not error <= RELATIVE * spread + ABSOLUTE:
            return f"'{name}' is off by {error:.2e}"
    return ""


class Load(ABC):
    """Threads that ask for work of one kind.

    Attributes:
        name: in reports.
    """

    name: str
    threads = 1

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.stopped = threading.Event()
        self._seed = seed
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for index in range(self.threads):
            thread = threading.Thread(target=self._work, args=(random.Random(self._seed + index),), name=self.name)
            self._threads.append(thread)
            thread.start()

    def stop(self, seconds: float) -> None:
        """Ask for nothing any more, and wait for what was asked for."""
        self.stopped.set()
        for thread in self._threads:
            thread.join(seconds)
        self.close()

    def _work(self, draw: random.Random) -> None:
        while not self.stopped.is_set():
            try:
                self.turn(draw)
            except BaseException as error:
                self.ledger.end(self.ledger.ask(self.name), FAILED, f"the load itself: {error!r}")

    @abstractmethod
    def turn(self, draw: random.Random) -> None:
        """One piece of work."""

    @abstractmethod
    def close(self) -> None:
        """Close the sessions."""

    def check(self, number: int, ask: Callable[[], Mapping[str, Array]], expected: Mapping[str, Array]) -> None:
        """Account for a request that is answered at once."""
        try:
            found = ask()
        except BaseException as error:
            self.ledger.end(number, FAILED, repr(error))
        else:
            difference = differs(found, expected)
            self.ledger.end(number, WRONG if difference else RIGHT, difference)


class Asked(Load):
    """Requests of `run_async`, some with a deadline, some cancelled, at all priorities.

    ``cases``: what is fed, and the answers.
    """

    threads = 2
    rest_seconds = 0.01

    def __init__(
        self,
        name: str,
        session: Session,
        cases: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]],
        ledger: Ledger,
        seed: int,
    ) -> None:
        super().__init__(ledger, seed)
        self.name = name
        self.session = session
        self._cases = cases
        self._room = threading.Semaphore(MOST_IN_FLIGHT)

    def turn(self, draw: random.Random) -> None:
        feeds, expected = draw.choice(self._cases)
        if draw.random() < 0.1:  # past the queue
            self.check(self.ledger.ask(self.name), lambda: self.session.run(feeds), expected)
            return
        if not self._room.acquire(timeout=1.0):
            return
        deadline = draw.choice([0.002, 0.05, 1.0]) if draw.random() < 0.2 else None
        is_cancelled = draw.random() < 0.15
        number = self.ledger.ask(self.name)
        try:
            future = self.session.run_async(
                feeds, priority=draw.randrange(-2, 3), deadline=deadline, wait=draw.choice([0.0, 0.1, None])
            )
        except QueueFullError:
            self.ledger.end(number, REFUSED)
            self._room.release()
            return
        except DeadlineError:
            self.ledger.end(number, EXPIRED if deadline is not None else FAILED, "expired without a deadline")
            self._room.release()
            return
        except BaseException as error:
            self.ledger.end(number, FAILED, repr(error))
            self._room.release()
            return
        future.add_done_callback(
            lambda done: self._answered(number, done, expected, is_cancelled, deadline is not None)  # type: ignore[arg-type]
        )
        if is_cancelled:
            time.sleep(draw.choice([0.0, 0.001, 0.01]))
            future.cancel()
        time.sleep(draw.random() * 2 * self.rest_seconds)

    def _answered(
        self, number: int, future: RunFuture, expected: Mapping[str, Array], is_cancelled: bool, has_deadline: bool
    ) -> None:
        self._room.release()
        error = future.exception()
        if error is None:
            difference = differs(future.result(), expected)
            self.ledger.end(number, WRONG if difference else RIGHT, difference)
        elif isinstance(error, DeadlineError) and has_deadline:
            self.ledger.end(number, EXPIRED)
        elif isinstance(error, CancelledError) and is_cancelled:
            self.ledger.end(number, CANCELLED)
        elif isinstance(error, QueueFullError):
            self.ledger.end(number, REFUSED)
        else:
            self.ledger.end(number, FAILED, repr(error))

    def stop(self, seconds: float) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join(seconds)
        end = time.monotonic() + seconds
        for _ in range(MOST_IN_FLIGHT):  # what was asked for is answered
            self._room.acquire(timeout=max(end - time.monotonic(), 0.0))
        self.close()

    def close(self) -> None:
        self.session.close()


class Speech(Load):
    """Silero VAD on sound in buffers of any length, with state; runs are cancelled in between, and go on."""

    name = "speech"
    seconds = 8.0

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(ledger, seed)
        path = models.find_packaged_model(*models.SILERO_VAD)
        self._session = Session(str(path), devices=["cpu"], strict=True)
        self._sound = models.sample_speech(self.seconds)
        with self._stream() as stream:
            self._expected = [outputs["output"] for outputs in stream.push(self._sound)]

    def _stream(self) -> Any:
        return self._session.stream({"state": "stateN"}, context=64)

    def turn(self, draw: random.Random) -> None:
        at = heard = 0
        with self._stream() as stream:
            while at < len(self._sound) and not self.stopped.is_set():
                buffer = self._sound[at : at + draw.randrange(1, 6400)]
                at += len(buffer)
                number = self.ledger.ask(self.name)
                cancel = CancelFlag()
                if draw.random() < 0.05:
                    cancel.set()
                try:
                    outputs = stream.push(buffer, cancel=cancel)
                except CancelledError:
                    outputs = stream.push(np.zeros(0, np.float32))
                except BaseException as error:
                    self.ledger.end(number, FAILED, repr(error))
                    return
                difference = ""
                for found in outputs:
                    difference = difference or differs(found, {"output": self._expected[heard]})
                    heard += 1
                self.ledger.end(number, WRONG if difference else RIGHT, difference)
                time.sleep(0.01)

    def close(self) -> None:
        self._session.close()


class Served(Load):
    """Clients of a server in this process, over HTTP."""

    name = "served"
    threads = 2

    def __init__(
        self,
        session: Session,
        cases: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]],
        ledger: Ledger,
        seed: int,
    ) -> None:
        super().__init__(ledger, seed)
        self._session = session
        self._cases = cases
        self._server = ModelServer({"net": session}, ServerOptions(http=0, max_batch=4))
        self._server.__enter__()
        self._clients = threading.local()

    def turn(self, draw: random.Random) -> None:
        feeds, expected = draw.choice(self._cases)
        number = self.ledger.ask(self.name)
        self.check(number, lambda: self._infer(feeds, keep=draw.random() < 0.98), expected)
        time.sleep(0.03)

    def _infer(self, feeds: Mapping[str, Array], *, keep: bool) -> dict[str, Array]:
        connection = getattr(self._clients, "connection", None)
        if connection is None:
            port = self._server.http_port
            connection = self._clients.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        ((name, array),) = feeds.items()
        tensor: dict[str, object] = {"name": name, "datatype": "FP32", "shape": list(array.shape)}
        tensor["parameters"] = {"binary_data_size": array.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        connection.request("POST", "/v2/models/net/infer", head + array.tobytes(), headers)
        response = connection.getresponse()
        body = response.read()
        if not keep:
            connection.close()
            self._clients.connection = None
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {body[:200]!r}")
        length = int(response.headers["Inference-Header-Content-Length"])
        (output,) = json.loads(body[:length])["outputs"]
        return {output["name"]: np.frombuffer(body[length:], np.float32).reshape(output["shape"])}

    def close(self) -> None:
        self._server.__exit__(None, None, None)
        self._session.close()


class Opened(Load):
    """Sessions that are opened, run in a few shapes, and closed."""

    name = "opened"

    def __init__(
        self, path: str, cases: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]], ledger: Ledger, seed: int
    ) -> None:
        super().__init__(ledger, seed)
        self._path = path
        self._cases = cases

    def turn(self, draw: random.Random) -> None:
        devices = draw.choice([["cpu"], ["acme:sim0", "cpu"], None])
        limits = FaultLimits(rest_seconds=0.2, longest_rest_seconds=2.0, compile_seconds=20.0)
        opening = self.ledger.ask(self.name)
        try:
            session = Session(self._path, devices=devices, faults=limits)
        except MaceError as error:  # a device that is named and hangs is an error
            is_told = devices is not None and "acme:sim0" in devices and "MACE_DISABLE_PLUGINS" in str(error)
            self.ledger.end(opening, REFUSED if is_told else FAILED, str(error))
            self.stopped.wait(1.0)
            return
        self.ledger.end(opening, RIGHT)
        with session:
            for feeds, expected in draw.sample(self._cases, 3):
                self.check(self.ledger.ask(self.name), lambda feeds=feeds: session.run(feeds), expected)  # type: ignore[misc]
        self.stopped.wait(2.0)

    def close(self) -> None:
        """Nothing is kept."""


def answers(path: str, feeds: Sequence[Mapping[str, Array]]) -> list[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    """What is fed with the right answers, computed now on the processor alone."""
    with Session(path, devices=["cpu"], strict=True) as session:
        return [(each, session.run(each)) for each in feeds]


def small_network(path: str) -> None:
    """Writes a model of convolutions, for pictures of any size: x (1, 3, h, w)."""
    net = NetworkBuilder("small", (1, 3, 24, 24), seed=3)
    value = net.op("Relu", net.conv("x", 3, 16, 3))
    value = net.op("Relu", net.conv(value, 16, 16, 3))
    model = net.build(net.op("GlobalAveragePool", value), (1, 16, 1, 1))
    for axis, name in ((2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, path)


def all_loads(folder: str, ledger: Ledger, seed: int) -> list[Load]:
    """Every load, with sessions of its own and the answers it is to get."""
    draw = np.random.default_rng(seed)

    def pictures(*shapes: tuple[int, ...]) -> list[Mapping[str, Array]]:
        return [{"x": draw.standard_normal(shape).astype(np.float32)} for shape in shapes]

    small, classifier = f"{folder}/small.onnx", f"{folder}/mobilenet.onnx"
    small_network(small)
    onnx.save(models.mobilenet_v2(), classifier)
    reader = str(models.find_packaged_model(*models.PP_OCR_REC))
    turner = str(models.find_packaged_model(*models.PP_OCR_CLS))
    limits = FaultLimits(rest_seconds=0.2, longest_rest_seconds=5.0, compile_seconds=20.0)

    mobilenet = Asked("mobilenet", Session(classifier, devices=["cpu"]), [], ledger, seed)
    (name,) = [spec.name for spec in mobilenet.session.inputs]
    mobilenet._cases = answers(classifier, [{name: each["x"]} for each in pictures(*[(1, 3, 224, 224)] * 4)])
    mobilenet.rest_seconds = 0.1

    widths = [(1 + at % 2, 3, 48, 64 + 32 * at) for at in range(6)]
    reading = Asked(
        "reading",
        Session(reader, devices=["cpu"], max_signatures=3),
        answers(reader, pictures(*widths)),
        ledger,
        seed + 10,
    )
    reading.session.batching(8, 0.004)
    reading.rest_seconds = 0.15

    sizes = [(1, 3, 8 + 8 * (at // 3), 16 + 8 * (at % 3)) for at in range(9)]
    of_small = answers(small, pictures(*sizes))
    device = Session(small, devices=["acme:sim0", "cpu"], faults=limits, max_signatures=4)
    faulty = Asked("faulty device", device, of_small, ledger, seed + 20)

    return [
        Speech(ledger, seed + 30),
        mobilenet,
        reading,
        faulty,
        Served(Session(turner, devices=["cpu"]), answers(turner, pictures(*[(1, 3, 48, 192)] * 4)), ledger, seed + 40),
        Opened(small, of_small, ledger, seed + 50),
    ]
