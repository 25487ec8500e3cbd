"""Runs the code of a kernel on an emulated aarch64 processor: an executable made by hand, and qemu-user.

There is no C library and no linker in it, so kernels must be whole: without calls, and without constants in memory.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mace_core.native.compiler import compile_object
from mace_core.native.elf import read_object
from mace_core.native.source import KernelSource
from mace_core.native.target import Target

QEMU = next((found for name in ("qemu-aarch64-static", "qemu-aarch64") if (found := shutil.which(name))), None)

PAGE = 4096
CODE, DATA = 0x400000, 0x10000000
_MACHINE_AARCH64 = 183
_WRITE, _EXIT = 64, 93
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


def run_kernel(
    source: KernelSource, target: Target, processor: str, words: Sequence[int | npt.NDArray[np.generic]], folder: Path
) -> bytes:
    """Call a kernel once with these argument words, unit 0 alone; the bytes of the last array, which it writes.

    Args:
        processor: qemu's name of it.
        words: numbers, and arrays for their addresses.
        folder: for the executable.
    """
    assert QEMU is not None
    image = compile_object(source.build(target), source.symbol, target)
    found = read_object(image)
    (text,) = (i for i, section in enumerate(found.sections) if section.name == ".text")
    assert not [place for place in found.relocations if place.section == text], "the kernel is not whole"
    (entry,) = (symbol.value for symbol in found.symbols if symbol.name == source.symbol)
    section = found.sections[text]
    code = image[section.offset : section.offset + section.size]
    data, places = bytearray(8 * len(words)), list[int]()
    for word in words:
        if isinstance(word, np.ndarray):
            data += bytes(-len(data) % 64)
            places.append(DATA + len(data))
            data += word.tobytes()
        else:
            places.append(word)
    struct.pack_into(f"<{len(words)}q", data, 0, *places)
    last, nbytes = next(
        (place, word.nbytes)
        for place, word in zip(reversed(places), reversed(words), strict=True)
        if isinstance(word, np.ndarray)
    )
    program = folder / source.symbol
    program.write_bytes(_executable(_start(entry, last, nbytes), code, bytes(data)))
    program.chmod(0o700)
    done = subprocess.run([QEMU, "-cpu", processor, program], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def _start(entry: int, result: int, nbytes: int) -> bytes:
    """Machine code that calls what follows it, writes the result to standard output and ends the process."""

    def put(register: int, value: int) -> list[int]:
        """movz and movk"""
        parts = [(value >> 16 * i) & 0xFFFF for i in range(2)]
        return [0xD2800000 | parts[0] << 5 | register, 0xF2A00000 | parts[1] << 5 | register]

    call = [*put(0, DATA), *put(1, 0), *put(2, 1), *put(3, 0)]
    after = [*put(0, 1), *put(1, result), *put(2, nbytes), *put(8, _WRITE), 0xD4000001]
    after += [*put(0, 0), *put(8, _EXIT), 0xD4000001]
    distance = len(after) + 1 + entry // 4
    return struct.pack(f"<{len(call) + 1 + len(after)}I", *call, 0x94000000 | distance, *after)


def _executable(start: bytes, code: bytes, data: bytes) -> bytes:
    """A static executable: the code, which may be run, and the data, which may be written."""
    code = start + code
    at = PAGE + -(-len(code) // PAGE) * PAGE
    segments = (
        _SEGMENT.pack(1, 5, PAGE, CODE, CODE, len(code), len(code), PAGE),
        _SEGMENT.pack(1, 6, at, DATA, DATA, len(data), len(data), PAGE),
    )
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    sizes = (_HEADER.size, _SEGMENT.size, len(segments), 64, 0, 0)
    header = _HEADER.pack(identity, 2, _MACHINE_AARCH64, 1, CODE, _HEADER.size, 0, 0, *sizes)
    head = (header + b"".join(segments)).ljust(PAGE, b"\0")
    return (head + code).ljust(at, b"\0") + data
