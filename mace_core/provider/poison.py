"""Memory filled with a pattern before anything is computed into it and once its content is over: a mode for tests.

With ``MACE_POISON=ff`` (any byte in hexadecimal) whoever plans memory fills it so, and whatever reads memory that is
not its own any more, or was never written, computes something else than without.  See docs/memory-checks.md.
"""

from __future__ import annotations

import ctypes
import os

from mace_core.errors import UsageError

VARIABLE = "MACE_POISON"


def poison_byte() -> int | None:
    """The byte to fill memory with; None where the mode is off.

    Raises:
        UsageError: if the variable is set to something else than a byte.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    try:
        byte = int(text, 16)
    except ValueError:
        byte = -1
    if not 0 <= byte <= 0xFF:
        raise UsageError(f"{VARIABLE}={text} is not a byte; give two hexadecimal digits, such as ff, or unset it")
    return byte


def fill(address: int, nbytes: int, byte: int) -> None:
    """Fill host memory."""
    if nbytes:
        ctypes.memset(address, byte, nbytes)
