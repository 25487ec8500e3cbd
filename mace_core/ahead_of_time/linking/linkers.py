"""Which linker makes shared libraries for a target.

All of them take the options of GNU ld, so any one will do.  They are looked for from the most specific to the least:
what the user names, the linker of a cross compiler, the machine's own where it builds for itself, LLVM's, the one in
the package ziglang (``pip install mace-core[aot]``), and that of Android's NDK.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mace_core.ahead_of_time.linking.errors import LinkerMissingError
from mace_core.errors import UsageError

ENVIRONMENT = "MACE_LINKER"
NDK = ("ANDROID_NDK", "ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")


@dataclass(frozen=True)
class Machine:
    """What a linker has to know of a kind of processor.

    Attributes:
        name: as ELF readers name it.
        bits: 32 or 64.
        emulation: what GNU ld calls it.
        prefixes: of the programs of cross compilers.
        debian: the package that has a linker.
        page_bytes: the largest page of memory that a system with this processor has.
    """

    name: str
    bits: int
    emulation: str
    prefixes: tuple[str, ...]
    debian: str
    page_bytes: int


_MACHINES = {
    # Android 15 has pages of 16 KiB, some servers and boards such of 64 KiB
    "arm64": Machine("AArch64", 64, "aarch64linux", ("aarch64-linux-gnu",), "binutils-aarch64-linux-gnu", 65536),
    "armeabi": Machine(
        "ARM",
        32,
        "armelf_linux_eabi",
        ("arm-linux-gnueabihf", "arm-linux-gnueabi"),
        "binutils-arm-linux-gnueabihf",
        16384,
    ),
    "riscv64": Machine("RISC-V", 64, "elf64lriscv", ("riscv64-linux-gnu",), "binutils-riscv64-linux-gnu", 4096),
    "x86": Machine("x64", 64, "elf_x86_64", ("x86_64-linux-gnu",), "binutils-x86-64-linux-gnu", 16384),
}
_HOSTS = {"x86_64": "x86", "AMD64": "x86", "aarch64": "arm64", "arm64": "arm64", "armv7l": "armeabi"}


def machine_of(target: str) -> Machine:
    """The machine of a target of `mace compile`.

    Raises:
        UsageError: for one that nothing is known of.
    """
    if target == "host":
        target = _HOSTS.get(platform.machine(), platform.machine())
    found = _MACHINES.get(target.partition("-")[0])
    if found is None:
        raise UsageError(f"the target '{target}' has no linker; those with one begin with {', '.join(_MACHINES)}")
    return found


@dataclass(frozen=True)
class Linker:
    """A linker that was found.

    Attributes:
        command: the program and its first arguments.
        origin: where it was found, in words.
        is_driver: it is a compiler, which takes the options of a linker with ``-Wl,`` before them.
    """

    command: tuple[str, ...]
    origin: str
    is_driver: bool = False

    def __str__(self) -> str:
        return f"{shlex.join(self.command)} ({self.origin})"


def find_linker(target: str, chosen: str | None = None) -> Linker:
    """The first linker for a target.

    Args:
        target: as `mace compile` takes it.
        chosen: a program that the user named, with arguments of its own; None takes ``MACE_LINKER``.

    Raises:
        UsageError: for a program that is not there.
        LinkerMissingError: where there is none; with what to install.
    """
    machine = machine_of(target)
    text, origin = (os.environ.get(ENVIRONMENT, ""), ENVIRONMENT) if chosen is None else (chosen, "--linker")
    if text:
        return _named(text, origin)
    for linker in _candidates(machine):
        return linker
    raise LinkerMissingError(
        f"there is no linker for {target} here: no shared library was made; install one (apt-get install "
        f"{machine.debian}, or lld, or pip install 'mace-core[aot]'), or name one with --linker"
    )


def _named(text: str, origin: str) -> Linker:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{origin} '{text}': this is no command: {error}") from None
    program = shutil.which(words[0]) if words else None
    if program is None:
        raise UsageError(f"{origin} '{text}': there is no program '{words[0] if words else ''}' here")
    name = Path(program).name
    is_driver = name in ("cc", "c++", "zig") or any(part in name for part in ("gcc", "g++", "clang"))
    return Linker((program, *words[1:]), origin, is_driver)


def _candidates(machine: Machine) -> Iterator[Linker]:
    for prefix in machine.prefixes:
        if found := shutil.which(f"{prefix}-ld"):
            yield _for_machine(found, machine, "GNU binutils")
    own = _HOSTS.get(platform.machine())
    if own is not None and _MACHINES[own] is machine and (found := shutil.which("ld")):
        yield _for_machine(found, machine, "of this machine")
    if found := _newest("ld.lld"):
        yield _for_machine(found, machine, "LLVM")
    if importlib.util.find_spec("ziglang") is not None:
        command = (sys.executable, "-m", "ziglang", "ld.lld", "-m", machine.emulation)
        yield Linker(command, "package ziglang")
    for variable in NDK:
        folder = os.environ.get(variable)
        places = sorted(Path(folder).glob("toolchains/llvm/prebuilt/*/bin/ld.lld")) if folder else []
        if places:
            yield _for_machine(str(places[0]), machine, variable)


def _for_machine(program: str, machine: Machine, origin: str) -> Linker:
    return Linker((program, "-m", machine.emulation), origin)


def _newest(name: str) -> str | None:
    """A program of LLVM: as such, or with a version in its name as Debian has it."""
    if found := shutil.which(name):
        return found
    versions = range(40, 12, -1)
    return next((found for version in versions if (found := shutil.which(f"{name}-{version}"))), None)
