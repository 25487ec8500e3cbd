"""Locks that a forked child finds free.

A child of a fork has only the thread that forked.  A lock that another thread held at that moment would never be
released there.  What these locks guard is changed in single steps or put in place when it is whole, so a child may go
on with it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

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


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # what the standard library does with its own locks


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
