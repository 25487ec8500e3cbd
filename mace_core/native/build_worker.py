"""A process that builds kernels for another one: requests on standard input, object code on standard output.

LLVM's Python binding lets one thread of a process in at a time, and numba's typing holds the GIL: kernels are built in
parallel by processes or not at all.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from typing import IO

from mace_core.native.compiler import compile_object
from mace_core.native.source import KernelSource
from mace_core.native.target import Target

_LENGTH = struct.Struct("<Q")
BUILT, FAILED = b"+", b"-"


def write_message(stream: IO[bytes], message: bytes) -> None:
    stream.write(_LENGTH.pack(len(message)) + message)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes | None:
    """The next message; None when the other side has closed its end."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    message = stream.read(length)
    return message if len(message) == length else None


def encode_request(source: KernelSource, target: Target) -> bytes:
    """Raises what pickle raises for a source whose ``build`` no other process can import."""
    return pickle.dumps((source, target))


def main() -> None:
    requests = sys.stdin.buffer
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # ends without a word
    # whatever the modules of kernels print must not get between the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (request := read_message(requests)) is not None:
        answer = _answer(request)
        try:
            write_message(answers, answer)
        except OSError:  # nobody is there any more
            os._exit(0)


def _answer(request: bytes) -> bytes:
    try:
        source, target = pickle.loads(request)
        return BUILT + compile_object(source.build(target), source.symbol, target)
    except Exception as error:  # the process that asked builds it again and raises what is to be raised
        return FAILED + f"{type(error).__name__}: {error}".encode()
