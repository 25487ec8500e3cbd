"""What the process does on signals, changed for a while and put back as it was."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from mace_core.host.signals import action_of, put_back

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def kept_signals() -> Iterator[None]:
    """Whatever is done to the ending signals meanwhile, they are put back, with what the system alone knows of them.

    A library of a device may have asked the system for them past Python, like LLVM, which OpenCL's drivers bring.
    Where this is not the main thread, nothing is put back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.getsignal(number), action_of(number)) for number in ENDING]
    try:
        yield
    finally:
        for number, handler, action in before:
            # a handler that is not Python's is none for Python
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            put_back(number, action)


@contextlib.contextmanager
def ending_signals(end: Callable[[], object]) -> Iterator[None]:
    """Have the first SIGINT or SIGTERM call ``end`` in the running loop, and a second one end the process at once.

    Signals that the process ignores are ignored further, like SIGINT in a command that a script starts with ``&``.
    Where this is not the main thread, nothing is changed.  To be used within `kept_signals`, which puts them back also
    after asyncio, whose runner takes SIGINT.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]

    def first() -> None:
        for number in heard:
            _ignore(loop, number)
            signal.signal(number, signal.SIG_DFL)
        end()

    for number in heard:
        _hear(loop, number, first)
    try:
        yield
    finally:
        for number in heard:
            _ignore(loop, number)


def _hear(loop: asyncio.AbstractEventLoop, number: int, call: Callable[[], None]) -> None:
    if sys.platform == "win32":
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
    else:
        loop.add_signal_handler(number, call)


def _ignore(loop: asyncio.AbstractEventLoop, number: int) -> None:
    if sys.platform != "win32":
        loop.remove_signal_handler(number)
