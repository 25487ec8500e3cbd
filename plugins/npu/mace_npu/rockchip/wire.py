"""Messages between the driver and its worker, which runs in another Python environment: only the standard library.

A message is a line of JSON whose ``bytes`` says how many follow.  Tensors are not in it but in shared memory.  In
version 2 the worker says hello, and then each request gets one answer: ``{"ok": true, ...}``, or ``{"ok": false,
"error": ...}``.
"""

from __future__ import annotations

import json
from typing import IO, Any

VERSION = 2

LARGEST_HEADER_BYTES = 1 << 20


class WireError(Exception):
    """The other side has gone, or sent something that is no message."""


def send(stream: IO[bytes], message: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    """Write one message."""
    header = json.dumps({**message, "bytes": len(payload)}).encode()
    try:
        stream.write(header + b"\n")
        stream.write(payload)
        stream.flush()
    except (OSError, ValueError) as error:
        raise WireError(f"the other side does not read any more ({error})") from error


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one message; blocks until it is there."""
    try:
        line = stream.readline(LARGEST_HEADER_BYTES)
        if not line:
            raise WireError("the other side has ended")
        message = json.loads(line)
        count = message.pop("bytes")
        payload = stream.read(count)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WireError(f"what came is no message ({error})") from error
    if len(payload) != count:
        raise WireError("the other side has ended in the middle of a message")
    return message, payload
