"""Inputs with defaults on the command line: asked for by nobody, taken where they are given."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """y = x * factor; the factor is 2 where none is given."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("factor", "x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scaled",
        infos[:2],
        infos[2:],
        [numpy_helper.from_array(np.full(3, 2, np.float32), "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "scaled.onnx")
    return tmp_path / "scaled.onnx"


@pytest.mark.parametrize("command", [["run", "--random"], ["explain"]])
def test_no_command_asks_for_them(mace: Mace, file: Path, command: list[str]) -> None:
    done = mace(command[0], str(file), *command[1:])
    assert done.returncode == 0, done.stderr


def test_a_file_may_be_given_for_them(mace: Mace, file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3, np.float32))
    np.save(tmp_path / "factor.npy", np.full(3, 5, np.float32))
    arguments = ["run", str(file), "--input", f"{tmp_path / 'x.npy'}", "-o", str(tmp_path / "out")]
    done = mace(*arguments)
    assert done.returncode == 0, done.stderr  # one input only is needed: its name may be left out
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), np.full(3, 2, np.float32))
    done = mace(*arguments, "--input", f"factor={tmp_path / 'factor.npy'}")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), np.full(3, 5, np.float32))
