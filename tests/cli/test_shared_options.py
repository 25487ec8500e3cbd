"""One set of options over the commands that take a model, and one form of JSON."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mace_core.json_values import json_value

Mace = Callable[..., "subprocess.CompletedProcess[str]"]

COMMANDS = ("run", "explain", "validate", "accuracy", "benchmark")
SHARED = (
    "--input", "--npz", "--random", "--seed", "--shape", "--layout", "--mean", "--scale", "--resize", "--bgr",
    "--device", "--strict", "--pin", "--threads", "--option",
    "--json", "--json-file", "--verbose", "--quiet", "--debug",
)  # fmt: skip
QUICK = {"benchmark": ("--runs", "1", "--warmup", "0"), "accuracy": ("--runs", "1", "--against", "reference")}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_on_a_model_has_the_shared_options(command: str) -> None:
    import typer.main

    from mace_core.cli.app import app

    group = typer.main.get_command(app)
    found = {name for parameter in group.commands[command].params for name in parameter.opts}  # type: ignore[attr-defined]
    assert set(SHARED) <= found


@pytest.mark.parametrize("command", COMMANDS)
def test_inputs_come_from_an_archive_and_json_says_who_wrote_it(
    mace: Mace, model: Path, tmp_path: Path, command: str
) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((5, 3), np.float32))
    line = (command, "model.onnx", "--npz", "x.npz", "--quiet", "--json", "--json-file", "found.json")
    done = mace(*line, *QUICK.get(command, ()))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert list(found)[:2] == ["schema_version", "command"]
    assert (found["schema_version"], found["command"]) == (1, command)
    assert json.loads((tmp_path / "found.json").read_text()).keys() == found.keys()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("--device", "zap"), "DeviceNotFoundError", "zap"),
        (("--threads", "many"), "UsageError", "--threads"),
        (("--input", "y=y.npy"), "UsageError", "the model has no input 'y'"),
    ],
)
def test_errors_are_json_too(
    mace: Mace, model: Path, command: str, arguments: tuple[str, ...], kind: str, words: str
) -> None:
    done = mace(command, "model.onnx", "--json", *QUICK.get(command, ()), *arguments)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert (found["schema_version"], found["command"]) == (1, command)
    assert found["error"]["type"] == kind and found["error"]["exit_code"] == 2
    assert words in found["error"]["message"]
    assert found["error"]["message"] in done.stderr


@pytest.mark.parametrize("where", ["before", "after", "last"])
def test_verbosity_may_stand_anywhere(mace: Mace, model: Path, where: str) -> None:
    line = {
        "before": ("-v", "run", "model.onnx", "--random"),
        "after": ("run", "-v", "model.onnx", "--random"),
        "last": ("run", "model.onnx", "--random", "-v"),
    }[where]
    assert "INFO" in mace(*line).stderr
    quiet = [{"-v": "-q"}.get(word, word) for word in line]
    assert mace(*quiet).stderr == ""


def test_what_json_lacks_becomes_a_string() -> None:
    found = json_value({"a": [math.nan, math.inf, -math.inf, np.float32(0.5)], 1: (True, None, Path("x"))})
    assert found == {"a": ["NaN", "Infinity", "-Infinity", 0.5], "1": [True, None, "x"]}
    assert [float(text) for text in found["a"][1:3]] == [math.inf, -math.inf]


def test_outputs_that_are_not_finite_are_json(mace: Mace, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Log", ["x"], ["y"])], "log", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "l.onnx")
    np.save(tmp_path / "x.npy", np.array([-1, 0, 1], np.float32))

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    shown = json.loads(mace("run", "l.onnx", "-i", "x.npy", "--json").stdout, parse_constant=refuse)
    assert shown["outputs"]["y"]["values"] == ["NaN", "-Infinity", 0.0]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shape_beside_a_file_is_checked(mace: Mace, model: Path, tmp_path: Path, command: str) -> None:
    np.save(tmp_path / "x.npy", np.ones((5, 3), np.float32))
    done = mace(command, "model.onnx", "--input", "x.npy", "--shape", "4x3", *QUICK.get(command, ()))
    assert done.returncode == 2
    assert "--shape says [4, 3] for the input 'x' and its file holds [5, 3]" in done.stderr
    assert mace(command, "model.onnx", "--input", "x.npy", "--shape", "5x3", *QUICK.get(command, ())).returncode == 0
