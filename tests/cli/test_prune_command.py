"""`mace prune` as users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[1] / "sparsity"))
from pruned_network import network, samples

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_model_is_pruned_and_reported(mace: Mace, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate(samples(3)))
    done = mace("prune", "model.onnx", "-o", "out.onnx", "--data", "data.npz")
    assert done.returncode == 0, done.stderr
    assert "5 layers pruned" in done.stdout and "dense (depthwise): deep" in done.stdout
    assert "squares kept" in done.stdout and "uncompensated" in done.stdout
    assert (tmp_path / "out.onnx").exists()


def test_what_it_did_as_json(mace: Mace, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "model.onnx")
    done = mace(
        "prune", "model.onnx", "-o", "out.onnx", "--shared", "8", "--pattern", "1:4", "--exclude", "a", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {layer["name"] for layer in found["layers"]} == {"b", "c", "m", "g"}
    assert {layer["pattern"] for layer in found["layers"]} == {"1:4"} and found["dense"]["a"] == "excluded by 'a'"


def test_bad_patterns_end_in_one_line(mace: Mace, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    done = mace("prune", "model.onnx", "-o", "out.onnx", "--pattern", "4:2")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "4:2" in done.stderr
    assert not (tmp_path / "out.onnx").exists()
