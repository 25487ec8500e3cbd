"""The file of weights beside a library: a head by which the library knows it, and what else is a section of it.

    0    "MACEWGT1"
    8    version, bytes of the head: two words of 32 bits
    16   bytes behind the head
    24   checksum of them: the sum of their words of 64 bits, each times twice its number plus 1, modulo 2^64
    32   their SHA-256, which the library has too
    64   target, ended by zeros
    128  the weights

``mace_runtime.h`` reads it.  The checksum is one that C computes as fast as memory is read; any change of one word
changes it, since the factors are odd.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC, VERSION, HEAD_BYTES = b"MACEWGT1", 1, 128

_HEAD = struct.Struct("<8sIIQQ32s64s")


class WeightFile(NamedTuple):
    """What a library knows of its file: the size, and the digest of the weights."""

    nbytes: int
    key: bytes


def write_weights(path: Path, parts: Sequence[bytes | memoryview], target: str) -> WeightFile:
    """Write the weights of a library, whose parts are together a multiple of 8 bytes long.

    Raises:
        OSError: if the file cannot be written.
    """
    digest, total, nbytes, carried = hashlib.sha256(), np.uint64(0), 0, b""
    for part in parts:
        digest.update(part)
        content = carried + bytes(part) if carried or len(part) % 8 else part
        whole = len(content) // 8 * 8
        words = np.frombuffer(content[:whole], "<u8")
        factors = np.arange(nbytes // 8, nbytes // 8 + len(words), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        total = total + np.sum(words * factors, dtype=np.uint64)  # modulo 2^64
        nbytes += whole
        carried = bytes(content[whole:])
    if carried:
        raise ValueError("the weights end within a word")
    head = _HEAD.pack(MAGIC, VERSION, HEAD_BYTES, nbytes, int(total), digest.digest(), target.encode()[:63])
    with path.open("wb") as file:
        file.write(head)
        for part in parts:
            file.write(part)
    return WeightFile(HEAD_BYTES + nbytes, digest.digest())
