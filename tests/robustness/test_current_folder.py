"""No code is run out of the folder in which a command is started: there may be more in a download than a model."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mace_core
from mace_core.host.children import module_path, python_command

MACE = Path(sys.executable).with_name("mace")

TRAPS = (
    *("json", "numpy", "onnx", "typing", "pickle", "struct", "socket", "tempfile", "subprocess", "platform", "ctypes"),
    *("typer", "rich", "llvmlite", "numba", "stevedore", "scipy", "cffi", "PIL", "psutil", "sitecustomize"),
    *("usercustomize", "mace_core", "mace_cpu", "multiprocessing", "hypothesis"),
)


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with a model, and modules that leave a mark when they are imported."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'a').write('{name} ')\n")
    nodes, operators = [], ("Relu", "Exp", "Softplus", "Sigmoid", "Tanh", "Erf", "Sin", "Cos")
    for index, operator in enumerate(operators):
        nodes.append(helper.make_node("Softmax", [f"v{index}"], [f"s{index}"], axis=index % 2, name=f"softmax{index}"))
        nodes.append(helper.make_node(operator, [f"s{index}"], [f"v{index + 1}"], name=operator))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (3, 4)) for name in ("v0", f"v{len(operators)}")]
    model = helper.make_model(
        helper.make_graph(nodes, "chain", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "inputs.npz", v0=np.ones((3, 4), np.float32))
    return folder


def sprung(folder: Path) -> str:
    mark = folder.parent / "sprung"
    return mark.read_text() if mark.exists() else ""


def run(command: Sequence[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "MACE_CACHE_DIR": str(folder.parent / "cache"), "MACE_BUILD_PROCESSES": "3"}
    variables.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        command, cwd=folder, env={**variables, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "model.onnx", "--random"),
        pytest.param(("benchmark", "model.onnx", "--runs", "2", "--warmup", "0"), marks=pytest.mark.full),
        pytest.param(("explain", "model.onnx"), marks=pytest.mark.full),
        pytest.param(("validate", "model.onnx"), marks=pytest.mark.full),
        ("accuracy", "model.onnx"),
        ("devices", "--refresh"),
        pytest.param(("plugins",), marks=pytest.mark.full),
        pytest.param(("doctor",), marks=pytest.mark.full),
        ("cache", "list"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_runs_what_lies_in_the_current_folder(trapped: Path, arguments: tuple[str, ...]) -> None:
    done = run([str(MACE), *arguments], trapped)
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert sprung(trapped) == ""


def test_the_traps_work(trapped: Path) -> None:
    run([sys.executable, "-c", "import json"], trapped)
    assert "json" in sprung(trapped)


KERNELS = """
    import functools

    from mace_core.native.source import KernelSource

    TEXT = "define void @{0}(ptr %args, i64 %begin, i64 %end, i64 %chunk) {{\\n ret void\\n}}"

    def text_of(symbol, target):
        return TEXT.format(symbol)

    def sources():
        return [KernelSource(f"many_{i}", "1", functools.partial(text_of, f"many_{i}")) for i in range(40)]
"""
BUILDING = """
    from kernels import sources
    from mace_core.native import builder
    from mace_core.native.target import host_target

    seen = []

    class Helper(builder._Helper):
        def _ask(self, request):
            seen.append(super()._ask(request) or b"none")
            return seen[-1]

    builder._Helper = Helper
    builder._Work.next_here = lambda work: work._local.popleft() if work._local else None  # leave it to the helpers
    builder.build_objects(sources(), host_target(), lambda source, image: None)
    print([answer[:80] for answer in seen if answer[:1] != builder.BUILT], len(seen))
"""


def test_helpers_build_kernels_and_run_nothing_of_the_folder(trapped: Path) -> None:
    """Those in modules beside the program too."""
    elsewhere = trapped.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kernels.py").write_text(textwrap.dedent(KERNELS))
    (elsewhere / "program.py").write_text(textwrap.dedent(BUILDING))
    done = run([sys.executable, str(elsewhere / "program.py")], trapped)
    assert done.stdout.strip() == "[] 40", done.stderr
    assert sprung(trapped) == ""


FUZZING = """
    from mace_testing.fuzzing.workers import run_rounds

    if __name__ == "__main__":
        for found in run_rounds(iter([("Relu", "", 1, 3)]), ["reference"]):
            print(found.op, found.error)
"""
SPAWNING = """
    import multiprocessing
    from mace_core.host.children import safe_spawn

    if __name__ == "__main__":
        child = multiprocessing.get_context("spawn").Process(target=print, args=("Relu",))
        with safe_spawn():
            child.start()
        child.join()
"""


@pytest.mark.parametrize("text", [FUZZING, SPAWNING], ids=["fuzzing", "spawning"])
def test_spawned_processes_run_nothing_of_the_folder(trapped: Path, text: str) -> None:
    elsewhere = trapped.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "program.py").write_text(textwrap.dedent(text))
    done = run([sys.executable, str(elsewhere / "program.py")], trapped)
    assert "Relu" in done.stdout, done.stderr
    assert sprung(trapped) == ""


# --- the path of modules that children get ----------------------------------------------------------------------------


def test_children_find_what_this_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import mace_core, numpy, sys; print(mace_core.__file__); print(sys.argv[1:]); print(sys.flags.isolated)"
    done = subprocess.run(python_command(code, "a", "b c"), capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == [mace_core.__file__, "['a', 'b c']", "1"]


def test_the_current_folder_is_no_part_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    other.mkdir()
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    package = str(Path(mace_core.__path__[0]).parent)
    given = ["", ".", "lib", str(here), str(tmp_path / "link"), str(other), str(tmp_path / "absent")]
    monkeypatch.setattr(sys, "path", given)
    assert module_path() == [str(other), str(tmp_path / "absent"), package]
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{os.pathsep}.")
    assert module_path() == [str(here), str(other), str(tmp_path / "absent"), package]


def test_a_checkout_that_is_not_installed_still_has_helpers(trapped: Path) -> None:
    """The package is found where this process found it, be it the current folder."""
    package = Path(mace_core.__path__[0])
    program = "import sys; from mace_core.host.children import module_path; print(module_path()[-1])"
    done = run([sys.executable, "-c", program], package.parent)
    assert done.stdout.strip() == str(package.parent)
