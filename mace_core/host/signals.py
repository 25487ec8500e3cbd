"""Keeps an application's signals as they are while code of native libraries runs.

LLVM, which is inside many drivers and compilers (PoCL among them), takes SIGINT and others when it first writes a
temporary file.  Its handler removes that file and ends the process: Ctrl-C would raise no KeyboardInterrupt any more.
Others give the thread that opens a device an alternate stack for signals (OpenVINO does) and free it some time after
they are closed.  Python's own handlers run on that stack, so the next signal would end the process without a word.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any

_ROOM = 512  # bytes: no system's struct sigaction or stack_t takes as many
_ADDRESS = slice(struct.calcsize("P"))  # both begin with an address; C libraries leave much of the rest undefined

_NAMES = ("INT", "TERM", "HUP", "QUIT", "PIPE", "ALRM", "CHLD", "USR1", "USR2", "TSTP", "WINCH", "XFSZ")
_NUMBERS = [int(number) for name in _NAMES if (number := getattr(signal, f"SIG{name}", None)) is not None]

_Kept = dict[int, tuple[object, bytes]]

# There is no lock: where it is held, garbage may be collected, and a session that is thrown away closes its devices,
# which comes back here and waits for locks of its own.  Each step below is one that no thread can be stopped within.
_inside: dict[object, _Kept] = {}
_last_to_leave: list[object] = [None]


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Undo what native code inside the body does to signals that Python code handles or has ignored, and to the stack
    on which this thread handles them.

    What Python code itself changes meanwhile stays, and so do handlers of signals that nobody cared for.  Any number of
    threads may be inside: the handlers are looked at when the first enters, and put back whenever one leaves.
    """
    if sys.platform == "win32":  # has neither
        yield
        return
    me, kept, stack = object(), _Kept(), b""
    try:
        kept = _entered(me)
        stack = stack_for_signals()
        yield
    finally:
        put_back_stack(stack)
        for number, (python, native) in kept.items():
            if signal.getsignal(number) is python and action_of(number)[_ADDRESS] != native[_ADDRESS]:
                put_back(number, native)
        _last_to_leave[0] = me
        _inside.pop(me, None)  # forgotten already in the child of a fork from inside


def forget_threads() -> None:
    """Called in the child of a fork, where no other thread is inside."""
    _inside.clear()


def _entered(me: object) -> _Kept:
    """The handlers as they were before anybody who is inside came."""
    while True:
        before = _last_to_leave[0]
        others = list(_inside.values())
        found = others[0] if others else _cared_for()
        _inside[me] = found
        # who came and went meanwhile may have changed handlers while they were looked at
        first = next(iter(list(_inside.values())))
        if others or (first is found and _last_to_leave[0] is before):
            return found
        del _inside[me]


def _cared_for() -> _Kept:
    handlers = {number: signal.getsignal(number) for number in _NUMBERS}
    return {
        number: (handler, action_of(number))
        for number, handler in handlers.items()
        if callable(handler) or handler is signal.SIG_IGN
    }


def action_of(number: int) -> bytes:
    """What the system does on a signal, flags and mask included; empty on Windows."""
    if sys.platform == "win32":
        return b""
    import ctypes

    found = ctypes.create_string_buffer(_ROOM)
    _library().sigaction(number, None, found)
    return found.raw


def put_back(number: int, action: bytes) -> None:
    """Let the system do on a signal what `action_of` told."""
    if action:
        _library().sigaction(number, action, None)


def stack_for_signals() -> bytes:
    """The alternate stack of the thread that calls, where handlers run; empty on Windows."""
    if sys.platform == "win32":
        return b""
    import ctypes

    found = ctypes.create_string_buffer(_ROOM)
    _library().sigaltstack(None, found)
    return found.raw


def put_back_stack(stack: bytes) -> None:
    """Let the handlers of the thread that calls run where `stack_for_signals` told, if they run elsewhere now."""
    if stack and stack_for_signals()[_ADDRESS] != stack[_ADDRESS]:
        _library().sigaltstack(stack, None)


@functools.cache
def _library() -> Any:
    import ctypes  # takes milliseconds, which `import mace_core` need not

    def checked(result: Any, function: Any, arguments: Any) -> Any:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    library = ctypes.CDLL(None, use_errno=True)
    for function in (library.sigaction, library.sigaltstack):
        function.errcheck = checked
    return library
