"""`--signature`: which graph of a TensorFlow Lite file a command is about, in whatever process it reads it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parents[1] / "frontend" / "tflite"))

from test_signatures import two_graphs

Mace = Callable[..., Any]


@pytest.fixture
def two(tmp_path: Path) -> str:
    (tmp_path / "two.tflite").write_bytes(two_graphs())
    return "two.tflite"


def test_inspect_lists_signatures_and_shows_one(mace: Mace, two: str) -> None:
    told = mace("inspect", two).stdout
    assert "signatures: double (value -> doubled); square (value -> squared)" in told
    assert "\ngraph: double" in told
    assert "\ngraph: square" in mace("inspect", two, "--signature", "square").stdout


def test_run_takes_the_signature_that_is_named(mace: Mace, two: str) -> None:
    assert mace("run", two, "--signature", "square", "--random").stdout.startswith("squared: float32[3]")
    done = mace("run", two, "--signature", "triple", "--random")
    assert done.returncode != 0
    assert done.stderr == "mace: error: model 'two.tflite' has no signature 'triple'; it has 'double', 'square'\n"


@pytest.mark.parametrize("command", ["benchmark", "validate", "explain", "memory"])
@pytest.mark.full
def test_other_commands_do_too(mace: Mace, two: str, command: str) -> None:
    for name in ("square", "triple"):
        more = ["--random"] if command == "validate" else []
        done = mace(command, two, "--signature", name, *more, plugins="cpu")
        assert (done.returncode == 0) is (name == "square"), done.stderr


def test_what_is_compiled_is_of_that_graph_and_has_no_others(mace: Mace, two: str) -> None:
    done = mace("compile", two, "--signature", "square", "--device", "cpu", "-o", "square.mace", plugins="cpu")
    assert done.returncode == 0, done.stderr
    assert mace("run", "square.mace", "--random", plugins="cpu").stdout.startswith("squared: float32[3]")
    done = mace("run", "square.mace", "--signature", "square", "--random", plugins="cpu")
    assert done.returncode != 0
    assert done.stderr == "mace: error: a package holds one graph, without signatures: leave 'square' out\n"


def test_steps_before_that_graph_are_of_a_format_without_signatures(mace: Mace, two: str, tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "negative", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "step.onnx").write_bytes(made.SerializeToString())
    np.save(tmp_path / "a.npy", np.float32([1, 2, 3]))
    options = ["--signature", "double", "--device", "cpu", "--before", "step.onnx", "-o", "double.mace"]
    done = mace("compile", two, *options, plugins="cpu")
    assert done.returncode == 0, done.stderr
    done = mace("run", "double.mace", "-i", "a=a.npy", "-o", "out", plugins="cpu")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "out" / "doubled.npy").tolist() == [-2, -4, -6]
    done = mace("run", "step.onnx", "--signature", "double", "--random")
    assert done.returncode != 0
    assert done.stderr == "mace: error: a model of the format onnx has no signatures: leave 'double' out\n"


def test_what_is_converted_is_compared_with_that_graph_in_litert(mace: Mace, two: str) -> None:
    done = mace("convert", two, "--signature", "square", "-o", "square.mace", plugins="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compared with LiteRT" in done.stdout
    assert mace("run", "square.mace", "--random", plugins="cpu").stdout.startswith("squared: float32[3]")
