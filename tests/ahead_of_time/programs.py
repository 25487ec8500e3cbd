"""C programs around libraries: linked with the compilers of the targets, and run, by an emulator where need be."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from mace_core.ahead_of_time import Library

Array = npt.NDArray[Any]

HERE = Path(__file__).parent


class Toolchain(NamedTuple):
    """What links programs for a target, and what runs them here; None: nothing is needed."""

    compiler: str
    emulator: tuple[str, ...] = ()


def _qemu(processor: str) -> str:
    """Debian has it in two packages: a static one, and one that is part of more."""
    name = f"qemu-{processor}"
    return name if shutil.which(f"{name}-static") is None else f"{name}-static"


_RISCV_V = (_qemu("riscv64"), "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0")
TOOLCHAINS = {
    "host": Toolchain("gcc"),
    "x86-64": Toolchain("gcc"),
    "x86-64-v3": Toolchain("gcc"),
    "x86-64-v4": Toolchain("gcc"),
    "arm64-v8a": Toolchain("aarch64-linux-gnu-gcc", (_qemu("aarch64"),)),
    "arm64-v8.2a": Toolchain("aarch64-linux-gnu-gcc", (_qemu("aarch64"), "-cpu", "cortex-a76")),
    "armeabi-v7a": Toolchain("arm-linux-gnueabihf-gcc", (_qemu("arm"),)),
    "riscv64": Toolchain("riscv64-linux-gnu-gcc", (_qemu("riscv64"),)),
    "riscv64-v": Toolchain("riscv64-linux-gnu-gcc", _RISCV_V),
}


class Ran(NamedTuple):
    """What a program printed, and the bytes of the outputs it wrote."""

    status: int
    text: str
    output: bytes

    def arrays(self, like: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs as arrays of these types and shapes; fails where there are more or fewer bytes."""
        found, at = {}, 0
        for name, array in like.items():
            content = self.output[at : at + array.nbytes]
            found[name] = np.frombuffer(content, array.dtype).reshape(array.shape)
            at += array.nbytes
        assert at == len(self.output)
        return found


def skip_without(target: str) -> None:
    """Skip where this machine cannot link or run programs for a target."""
    chain = TOOLCHAINS[target]
    for program in (chain.compiler, *chain.emulator[:1]):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if target == "x86-64-v4" and "avx512vl" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX-512")


def link(library: Library, model: str, *, source: str = "driver.c", options: Sequence[str] = ()) -> Path:
    """A program with one of the models of a library; it needs nothing but the C library."""
    chain = TOOLCHAINS[library.target]
    folder = library.folder / "lib" / library.target
    program = folder / f"{Path(source).stem}-{model}"
    command = [chain.compiler, "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += [*(["-static"] if chain.emulator else []), f"-I{library.folder / 'include'}"]
    command += ["-include", f"{library.name}.h", f"-DMODEL={model}_model", str(HERE / source), *options]
    command += [str(folder / f"lib{library.name}.a"), "-lm", "-lpthread", "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def run(
    program: Path,
    target: str,
    feeds: Mapping[str, Array],
    *,
    threads: int = 1,
    repeats: int = 1,
    shapes: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a driver; ``shapes``: see there."""
    output = program.with_suffix(".out")
    output.unlink(missing_ok=True)
    ran = subprocess.run(
        [*TOOLCHAINS[target].emulator, str(program), str(threads), str(repeats), str(output), *shapes],
        input=b"".join(np.ascontiguousarray(array).tobytes() for array in feeds.values()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=None if environment is None else dict(environment),
        check=False,
    )
    return Ran(ran.returncode, ran.stdout.decode(), output.read_bytes() if output.exists() else b"")


def assert_close(got: Mapping[str, Array], expected: Mapping[str, Array], share: float = 1e-4) -> None:
    """Each value within a share of the range of the expected ones."""
    for name, array in expected.items():
        reach = float(np.ptp(array)) if array.size else 0.0
        np.testing.assert_allclose(got[name], array, rtol=0, atol=max(reach, 1e-6) * share, err_msg=name)
