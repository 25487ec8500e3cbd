"""Files that hold code: read only where the user says that they are trusted."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_trusted: contextvars.ContextVar[bool] = contextvars.ContextVar("mace_trusted_files", default=False)


@contextlib.contextmanager
def trusted_files() -> Iterator[None]:
    """While the block runs, model files that hold code (pickles) are read, which runs that code.

    with trusted_files():
        graph = load_model("pipeline.joblib")
    """
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def are_trusted() -> bool:
    """Whether the user said so."""
    return _trusted.get()
