"""Signals are the server's while it serves, and then as they were."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.serving import ModelServer, ServerOptions
from mace_core.serving.server import _loop_factory
from mace_core.serving.signals import ENDING, ending_signals, kept_signals

from .conftest import DATATYPES, echo
from .signal_state import signal_state, system_action

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = signal_state()
    with kept_signals():
        yield
    assert signal_state() == before


def nothing() -> None:
    """As it is when a program begins."""


def of_python() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.siginterrupt(signal.SIGTERM, False)


C_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)


def of_a_library() -> None:
    """Python does not know of them."""
    for number in ENDING:
        ctypes.CDLL(None).signal(int(number), C_HANDLER)


def ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


HANDLERS = [nothing, of_python, of_a_library, ignored]


@pytest.mark.parametrize("is_uvloop", [False, True])
@pytest.mark.parametrize("handlers", HANDLERS, ids=lambda call: call.__name__)
def test_they_are_put_back(handlers: Callable[[], None], is_uvloop: bool) -> None:
    handlers()
    before = signal_state()
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]

    async def serve(number: int | None) -> None:
        end = asyncio.Event()
        with ending_signals(end.set):
            if number is not None:
                signal.raise_signal(number)
                await asyncio.wait_for(end.wait(), 60)
                assert signal.getsignal(number) is signal.SIG_DFL  # a second one ends the process

    for number in (None, *heard):
        with kept_signals(), asyncio.Runner(loop_factory=_loop_factory() if is_uvloop else None) as runner:
            runner.run(serve(number))
        assert signal_state() == before


def test_an_ignored_signal_stays_ignored() -> None:
    ignored()

    async def serve() -> None:
        with ending_signals(lambda: pytest.fail("it was heard")):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)

    asyncio.run(serve())


def small() -> dict[str, Session]:
    return {"small": Session(echo(DATATYPES["FP32"]), devices=["cpu"], cache=False)}


@pytest.mark.parametrize("end", ["stop", "signal"])
def test_a_server_in_the_main_thread_puts_them_back(end: str) -> None:
    server = ModelServer(small(), ServerOptions(http=0, grpc=0, drain=0.0))
    ends: dict[str, Callable[[], Any]] = {"stop": server.stop, "signal": lambda: signal.raise_signal(signal.SIGTERM)}
    of_a_library()
    before = signal_state()
    server.run(lambda: asyncio.get_running_loop().call_soon(ends[end]))
    assert signal_state() == before


def test_a_server_that_cannot_begin_puts_them_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ModelServer(small(), ServerOptions(http=0, grpc=port))
    before = signal_state()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UsageError, match="cannot be listened on"):
        server.run()
    assert signal_state() == before


def test_another_thread_changes_nothing() -> None:
    of_python()
    before = system_action(signal.SIGTERM)
    found = []

    async def serve() -> None:
        with ending_signals(nothing):
            found.append(system_action(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    thread.join(60)
    assert found == [before]
