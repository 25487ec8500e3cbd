"""Deployment files are converted: packages that give what the original does, in the file's layout and precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_core import Session
from mace_core.cli.main import main

from .conftest import INPUT, OUTPUT, Write

SEED_LINE = [
    "convert",
    "--config_file=mobilenet_v1.yml",
    "--target_abis=armeabi-v7a,arm64-v8a",
    "--quantize=static",
    "--quantize_algorithm=minmax",
    "--optimize",
]


def test_the_command_line_of_mace_converts_quantizes_and_checks(
    deployment: dict[str, Any], write: Write, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(deployment)
    assert main([*SEED_LINE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["library"]) == ("convert", "mobilenet")
    assert found["target_abis"] == ["armeabi-v7a", "arm64-v8a"]
    (model,) = found["models"]
    assert model["precision"] == "int8 (minmax)"
    assert model["quantized"] > 50
    assert model["bytes"]["package"] < model["bytes"]["source"]
    (judged,) = model["validation"]["outputs"]
    assert (judged["device"], judged["threshold"], judged["ok"]) == ("cpu", 0.98, True)
    package = folder / "build" / "mobilenet" / model["package"]
    x = np.random.default_rng(0).uniform(-1, 1, (1, 48, 192, 3)).astype(np.float32)
    with Session(package, devices=["cpu"], strict=True) as quantized, Session("mobilenet_v1.onnx") as original:
        assert [(i.name, i.shape) for i in quantized.inputs] == [(INPUT, (1, 48, 192, 3))]
        ours = quantized.run({INPUT: x})[OUTPUT]
        theirs = original.run({INPUT: x.transpose(0, 3, 1, 2)})[OUTPUT]
    assert np.abs(ours - theirs).max() < 0.2
    assert not [path.name for path in (folder / "build").iterdir() if path.name.startswith(".")]
