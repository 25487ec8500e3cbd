"""The emulated arm64 machine: what is kept, what is told where it cannot be made, and what it runs."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from mace_testing.arm64 import debian, wheels
from mace_testing.arm64.__main__ import main
from mace_testing.arm64.machine import DirectMachine, Machine, NamespaceMachine, choose_machine
from mace_testing.arm64.stages import staged

from mace_core.errors import MaceError

PROJECT = Path(__file__).parents[2]


def test_an_interrupted_stage_is_made_again_and_a_finished_one_is_kept(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        folder.mkdir()
        made.append(folder)
        if len(made) == 1:
            raise KeyboardInterrupt
        (folder / "content").write_text("whole")

    with pytest.raises(KeyboardInterrupt):
        staged(tmp_path, "root", "a", make)
    for part in tmp_path.glob("*-part"):
        part.rmdir()  # as the next call of the command begins
    first = staged(tmp_path, "root", "a", make)
    assert (first / "content").read_text() == "whole"
    assert staged(tmp_path, "root", "a", make) == first
    assert len(made) == 2


def test_a_stage_of_other_content_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    first, second = (staged(tmp_path, "site", key, lambda folder: folder.mkdir()) for key in "ab")
    assert first != second
    assert list(tmp_path.iterdir()) == [second]


def test_what_the_distributions_need_is_read_from_their_descriptions() -> None:
    found = wheels.requirements(PROJECT)
    assert any(each.startswith("numba") for each in found), "of the cpu provider"
    assert any(each.startswith("onnx>") for each in found), "of the core"
    assert not any(each.startswith("mace-") for each in found)


def test_the_key_of_a_checkout_changes_with_a_file_that_git_does_not_know_yet(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "old.py").write_text("1")
    before = wheels.content_key(tmp_path, ["."])
    assert wheels.content_key(tmp_path, ["."]) == before
    (tmp_path / "new.py").write_text("2")
    assert wheels.content_key(tmp_path, ["."]) != before


def test_without_apt_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MaceError, match="there is no 'apt-get' here"):
        debian.archives()


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", str(tmp_path), "--folder", str(tmp_path / "machine")]) == 2
    assert "this is no checkout of MACE" in capsys.readouterr().err


def test_a_program_that_fails_tells_the_end_of_what_it_complains_of() -> None:
    with pytest.raises(MaceError, match=r"failed \(1\): first; no such place$"):
        debian.output([sys.executable, "-c", "import sys; sys.exit('first\\nno such place')"])


def test_a_root_folder_without_programs_is_refused_for_every_kind_of_machine(tmp_path: Path) -> None:
    for name in ("proc", "dev", "sys", "usr/bin"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(MaceError, match="there is no 'python3' on the emulated machine"):
        choose_machine(tmp_path, {}, [], "neoverse-n1", {}, mounts=False)


@pytest.mark.full
@pytest.mark.skipif(platform.machine() == "aarch64", reason="this processor is not emulated")
@pytest.mark.parametrize("kind", [NamespaceMachine, DirectMachine])
def test_python_runs_and_starts_itself_and_leaves_no_mount(kind: type[Machine], tmp_path: Path) -> None:
    root = tmp_path / "root"
    debian.unpack_root(root)
    assert debian.python_version(root) >= (3, 11)
    assert wheels.glibc_minor(root) >= 31
    (root / "cpuinfo").write_text("Features\t: asimddp\n")
    (root / "proc/cpuinfo").write_text("Features\t: asimddp\n")
    (tmp_path / "shared").mkdir()
    machine = kind(root, {"/mnt/shared": tmp_path / "shared"}, [])
    if kind is NamespaceMachine and machine.works():
        pytest.skip(machine.works())
    inner = "import platform; print(platform.machine(), open('/proc/cpuinfo').read())"
    outer = (
        "import subprocess, sys; "
        f"open('found', 'w').write(subprocess.check_output([sys.executable, '-c', {inner!r}]).decode())"
    )
    before = Path("/proc/mounts").read_text()
    child = f"from pathlib import Path; from mace_testing.arm64.machine import {kind.__name__} as K; " + (
        f"print(K(Path({str(root)!r}), {{'/mnt/shared': Path({str(tmp_path / 'shared')!r})}}, [])"
        f".run(['python3', '-c', {outer!r}], '/mnt/shared'))"
    )
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0", done.stderr
    assert (tmp_path / "shared/found").read_text().split() == ["aarch64", "Features", ":", "asimddp"]
    assert Path("/proc/mounts").read_text() == before
