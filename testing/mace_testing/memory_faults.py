"""Says which guarded memory a process was touching when it dies of it; Linux only.

    with memory_faults_told(print):
        run_kernels()

See `mace_core.testing.guard_pages` for the memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator

from mace_core.testing.guard_pages import describe_address

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_SA_SIGINFO, _ADDRESS_OFFSET = 4, 16


class _SignalAction(ctypes.Structure):
    """``struct sigaction`` of Linux' C libraries on 64-bit processors."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


@contextlib.contextmanager
def memory_faults_told(tell: Callable[[str], object]) -> Iterator[None]:
    """Before this process dies of a fault, tell beside which memory it was; then whoever handled faults before does.

    The process just dies where the system is not Linux.
    """
    if os.uname().sysname != "Linux":
        yield
        return
    library = ctypes.CDLL(None)
    before = {int(number): _SignalAction() for number in (signal.SIGSEGV, signal.SIGBUS)}

    def handler(number: int, info: int, context: int) -> None:
        address = ctypes.c_uint64.from_address(info + _ADDRESS_OFFSET).value
        found = describe_address(address)
        tell(f"touching {found or f'address {address:#x}, which is not guarded memory'}")
        # What faulted is tried again, and the signal now goes to whom it went before, which ends the process.
        library.sigaction(number, ctypes.byref(before[number]), None)

    callback = _HANDLER(handler)
    action = _SignalAction()
    action.handler = ctypes.cast(callback, ctypes.c_void_p).value
    action.flags = _SA_SIGINFO
    for number, previous in before.items():
        library.sigaction(number, ctypes.byref(action), ctypes.byref(previous))
    try:
        yield
    finally:
        for number, previous in before.items():
            library.sigaction(number, ctypes.byref(previous), None)
