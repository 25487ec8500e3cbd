"""What programs do with a library that they may not, and what they rarely do: told with a status, and no harm done."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from programs import HERE, TOOLCHAINS, skip_without
from test_building import network
from test_interface import table_model

from mace_core.ahead_of_time import Library, SizeRange, build_library

EXPECTED = """\
nothing made 1 1 1 3 1 1 9 1 1 1 1 1 1 1 1 none
sizes 0 0 0 0 0 0 0
shapes NULL NULL
find -1 -1 -1
error there is no instance: it was not made
shapes 2 2 2 2 2 2 2 2 2 0 1 still 64
indices 1 1 1 1
no outputs 1: the array of inputs or that of outputs is NULL
odd input 1: the address of the input 'x' is no multiple of 4, the bytes of an element
half an integer 1: the address of the input 'i' is no multiple of 8, the bytes of an element
odd output 1: the address of the output 'y' is no multiple of 4, the bytes of an element
NULL output 1: the output 'y' is NULL
no workspace 1
small workspace 3
endless workspace 3
bad row 4
afterwards right ''
0 threads 0 right, again 0
1 threads 0 right, again 0
2 threads 0 right, again 0
64 threads 0 right, again 0
1000 threads 0 right, again 0
2147483647 threads 0 right, again 0
-1 threads 1 none
-2147483648 threads 1 none
disturbed, wrong 0, afterwards right
many instances, wrong 0
forked 0 0, afterwards right
"""


def rows(folder: Path, target: str = "host", threads: int = 4) -> Library:
    shapes = {"x": (SizeRange(2, 64), 256)}
    return build_library(table_model(256), folder, target=target, shapes=shapes, name="rows", threads=threads)


def compiled(library: Library, source: str, options: list[str], *libraries: str) -> Path:
    program = library.folder / source.partition(".")[0]
    command = [
        TOOLCHAINS[library.target].compiler,
        "-std=c99",
        "-D_DEFAULT_SOURCE",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    command += [*options, f"-I{library.folder / 'include'}", "-include", f"{library.name}.h"]
    command += [f"-DMODEL={library.name}_model", str(HERE / source), *libraries, "-lm", "-lpthread", "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize(
    "options",
    [
        [],
        pytest.param(["-fsanitize=address,undefined", "-fno-sanitize-recover"], marks=pytest.mark.full),
        pytest.param(["-fsanitize=thread"], marks=pytest.mark.full),
    ],
)
def test_calls_that_mean_nothing_are_told_and_the_instance_goes_on(options: list[str], tmp_path: Path) -> None:
    skip_without("host")
    library = rows(tmp_path)
    assert library.models[0].most_threads == 4, "its work is split"
    found = ran([str(compiled(library, "hostile.c", options, f"{tmp_path}/lib/host/librows.a"))])
    assert (found.returncode, found.stdout, found.stderr) == (0, EXPECTED, "")


@pytest.mark.full
@pytest.mark.parametrize("target", ["arm64-v8a", "armeabi-v7a", "riscv64"])
def test_other_processors_are_as_patient(target: str, tmp_path: Path) -> None:
    skip_without(target)
    library = rows(tmp_path, target)
    program = compiled(library, "hostile.c", ["-static"], f"{tmp_path}/lib/{target}/librows.a")
    found = ran([*TOOLCHAINS[target].emulator, str(program)])
    assert (found.returncode, found.stdout) == (0, EXPECTED), found.stderr


@pytest.mark.full
def test_a_library_for_one_thread_is_as_patient(tmp_path: Path) -> None:
    skip_without("host")
    library = rows(tmp_path, threads=1)
    found = ran([str(compiled(library, "hostile.c", [], f"{tmp_path}/lib/host/librows.a"))])
    assert (found.returncode, found.stdout) == (0, EXPECTED), found.stderr


@pytest.mark.full
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_finds_nothing(tmp_path: Path) -> None:
    """Of code that it knows the instructions of: no AVX-512."""
    skip_without("host")
    library = rows(tmp_path, "x86-64")
    program = compiled(library, "hostile.c", [], f"{tmp_path}/lib/x86-64/librows.a")
    found = ran(["valgrind", "-q", "--error-exitcode=9", str(program)])
    assert (found.returncode, found.stdout) == (0, EXPECTED), found.stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        pytest.param(["-fsanitize=address,undefined", "-fno-sanitize-recover"], marks=pytest.mark.full),
        pytest.param(["-fsanitize=thread"], marks=pytest.mark.full),
    ],
)
def test_libraries_come_and_go_while_others_run(options: list[str], tmp_path: Path) -> None:
    """Two libraries have functions of the same names in them, and each calls its own."""
    skip_without("host")
    library = rows(tmp_path / "rows")
    other = build_library(network(48), tmp_path / "net", name="net")
    if library.linker_missing or other.linker_missing:
        pytest.skip("nothing links shared libraries here")
    program = compiled(library, "loaded.c", options, "-ldl")
    paths = [tmp_path / "rows/lib/host/librows.so", tmp_path / "net/lib/host/libnet.so"]
    found = ran([str(program), str(paths[0]), "rows_model", str(paths[1]), "net_model"])
    assert (found.returncode, found.stdout, found.stderr) == (0, "wrong 0\n", "")
