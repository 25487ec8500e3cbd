"""An exhausted limit of open files is told in one sentence that says what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from mace_core.errors import MaceError, ModelFileError, ProviderBugError, advice_for
from mace_core.frontend import load_model
from mace_core.host.memory import memory_needed
from mace_core.provider.border import told
from mace_core.session import Session

resource = pytest.importorskip("resource")

MACE = Path(sys.executable).with_name("mace")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", info[:1], info[1:])
    target = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), target)
    return target


@pytest.mark.parametrize("limit", [5, 6, 7])
@pytest.mark.parametrize("command", [("run", "small.onnx", "--random"), ("devices",), ("inspect", "small.onnx")])
def test_commands_that_may_open_few_files_work_or_say_why_not(path: Path, limit: int, command: tuple[str, ...]) -> None:
    shell = f'ulimit -n {limit}; exec "$0" "$@"'
    environment = {**os.environ, "MACE_CACHE_DIR": str(path.parent / "cache"), "MACE_PLUGINS": "reference"}
    done = subprocess.run(
        ["sh", "-c", shell, str(MACE), *command],
        cwd=path.parent, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    if done.returncode:
        (told,) = [line for line in done.stderr.splitlines() if line.startswith("mace: error")]
        assert "ulimit -n" in told


def test_a_model_that_can_not_be_opened(path: Path) -> None:
    load_model(path)  # whatever is imported for that is there
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(ModelFileError, match=r"Too many open files.*ulimit -n") as refused:
            load_model(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert refused.value.errno == errno.EMFILE


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_anything_else_that_needs_a_file(code: int) -> None:
    error = OSError(code, os.strerror(code))
    assert advice_for(error)
    with (
        pytest.raises(MaceError, match="model 'm': planning it needs more open files"),
        memory_needed("model 'm': planning it"),
    ):
        raise error


def test_other_errors_of_the_system_are_left_alone() -> None:
    assert advice_for(OSError(errno.ENOENT, "not there")) == ""
    assert advice_for(ValueError()) == ""
    with pytest.raises(PermissionError), memory_needed("m"):
        raise PermissionError(errno.EACCES, "no")


def test_the_error_says_what_has_the_descriptors(tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text("")
    descriptors = [os.open(held, os.O_RDONLY) for _ in range(20)]
    try:
        assert f"20 of {held}" in advice_for(OSError(errno.EMFILE, ""))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_provider_that_may_open_no_more_files_is_not_called_defective() -> None:
    error = told(OSError(errno.EMFILE, ""), "acme:0", "Backend.compile", "'m'")
    assert not isinstance(error, ProviderBugError)
    assert "'m': acme:0: Backend.compile needs more open files" in str(error)


def test_sessions_and_shapes_hold_no_descriptors(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [64, 64], [0.5] * 64 * 64)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "free", info[:1], info[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    monkeypatch.setenv("MACE_CACHE_DIR", str(path.parent / "cache"))

    def used() -> list[Session]:
        sessions = [Session(path) for _ in range(4)]
        for session in sessions:
            for rows in (1, 2, 3, 4):
                session.run({"x": np.ones((rows, 64), np.float32)})
        return sessions

    for session in used():  # imports and builds what is to be, and fills the caches
        session.close()
    before = psutil.Process().num_fds()
    sessions = used()
    assert psutil.Process().num_fds() == before
    for session in sessions:
        session.close()
