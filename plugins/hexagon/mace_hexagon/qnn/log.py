"""What the QNN libraries have to say goes to Python's logging, and the latest of it into our error messages."""

from __future__ import annotations

import ctypes as c
import logging
from collections import deque

_log = logging.getLogger("mace.hexagon")

ERROR, WARNING = 1, 2
_LENGTH = 2048
_KEPT = 16

LogCallback = c.CFUNCTYPE(None, c.c_char_p, c.c_uint32, c.c_uint64, c.c_void_p)


class LogCollector:
    """Receives the library's messages; called from any of its threads.

    A ``va_list`` reaches the callback as an address on the platforms QNN exists for, and so it is handed on to the C
    library's formatter.
    """

    def __init__(self) -> None:
        self._recent: deque[str] = deque(maxlen=_KEPT)
        self._format = getattr(c.CDLL(None), "vsnprintf", None)
        if self._format is not None:
            self._format.argtypes = [c.c_char_p, c.c_size_t, c.c_char_p, c.c_void_p]
        self.callback = LogCallback(self._receive)

    def clear(self) -> None:
        """Forget what was said so far: what comes now belongs to the next call."""
        self._recent.clear()

    def recent(self) -> str:
        """What was said since `clear`, as one text."""
        return "; ".join(dict.fromkeys(self._recent))

    def _receive(self, template: bytes | None, level: int, _timestamp: int, arguments: int | None) -> None:
        if template is None:
            return
        text = template
        if self._format is not None:
            buffer = c.create_string_buffer(_LENGTH)
            self._format(buffer, _LENGTH, template, arguments)
            text = buffer.value
        message = text.decode("utf-8", "replace").strip().removeprefix("<E>").strip()
        self._recent.append(message)
        _log.debug("QNN: %s", message)
