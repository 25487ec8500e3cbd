"""Threads of numpy's linear algebra: no more than the work is worth, and than this process may have."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from mace_core.host.threads import default_threads

SERIAL_BELOW = 1024
"""Rows of square matrices up to which one thread is used.

An algorithm that goes through a matrix in blocks makes thousands of small products. Where other processes want the
processors too, each of these waits for the last of its threads to get one, which costs many times what it gains.
"""


@contextlib.contextmanager
def blas_threads(size: int) -> Iterator[None]:
    """Within the block, numpy works on matrices of ``size`` rows with as many threads as they are worth.

    A BLAS takes a thread for each processor of the machine by itself, those beyond the quota of a container too.
    """
    threads = 1 if size < SERIAL_BELOW else default_threads()
    with _libraries().limit(limits=threads, user_api="blas"):
        yield


@functools.cache
def _libraries() -> Any:
    import numpy  # noqa: F401 - loads the library that is looked for
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
