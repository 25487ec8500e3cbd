"""What a forked child finds in order.

A child of a fork has only the thread that forked.  A lock that another thread held at that moment would never be
released there.  What the locks made here guard is changed in single steps or put in place when it is whole, so a child
finds them free and may go on with it.  Compilers, and Python while it imports a module, hold locks of their own over
what is half done: a fork waits until no other thread is at that (`unforked`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from mace_core.errors import UsageError
from mace_core.host.signals import forget_threads, signals_kept

_log = logging.getLogger("mace")

LONGEST_WAIT_SECONDS = 60.0
"""A fork waits no longer for other threads; the child is told, and refuses to compile instead of hanging."""

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def fork_safe_lock() -> threading.Lock:
    """A ``threading.Lock`` that is free in the children of a fork."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def fork_safe_rlock() -> threading.RLock:
    """A ``threading.RLock`` that is free in the children of a fork."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


class _Gate:
    """Lets threads do what no fork may cut in two, any number at once, and a fork only while none is at it."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside: dict[int, int] = {}  # how deep, by thread
        self._left: set[int] = set()  # threads inside that nobody waits for any more
        self._forking: int | None = None
        self.was_cut = False

    def enter(self) -> None:
        me = threading.get_ident()
        with self._changed:
            # a thread that is inside already must get on, for the fork is waiting for it
            while me not in self._inside and self._forking not in (None, me):
                self._changed.wait(1.0)
            self._inside[me] = self._inside.get(me, 0) + 1

    def leave(self) -> None:
        me = threading.get_ident()
        with self._changed:
            depth = self._inside.get(me, 0) - 1  # 0 in a child, for what its parent's thread had begun
            if depth > 0:
                self._inside[me] = depth
            else:
                self._inside.pop(me, None)
                self._left.discard(me)
                self._changed.notify_all()

    def enter_for_another(self) -> None:
        """As `enter`, for a thread that does the work of one that is inside, or need not be, and waits for it."""
        with self._changed:
            self._inside[threading.get_ident()] = 1

    def leave_behind(self, thread: int) -> None:
        """No fork waits for ``thread`` any more."""
        with self._changed:
            if self._inside.pop(thread, 0):
                self._left.add(thread)
                self._changed.notify_all()

    def before_fork(self) -> None:
        me = threading.get_ident()
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        with self._changed:
            while self._forking is not None and time.monotonic() < deadline:
                self._changed.wait(1.0)
            self._forking = me
            while (others := self._inside.keys() - {me}) and time.monotonic() < deadline:
                self._changed.wait(1.0)
        if others:
            _log.warning(
                "A fork has waited %.0f s for another thread that compiles and goes on; the child cannot compile.",
                LONGEST_WAIT_SECONDS,
            )

    def after_in_parent(self) -> None:
        with self._changed:
            self._forking = None
            self._changed.notify_all()

    def after_in_child(self) -> None:
        me = threading.get_ident()
        self._changed = threading.Condition(threading.Lock())
        self._forking = None
        self.was_cut = self.was_cut or bool((self._inside.keys() | self._left) - {me})
        self._left = set()
        depth = self._inside.get(me)
        self._inside = {} if depth is None else {me: depth}


_gate = _Gate()


@contextlib.contextmanager
def unforked() -> Iterator[None]:
    """Keep other threads from forking while the body runs, and wait for a fork that is going on.

    What runs in there is code of compilers and drivers, so the application's signals are kept too.

    Raises:
        UsageError: in the child of a fork that could not wait for such a body, where starting another might never end.
    """
    if _gate.was_cut:
        raise UsageError(
            "this process was forked while another thread was compiling, so it cannot compile: fork before threads "
            "open sessions, or start processes by 'spawn'"
        )
    _gate.enter()
    try:
        with signals_kept():
            yield
    finally:
        _gate.leave()


@contextlib.contextmanager
def unforked_for_another() -> Iterator[None]:
    """As `unforked`, in a thread that does the work of another, which waits for it."""
    _gate.enter_for_another()
    try:
        with signals_kept():
            yield
    finally:
        _gate.leave()


def leave_behind(thread: int) -> None:
    """No fork waits for ``thread`` any more; if it is still inside then, the child of the fork does not compile."""
    _gate.leave_behind(thread)


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # what the standard library does with its own locks
    _gate.after_in_child()
    forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_gate.before_fork, after_in_parent=_gate.after_in_parent, after_in_child=_after_fork_in_child
    )
