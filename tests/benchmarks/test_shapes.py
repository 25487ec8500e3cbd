"""The measurements of changing shapes: that they run, agree and are told; never how fast anything is."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.shapes import cli, control_flow, speech
from benchmarks.shapes.cases import CASES
from benchmarks.shapes.ort_format import onnx_of
from mace_core.session import Session


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


@pytest.mark.full
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


# --- speech -----------------------------------------------------------------------------------------------------------


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_a_model_in_the_format_of_onnxruntime_becomes_onnx(tmp_path: Path) -> None:
    """One with an If, whose branches that format gives no names."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(tmp_path / "decoder.ort")
    built = control_flow.merged_decoder()
    judge = onnxruntime.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = onnx_of(tmp_path / "decoder.ort", tmp_path / "converted")
    assert onnx_of(tmp_path / "decoder.ort", tmp_path / "converted") == found
    saved = onnx.load(str(found))
    onnx.checker.check_model(saved)
    assert [each.domain for each in saved.opset_import] == [""]
    feeds = next(CASES["merged_decoder"].new())
    with Session(found, devices=["cpu"], cache=False) as session:
        results = session.run(feeds)
    for name, expected in zip(results, judge.run(None, dict(feeds)), strict=True):
        np.testing.assert_allclose(results[name], expected, rtol=1e-4, atol=1e-4)


def test_the_recognizer_says_which_package_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speech, "PACKAGE", "a-package-that-nobody-has")
    assert speech.main([]) == 2
    assert "pip install a-package-that-nobody-has" in capsys.readouterr().err


@pytest.mark.skipif(not _is_installed(speech.PACKAGE), reason=f"{speech.PACKAGE} is not installed")
def test_both_engines_hear_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    assert speech.main(["--rounds", "1", "--json", str(figures), "--folder", str(tmp_path)]) == 0
    rows = json.loads(figures.read_text())
    assert rows["mace"]["tokens"] == rows["onnxruntime"]["tokens"]
    assert len(rows["mace"]["tokens"]) == 16
    assert "16 tokens, the same" in capsys.readouterr().out
