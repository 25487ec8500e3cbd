"""`mace quantize`: what it tells, and the report that it writes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32))
    return "data.npz"


def test_the_summary_warns_and_the_page_has_the_charts(mace: Mace, model: Path, data: str, tmp_path: Path) -> None:
    done = mace("quantize", model.name, "-o", "small.onnx", "--data", data, "--report", "report.html", plugins="cpu")
    assert done.returncode == 0, done.stderr
    assert "most sensitive layers" in done.stdout
    assert "product" in done.stdout
    assert "Calibration data is thin: 20 samples" in done.stdout
    assert "report written to report.html" in done.stdout
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<figure>") >= 2
    assert str(tmp_path) not in page


def test_json_has_the_layers_and_the_warnings(mace: Mace, model: Path, data: str, tmp_path: Path) -> None:
    arguments = ("quantize", model.name, "-o", "small.onnx", "--data", data, "--json", "--report", "report.json")
    done = mace(*arguments, plugins="cpu")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert any("thin" in sentence for sentence in found["warnings"])
    (product,) = (layer for layer in found["layers"] if layer["node"] == "product")
    assert product["sqnr_db"] > 20
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {value["name"] for value in written["values"]} == {"x", "y"}


@pytest.mark.parametrize("report", ["report.txt", "nowhere/report.html"])
def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    mace: Mace, model: Path, data: str, tmp_path: Path, report: str
) -> None:
    done = mace("quantize", model.name, "-o", "small.onnx", "--data", data, "--report", report)
    assert done.returncode == 2
    assert "--report" in done.stderr
    assert not (tmp_path / "small.onnx").exists()


def test_devices_that_do_not_run_the_quantized_model_are_no_reason_to_fail(
    mace: Mace, model: Path, data: str, tmp_path: Path
) -> None:
    done = mace("quantize", model.name, "-o", "small.onnx", "--data", data)  # onnx.reference has no such old form
    assert done.returncode == 0, done.stderr
    assert "layers were not compared" in " ".join(done.stdout.split())
    assert (tmp_path / "small.onnx").exists()
