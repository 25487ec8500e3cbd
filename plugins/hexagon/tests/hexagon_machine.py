"""Runs the kernel of an op package on an emulated Hexagon processor (qemu-hexagon), driven by `hvx/driver.c`."""

from __future__ import annotations

import collections
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mace_hexagon.hvx import Toolchain
from mace_hexagon.hvx.toolchain import INCLUDE

Bytes = npt.NDArray[np.uint8 | np.int8]

QEMU = next((found for name in ("qemu-hexagon", "qemu-hexagon-static") if (found := shutil.which(name))), None)
ARCH = 67
"""What every version of qemu-hexagon runs; its HVX is the same as that of later architectures for integers."""

UNSIGNED, SIGNED = 1, 7
"""Element types of QHPI."""

_DRIVER = Path(__file__).parent / "hvx" / "driver.c"


@dataclass(frozen=True)
class Request:
    """One call: ``slices`` threads share the tensor; input and output begin that many bytes after a whole vector."""

    data: Bytes
    table: Bytes
    slices: int = 1
    input_shift: int = 0
    output_shift: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of it: the kernel's status, whether it wrote nothing but its output, and that."""

    status: int
    kept_inside: bool
    data: Bytes


def build_driver(toolchain: Toolchain, sources: Sequence[Path], folder: Path, *, hvx: bool) -> Path:
    """A program of the driver and a package."""
    files = (INCLUDE / "op_package.c", *sources, _DRIVER)
    objects = [toolchain.compile(file, folder / f"{file.stem}.{hvx}.o", ARCH, hvx=hvx) for file in files]
    return toolchain.link(objects, folder / f"driver.{hvx}", program=True)


def run_driver(program: Path, requests: Sequence[Request], *options: str) -> list[Answer]:
    """Run the requests one after the other in one process of qemu."""
    assert QEMU is not None
    done = subprocess.run(
        [QEMU, *options, program], input=b"".join(map(_packed, requests)), capture_output=True, timeout=300
    )
    assert done.returncode == 0, (done.returncode, done.stderr.decode(errors="replace"))
    answers, at = list[Answer](), 0
    for request in requests:
        status, inside = struct.unpack_from("<2I", done.stdout, at)
        data = np.frombuffer(done.stdout, request.data.dtype, request.data.size, at + 8)
        answers.append(Answer(status, bool(inside), data))
        at += 8 + request.data.size
    assert at == len(done.stdout)
    return answers


def packets(program: Path, request: Request, folder: Path) -> dict[str, int]:
    """How many packets of instructions each function of the program executes for a request, start included."""
    log = folder / "packets.log"
    run_driver(program, [request], *_one_packet_a_block(), "-d", "exec,nochain", "-D", os.fspath(log))
    counts: collections.Counter[str] = collections.Counter()
    with log.open() as lines:
        for line in lines:
            if line.startswith("Trace"):
                counts[line.split()[-1]] += 1
    return dict(counts)


def _one_packet_a_block() -> list[str]:
    """qemu 8.1 gave the option another name."""
    assert QEMU is not None
    shown = subprocess.run([QEMU, "-h"], capture_output=True, text=True, timeout=60).stdout
    return ["-one-insn-per-tb"] if "one-insn-per-tb" in shown else ["-singlestep"]


def _packed(request: Request) -> bytes:
    kind = SIGNED if request.data.dtype == np.int8 else UNSIGNED
    words = (request.slices, kind, request.data.size, request.table.size, request.input_shift, request.output_shift)
    return struct.pack("<6I", *words) + request.data.tobytes() + request.table.tobytes()


def symbols(library: Path) -> tuple[set[str], set[str]]:
    """The names that a shared object for Hexagon takes from others, and those that it offers."""
    image = library.read_bytes()
    assert image[:5] == b"\x7fELF\x01"
    sections: Any = _sections(image)
    (dynamic,) = (section for section in sections if section[1] == 11)
    text = sections[dynamic[6]]
    wanted, offered = set[str](), set[str]()
    for place in range(dynamic[4] + 16, dynamic[4] + dynamic[5], 16):
        name, _, _, info, _, index = struct.unpack_from("<IIIBBH", image, place)
        end = image.index(b"\0", text[4] + name)
        if info >> 4:  # not local
            (offered if index else wanted).add(image[text[4] + name : end].decode())
    return wanted, offered


def _sections(image: bytes) -> list[tuple[int, ...]]:
    (start,) = struct.unpack_from("<I", image, 32)
    size, count = struct.unpack_from("<HH", image, 46)
    return [struct.unpack_from("<10I", image, start + index * size) for index in range(count)]
