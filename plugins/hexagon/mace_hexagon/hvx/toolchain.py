"""Compiles op packages, for Hexagon and for this machine.

For Hexagon any clang that has the target will do, or the package ``ziglang``; for this machine, its C compiler.
Packages need no C library and no SDK: what they call of QNN is resolved where they are loaded.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import UsageError
from mace_hexagon import discovery

HOST = "host"
INCLUDE = Path(__file__).parent / "include"
LOOKUP8 = (Path(__file__).parent / "lookup8" / "lookup8.c",)
"""Sources of the package ``mace.hvx``: any function of one 8-bit number."""

HINT = "install clang and lld (on Debian: apt-get install clang lld), or pip install ziglang"

_COMMON = INCLUDE / "op_package.c"
_FLAGS = ("-O2", "-Wall", "-Wextra", "-fPIC", "-fvisibility=hidden", "-ffreestanding", f"-I{INCLUDE}")
_NEWEST_CLANG, _OLDEST_CLANG = 24, 14
_TIMEOUT = 600  # the first call of zig unpacks what it needs


@dataclass(frozen=True)
class Toolchain:
    """A C compiler for Hexagon with its linker.

    Attributes:
        compiler, linker: the commands they are called by.
        is_zig: whether the compiler takes zig's names of processors instead of clang's.
    """

    compiler: tuple[str, ...]
    linker: tuple[str, ...]
    is_zig: bool = False

    def compile(self, source: Path, output: Path, arch: int, *, hvx: bool = True) -> Path:
        """An object file for Hexagon v``arch``, with vectors of 128 bytes or without any.

        Raises:
            UsageError: with the compiler's messages, if the source is not right.
        """
        if self.is_zig:
            features = f"+hvxv{arch}+hvx_length128b" if hvx else ""
            target = ["-target", "hexagon-linux-musl", f"-mcpu=hexagonv{arch}{features}", "-g0", "-fno-sanitize=all"]
        else:
            target = ["--target=hexagon-unknown-linux-musl", f"-mv{arch}"]
            target += ["-mhvx", "-mhvx-length=128B"] if hvx else []
        _run([*self.compiler, *target, *_FLAGS, "-c", str(source), "-o", str(output)], f"compile {source}")
        return output

    def link(self, objects: Sequence[Path], output: Path, *, program: bool = False) -> Path:
        """A shared object, or a static program that begins at ``_start``.

        Raises:
            UsageError: with the linker's messages.
        """
        kind = ["-static", "-e", "_start"] if program else ["-shared"]
        _run([*self.linker, *kind, *map(str, objects), "-o", str(output)], f"link {output.name}")
        return output


def find_toolchain() -> Toolchain | None:
    """The compiler that ``MACE_HEXAGON_CLANG`` names, else a clang with the target, else the ``ziglang`` package."""
    versions = [f"clang-{version}" for version in range(_NEWEST_CLANG, _OLDEST_CLANG - 1, -1)]
    given = os.environ.get("MACE_HEXAGON_CLANG")
    for name in [given] if given else ["clang", *versions]:
        compiler = shutil.which(name)
        if compiler is not None and _has_target(compiler):
            linker = _linker_beside(Path(compiler))
            if linker is not None:
                return Toolchain((compiler,), (linker,))
    if given or importlib.util.find_spec("ziglang") is None:
        return None
    zig = (sys.executable, "-m", "ziglang")
    return Toolchain((*zig, "cc"), (*zig, "ld.lld"), is_zig=True)


def why_no_toolchain() -> str | None:
    """What to do so that Hexagon code can be compiled here; None if it can."""
    if find_toolchain() is not None:
        return None
    given = os.environ.get("MACE_HEXAGON_CLANG")
    if given:
        return f"MACE_HEXAGON_CLANG={given} is no clang for Hexagon with ld.lld beside it; name another, or {HINT}"
    return f"there is no compiler for Hexagon here; {HINT}"


def build_package(sources: Sequence[Path], output: Path, target: str = HOST) -> Path:
    """Compile an op package.

    Args:
        sources: C files that define the package's operators (``htp_op_package.h``).
        output: the shared object to write.
        target: ``host`` for QNN on this machine (its emulation of the HTP), or an architecture such as ``v75``.

    Raises:
        UsageError: if a file, the compiler or the target is missing, or the compiler refuses.
    """
    missing = [str(source) for source in sources if not source.is_file()]
    if missing or not sources:
        raise UsageError(f"the op package cannot be built: no source file {missing[0] if missing else 'was given'}")
    if target != HOST and not (target.startswith("v") and target[1:].isdecimal()):
        raise UsageError(f"op packages are built for 'host' or an architecture such as 'v75', not {target!r}")
    if not output.parent.is_dir():
        raise UsageError(f"the op package cannot be written: there is no folder {output.parent}")
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        built = Path(folder, output.name)
        if target == HOST:
            _build_for_host(sources, built)
        else:
            _build_for_hexagon(sources, built, int(target[1:]))
        return built.replace(output)


def _build_for_hexagon(sources: Sequence[Path], output: Path, arch: int) -> None:
    toolchain = find_toolchain()
    if toolchain is None:
        raise UsageError(f"the op package cannot be built for Hexagon: {why_no_toolchain()}")
    objects = [
        toolchain.compile(source, output.with_name(f"{index}.o"), arch)
        for index, source in enumerate([_COMMON, *sources])
    ]
    toolchain.link(objects, output)


def _build_for_host(sources: Sequence[Path], output: Path) -> None:
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    command = [compiler] if compiler is not None else [*_zig_for_host(), "-fno-sanitize=all"]
    library = discovery.search().library
    if library is None:
        raise UsageError(
            f"the op package cannot be built for this machine: there are no QNN libraries; {discovery.HINT}"
        )
    # The library is named as needed, since its functions are not visible to what is loaded after it.
    linked = ["-shared", "-Wl,--allow-shlib-undefined", str(library)]
    files = [str(source) for source in [_COMMON, *sources]]
    _run([*command, *_FLAGS, "-Wno-unknown-pragmas", *files, *linked, "-o", str(output)], f"compile {output.name}")


def _zig_for_host() -> list[str]:
    if importlib.util.find_spec("ziglang") is None:
        raise UsageError(f"the op package cannot be built for this machine: there is no C compiler; {HINT}")
    return [sys.executable, "-m", "ziglang", "cc"]


def _has_target(compiler: str) -> bool:
    try:
        shown = subprocess.run([compiler, "--print-targets"], capture_output=True, text=True, timeout=_TIMEOUT)
    except OSError:
        return False
    return shown.returncode == 0 and "hexagon" in shown.stdout


def _linker_beside(compiler: Path) -> str | None:
    """lld of the compiler's version, or any."""
    version = compiler.name.removeprefix("clang")
    for name in dict.fromkeys((f"ld.lld{version}", "ld.lld")):
        for folder in (compiler.parent, compiler.resolve().parent):
            if (folder / name).exists():
                return str(folder / name)
    return shutil.which(f"ld.lld{version}") or shutil.which("ld.lld")


def _run(command: Sequence[str], doing: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"could not {doing}: {error}") from None
    if done.returncode != 0:
        raise UsageError(f"could not {doing}: {done.stderr.strip() or f'{command[0]} ended with {done.returncode}'}")
