"""Telling how far lengthy work has come: who does it reports, who shows it listens.

    with listening(lambda what, done, total: print(what, done, "of", total)):
        Session("model.onnx")

Providers may report from ``capability``, ``compile`` and ``deserialize``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""``(what, done, total)``: what is being done, as "compiling kernels", and how many of how many parts are done."""

_listener: ContextVar[Listener | None] = ContextVar("mace_progress_listener", default=None)


def report(what: str, done: int, total: int) -> None:
    """So much is done now; called in the thread that does the work for somebody."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear the reports of this thread while the body runs."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
