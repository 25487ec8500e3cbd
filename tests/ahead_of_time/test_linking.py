"""Shared libraries: made by any linker, loaded by programs of any C library, and looked at before they are."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import TOOLCHAINS, skip_without

from mace_core.ahead_of_time import build_library
from mace_core.ahead_of_time.linking import (
    LinkerMissingError,
    LinkError,
    find_linker,
    link_shared,
    machine_of,
    read_library,
)
from mace_core.cli.main import main
from mace_core.errors import UsageError
from mace_core.native.compiler import compile_module
from mace_core.native.named_targets import TARGET_NAMES, named_target
from mace_core.native.relocatable import Relocatable

TARGETS = ("x86-64", "arm64-v8a", "armeabi-v7a", "riscv64")
LINKERS = {
    "binutils": lambda target: f"{machine_of(target).prefixes[0]}-ld -m {machine_of(target).emulation}",
    "lld": lambda target: f"ld.lld -m {machine_of(target).emulation}",
    "gcc": lambda target: f"{machine_of(target).prefixes[0]}-gcc",
}

TINY = """
@table = internal constant [4 x i32] [i32 40, i32 1, i32 1, i32 0]
declare ptr @{copy}(ptr, ptr, i{bits})
define void @tiny_run(ptr %to, i{bits} %count) {{
  %x = call ptr @{copy}(ptr %to, ptr @table, i{bits} %count)
  ret void
}}
define ptr @tiny_model() {{
  ret ptr @tiny_run
}}
"""

PROGRAM = """
#include <stdio.h>
typedef void (*run)(int *, size_t);
extern run tiny_model(void);
int main(void) {
  int sum[4] = {0, 0, 0, 0};
  tiny_model()(sum, sizeof sum);
  printf("%d\\n", sum[0] + sum[1] + sum[2] + sum[3]);
  return 0;
}
"""


def tiny(folder: Path, target: str, *, copy: str = "memcpy", merged: bool = True) -> Path:
    """An object with one model, or what stands for one."""
    machine = named_target(target).target
    content = compile_module(TINY.format(copy=copy, bits=machine.pointer_bits), ["tiny_model"], "tiny", machine)
    path = folder / "tiny.o"
    with path.open("wb") as file:
        if merged:
            Relocatable({"tiny": content}, ["tiny_model"], []).write(file)
        else:
            file.write(content)
    return path


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_linker_makes_a_library_that_programs_load(target: str, linker: str, tmp_path: Path) -> None:
    skip_without(target)
    chosen = LINKERS[linker](target)
    if shutil.which(chosen.split()[0]) is None:
        pytest.skip(f"{chosen.split()[0]} is not installed")
    made = link_shared([tiny(tmp_path, target)], target, tmp_path / "libtiny.so", ["tiny_model"], chosen)
    facts = read_library(made.path)
    assert (facts.soname, facts.needed, facts.exported) == ("libtiny.so", (), ("tiny_model",))
    assert facts.undefined == ("memcpy",)
    assert facts.alignment >= 4096
    chain = TOOLCHAINS[target]
    (tmp_path / "main.c").write_text(PROGRAM)
    subprocess.run(
        [chain.compiler, "main.c", "libtiny.so", "-o", "main", "-Wl,-rpath,$ORIGIN"], cwd=tmp_path, check=True
    )
    emulator = [*chain.emulator, "-L", f"/usr/{machine_of(target).prefixes[0]}"] if chain.emulator else []
    done = subprocess.run([*emulator, tmp_path / "main"], capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("target", ["arm64-v8a", "armeabi-v7a"])
def test_a_library_for_android_asks_for_its_c_library(target: str, linker: str, tmp_path: Path) -> None:
    chosen = LINKERS[linker](target)
    if shutil.which(chosen.split()[0]) is None:
        pytest.skip(f"{chosen.split()[0]} is not installed")
    objects, out = [tiny(tmp_path, target)], tmp_path / "libtiny.so"
    made = link_shared(objects, target, out, ["tiny_model"], chosen, needed=["libc.so"])
    facts = read_library(made.path)
    assert (facts.soname, facts.needed, facts.exported) == ("libtiny.so", ("libc.so",), ("tiny_model",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["libtiny.so", "tiny.o"]


def test_a_32_bit_library_that_is_silent_on_floats_is_refused(tmp_path: Path) -> None:
    skip_without("armeabi-v7a")
    careless = tiny(tmp_path, "armeabi-v7a", merged=False)
    with pytest.raises(LinkError, match="programs of the other one would compute nonsense"):
        link_shared([careless], "armeabi-v7a", tmp_path / "libtiny.so", ["tiny_model"])
    assert not (tmp_path / "libtiny.so").exists()


@pytest.mark.parametrize(
    ("target", "made_for", "copy", "exports", "complaint"),
    [
        ("host", "host", "cblas_scopy", ["tiny_model"], "it needs 'cblas_scopy', which the C library does not have"),
        ("host", "host", "memcpy", ["tiny_model", "other_model"], "other_model"),
        ("host", "arm64-v8a", "memcpy", ["tiny_model"], "failed"),
    ],
)
def test_a_library_that_could_not_be_used_is_not_written(
    target: str, made_for: str, copy: str, exports: list[str], complaint: str, tmp_path: Path
) -> None:
    if shutil.which("ld") is None:
        pytest.skip("this machine has no linker")
    out = tmp_path / "libtiny.so"
    out.write_text("what was there before")
    with pytest.raises(LinkError, match=complaint):
        link_shared([tiny(tmp_path, made_for, copy=copy)], target, out, exports)
    assert out.read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["libtiny.so", "tiny.o"]


def test_what_is_no_library_is_said_to_be_none(tmp_path: Path) -> None:
    for content in (b"", b"no library", b"\x7fELF" + bytes(100)):
        (tmp_path / "x.so").write_bytes(content)
        with pytest.raises(LinkError, match=r"'x\.so' is no shared library"):
            read_library(tmp_path / "x.so")


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_every_target_has_a_linker_to_look_for(target: str) -> None:
    assert machine_of(target).page_bytes >= 4096


def without_ziglang(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ziglang" else find(name))


def programs(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).symlink_to("/bin/true")


def test_linkers_are_looked_for_from_the_most_specific_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("MACE_LINKER", raising=False)
    without_ziglang(monkeypatch)
    ndk = tmp_path / "ndk/toolchains/llvm/prebuilt/linux-x86_64/bin"
    programs(ndk, "ld.lld")
    with pytest.raises(LinkerMissingError, match="apt-get install binutils-riscv64-linux-gnu, or lld"):
        find_linker("riscv64")
    monkeypatch.setenv("ANDROID_NDK", str(tmp_path / "ndk"))
    assert find_linker("arm64-v8a").origin == "ANDROID_NDK"
    programs(tmp_path / "bin", "ld.lld-19")
    assert find_linker("arm64-v8a").command == (str(tmp_path / "bin/ld.lld-19"), "-m", "aarch64linux")
    programs(tmp_path / "bin", "ld.lld", "aarch64-linux-gnu-ld", "my-clang")
    assert find_linker("arm64-v8a").origin == "GNU binutils"
    assert find_linker("armeabi-v7a").command[0].endswith("/ld.lld")
    monkeypatch.setenv("MACE_LINKER", "my-clang --target=riscv64")
    chosen = find_linker("riscv64")
    assert (chosen.is_driver, chosen.command[1:], chosen.origin) == (True, ("--target=riscv64",), "MACE_LINKER")
    assert find_linker("riscv64", "ld.lld").origin == "--linker"
    with pytest.raises(UsageError, match="--linker 'nothing -x': there is no program 'nothing' here"):
        find_linker("riscv64", "nothing -x")
    with pytest.raises(UsageError, match="this is no command"):
        find_linker("riscv64", "ld '")


def negation(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "negation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_without_a_linker_the_object_and_the_archive_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = negation(tmp_path / "negation.onnx")
    stale = tmp_path / "out/lib/riscv64/libnegation.so"
    stale.parent.mkdir(parents=True)
    stale.write_text("of a build before")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    without_ziglang(monkeypatch)
    library = build_library(model, tmp_path / "out", target="riscv64")
    assert "there is no linker for riscv64 here" in library.linker_missing
    assert (library.shared_bytes, library.linker) == (0, "")
    assert sorted(path.name for path in stale.parent.iterdir()) == ["libnegation.a", "negation.o"]


def test_a_linker_that_fails_is_told_of_and_the_rest_is_written(tmp_path: Path) -> None:
    model = negation(tmp_path / "negation.onnx")
    with pytest.raises(LinkError, match=r"'libnegation.so' for host: the linker \S*false \(--linker\) failed \(1\)"):
        build_library(model, tmp_path / "out", linker="false")
    assert sorted(path.name for path in (tmp_path / "out/lib/host").iterdir()) == ["libnegation.a", "negation.o"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_linker_that_is_no_program_is_told_of(tmp_path: Path) -> None:
    model = negation(tmp_path / "negation.onnx")
    (tmp_path / "ld").write_text("of another system")
    (tmp_path / "ld").chmod(0o755)
    with pytest.raises(LinkError, match="cannot be started: Exec format error; name another one with --linker"):
        build_library(model, tmp_path / "out", linker=str(tmp_path / "ld"))
    assert sorted(path.name for path in (tmp_path / "out/lib/host").iterdir()) == ["libnegation.a", "negation.o"]


def test_the_command_takes_a_linker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(negation(tmp_path / "negation.onnx"))
    out = tmp_path / "out"
    assert main(["compile", model, "--target", "host", "-o", str(out), "--linker", "nothing"]) == 2
    assert "--linker 'nothing': there is no program 'nothing' here" in capsys.readouterr().err
    assert not out.exists()
    assert main(["compile", model, "--device", "cpu", "-o", str(tmp_path / "x.mace"), "--linker", "ld"]) == 2
    assert "--linker is for libraries" in capsys.readouterr().err
    assert main(["compile", model, "--target", "host", "-o", str(out), "--linker", "gcc", "--json"]) == 0
    (library,) = json.loads(capsys.readouterr().out)["libraries"]
    assert library["linker"].endswith("gcc (--linker)")
    assert library["shared_bytes"] == (out / "lib/host/libnegation.so").stat().st_size


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
def test_the_linker_of_the_package_ziglang_does_as_well(target: str, tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    linker = f"{sys.executable} -m ziglang ld.lld -m {machine_of(target).emulation}"
    made = link_shared([tiny(tmp_path, target)], target, tmp_path / "libtiny.so", ["tiny_model"], linker)
    assert read_library(made.path).exported == ("tiny_model",)
