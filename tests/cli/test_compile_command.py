"""`mace compile`: signatures from --shape, the report, the exit codes; and `mace inspect` of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mace_core.cli.main import main


@pytest.fixture
def two_inputs(tmp_path: Path) -> Path:
    """x[n, 4] + y[n, 4]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y", "z")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "y"], ["z"])], "two", ends[:2], ends[2:])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_signatures_are_taken_in_turn_and_shown(two_inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = two_inputs.with_suffix(".mace")
    shapes = [f"--shape={shape}" for shape in ("x=1x4", "y=1x4", "x=3x4", "y=3x4")]
    assert main(["compile", str(two_inputs), "-d", "cpu", "-o", str(out), *shapes, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["signature"] for each in found["targets"]] == ["x=1x4, y=1x4", "x=3x4, y=3x4"]
    assert (found["command"], found["bytes"]) == ("compile", out.stat().st_size)
    assert main(["inspect", str(out), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert [each["signature"] for each in seen["compiled"]] == ["x=1x4, y=1x4", "x=3x4, y=3x4"]
    assert {"graph", "weights", "compiled"} <= {each["kind"] for each in seen["sections"]}
    two_inputs.unlink()
    assert main(["run", str(out), "--random", "--shape=x=3x4", "--device=cpu", "--strict"]) == 0
    printed = capsys.readouterr()
    assert "placement: cpu:0: 1" in printed.out
    assert "WARNING" not in printed.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-d", "cpu", "-o", "two.txt"], "--out two.txt: its name must end in .mace"),
        (["-d", "cpu", "-o", "no/two.mace"], "there is no folder 'no'"),
        (["-o", "two.mace"], "name a --device to compile for"),
        (["-d", "cppu", "-o", "two.mace"], "cppu"),
        (["-d", "cpu", "-o", "two.mace", "--shape", "q=1x4"], "no input 'q'"),
        (["-d", "cpu", "-o", "two.mace", *["--shape=x=1x4"] * 3, *["--shape=y=1x4"] * 2], "'y' has 2 shapes"),
        (["-d", "cpu", "-o", "two.mace", "-O", "opencl.profiling=1"], "'opencl'"),
    ],
)
def test_mistakes_are_told(
    two_inputs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(two_inputs.parent)
    assert main(["compile", str(two_inputs), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not Path("two.mace").exists()
