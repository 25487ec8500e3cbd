"""What daemon threads may still do once the interpreter ends: nothing that reaches a driver.

Python waits for other threads, calls what is registered with `atexit`, and then takes itself down while daemon threads
still run.  A driver's library is taken down next; a thread that is inside it then, or that comes back from C++ to an
interpreter that is gone, aborts the process (before Python 3.14, such a thread is unwound through frames that do not
allow it).  So daemon threads do not enter sessions any more once the end has begun, and the end waits a little for
those that are inside.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from threading import get_ident
from types import TracebackType

_log = logging.getLogger("mace")

LONGEST_WAIT_SECONDS = 5.0
"""The end of the process waits no longer for runs of daemon threads."""

_inside: dict[int, int] = {}  # how deep, by thread: each thread writes its own entry alone
_ending: list[int] = []  # the thread that ends the process, once it does


class at_work(contextlib.ContextDecorator):  # noqa: N801 - used as a function
    """Work on devices, during which the process does not end: ``with at_work(): …``, or as a decorator.

    May be nested.  Once the process ends, any thread but the one that ends it stays in here for ever.
    """

    def __enter__(self) -> None:
        me = get_ident()
        depth = _inside.get(me, 0)
        _inside[me] = depth + 1  # before looking whether the end has begun: it looks here after saying so
        if _ending and depth == 0 and _ending[0] != me:
            del _inside[me]
            threading.Event().wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        me = get_ident()
        depth = _inside.get(me, 1) - 1  # it may have been left behind
        if depth:
            _inside[me] = depth
        else:
            _inside.pop(me, None)


@contextlib.contextmanager
def at_work_for_another() -> Iterator[None]:
    """As `at_work`, in a thread that does the work of another, which waits for it and may be the one that ends."""
    me = get_ident()
    _inside[me] = 1
    try:
        yield
    finally:
        _inside.pop(me, None)


def leave_behind(thread: int) -> None:
    """The end of the process does not wait for ``thread`` any more."""
    _inside.pop(thread, None)


def _end() -> None:
    me = get_ident()
    _ending[:] = [me]
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while any(thread != me for thread in list(_inside)):
        if time.monotonic() > deadline:
            _log.warning(
                "the process ends while %d daemon threads still work with sessions; stop them first, "
                "for their drivers may abort the process",
                sum(thread != me for thread in list(_inside)),
            )
            return
        time.sleep(0.002)


def _forget_other_threads() -> None:
    me = get_ident()
    own = _inside.get(me, 0)
    _inside.clear()
    if own:
        _inside[me] = own


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)
