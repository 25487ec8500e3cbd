"""`mace quantize`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import onnx
import pytest

from mace_core.testing.network import NetworkBuilder

Mace = Callable[..., CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    net = NetworkBuilder("small", (1, 3, 8, 8), seed=0)
    x = net.op("Relu", net.conv("x", 3, 8, 3))
    onnx.save(net.build(net.classifier(net.op("GlobalAveragePool", x), 8, 4), (1, 4)), tmp_path / "small.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32))
    (tmp_path / "judge.py").write_text(
        "import numpy as np\n"
        "def score(session):\n"
        "    pixels = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)\n"
        "    return float(np.abs(session.run({'x': pixels})['y']).sum())\n"
        "def broken():\n"
        "    raise RuntimeError('no data today')\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_writes_the_model_and_tells_what_it_did(mace: Mace, folder: Path) -> None:
    given = ("--data", "data.npz", "--accuracy", "judge:score", "--device", "cpu", "--json")
    done = mace("quantize", "small.onnx", "-o", "q.onnx", *given, plugins="cpu")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["samples"] == 12 and len(found["quantized"]) >= 4 and found["floats"] == {}
    assert found["accuracy"]["after"] == pytest.approx(found["accuracy"]["before"], rel=0.1)
    assert found["bytes"]["after"] == (folder / "q.onnx").stat().st_size
    onnx.checker.check_model(str(folder / "q.onnx"), full_check=True)


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        ((), "needs calibration data", 2),
        (("--data", "missing"), "there are no calibration data 'missing'", 2),
        (("--data", "judge:broken"), "failed at sample 0: RuntimeError: no data today", 2),
        (("--data", "data.npz", "--scheme", "int7"), "no scheme 'int7'", 2),
        (("--data", "data.npz", "--exclude", "Nothing"), "--exclude Nothing", 2),
        (("--data", "data.npz", "--max-drop", "1"), "needs a metric", 2),
    ],
)
def test_what_is_refused_is_said_in_one_line_and_leaves_nothing(
    mace: Mace, folder: Path, arguments: tuple[str, ...], said: str, code: int
) -> None:
    before = sorted(folder.iterdir())
    done = mace("quantize", "small.onnx", "-o", "q.onnx", *arguments)
    assert done.returncode == code and done.stdout == ""
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert [file for file in sorted(folder.iterdir()) if file.name != "__pycache__"] == before
