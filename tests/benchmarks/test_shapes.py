"""The measurements of changing shapes: that they run, agree and are told; never how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.shapes import cli
from benchmarks.shapes.cases import CASES


def test_the_command_prints_and_writes_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    options = ["--case", "loop", "--engine", "mace", "--engine", "onnxruntime", "--rounds", "1", "--json", str(figures)]
    assert cli.main([*options, "--folder", str(tmp_path)]) == 0
    (row,) = json.loads(figures.read_text())
    assert row["difference"] < 1e-5
    assert row["mace"]["kept_ms"] <= row["mace"]["worst_ms"]
    shown = capsys.readouterr().out
    assert "Loop of 1,000" in shown and "ratio, new" in shown


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.pairs])
def test_no_shape_comes_twice(name: str) -> None:
    """What is timed as new has not been seen before."""
    case = CASES[name]
    shapes = [
        tuple((key, value.shape, value.tobytes() if value.ndim == 0 else b"") for key, value in feeds.items())
        for feeds in (*case.warm(), *case.new())
    ]
    assert len(set(shapes)) == len(shapes)


def test_engines_that_keep_the_state_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    engines = [word for engine in ("mace", "onnxruntime", "onnxruntime-io") for word in ("--engine", engine)]
    options = ["--case", "decoder_bound", *engines, "--rounds", "1", "--json", str(figures), "--folder", str(tmp_path)]
    assert cli.main(options) == 0
    (row,) = json.loads(figures.read_text())
    assert row["difference"] < 1e-4
    assert row["onnxruntime-io"]["new_ms"] > 0
    assert "stays with" in capsys.readouterr().out


def test_results_that_differ_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, offset in (("mace", 0.1), ("onnxruntime", 0.0)):
        np.savez(tmp_path / f"loop-{engine}.npz", np.arange(4.0) + offset)
    figures = {"new_ms": 1.0, "worst_ms": 1.0, "kept_ms": 1.0}
    row = cli._row(CASES["loop"], {"mace": [figures], "onnxruntime": [figures]}, tmp_path)
    assert "differ" in row["problem"]
    row = cli._row(CASES["loop"], {"mace": [{"error": "it fell over"}], "onnxruntime": [figures]}, tmp_path)
    assert row["problem"] == "it fell over"
