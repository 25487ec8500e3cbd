"""A provider that breaks the contract: its defect is named, and what can go on goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from acme_npu.backend import AcmeBackend, AcmeExecution
from onnx import TensorProto, helper

import mace_core as mace
from mace_core.errors import ProviderBugError

X = np.linspace(-1, 1, 6).astype(np.float32).reshape(2, 3)


def broken(*arguments: object) -> None:
    raise ValueError("a defect")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", info[:1], info[1:])
    target = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), target)
    return target


def run(path: Path) -> tuple[np.ndarray, dict[str, int], list[bool]]:
    with mace.Session(path, devices=["acme:sim0"], strict=True) as session:
        found = session.run({"x": X})["y"]
        placement = session.explain()
    return found, placement.nodes_per_device, [done.restored for done in placement.preparations]


def test_an_error_outside_the_contract_names_the_device(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AcmeExecution, "run", broken)
    with (
        mace.Session(path, devices=["acme:sim0"], strict=True) as session,
        pytest.raises(ProviderBugError, match=r"small.onnx': acme:sim0: Event.wait raised ValueError: a defect"),
    ):
        session.run({"x": X})


def test_what_can_not_be_stored_still_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(AcmeBackend, "serialize", broken)
    with caplog.at_level(logging.WARNING, "mace"):
        found, placed, _ = run(path)
    np.testing.assert_array_equal(found, np.maximum(X, 0))
    assert placed == {"acme:sim0": 1}
    assert "Backend.serialize raised ValueError: a defect" in caplog.text
    assert "is not stored" in caplog.text


def test_what_can_not_be_restored_is_compiled_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(path)[2] == [False]
    monkeypatch.setattr(AcmeBackend, "deserialize", broken)
    found, placed, restored = run(path)
    np.testing.assert_array_equal(found, np.maximum(X, 0))
    assert placed == {"acme:sim0": 1}
    assert restored == [False]
