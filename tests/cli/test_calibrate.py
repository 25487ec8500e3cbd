"""`mace calibrate MODEL`: what a model's placements take."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_model_is_measured_where_it_runs(mace: Mace, model: Path) -> None:
    done = mace("calibrate", "model.onnx", "--device", "reference", "--seconds", "0.01", "--json")
    assert done.returncode == 0, done.stderr
    (only,) = json.loads(done.stdout)["placements"]
    assert only["devices"] == ["reference:0"] and only["is_chosen"] and 0 < only["measured"] < 10


def test_what_is_for_a_model_needs_one(mace: Mace) -> None:
    done = mace("calibrate", "--policy", "throughput")
    assert done.returncode != 0
    assert "policies, pins and inputs are for a model: mace calibrate MODEL" in done.stderr
