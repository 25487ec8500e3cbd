"""What docs/users.md says of stopping a run and of errors is so; test_blocks.py runs its other blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mace_core as mace

PAGE = (Path(__file__).parents[2] / "docs" / "users.md").read_text(encoding="utf-8")
X = np.ones((2, 3), np.float32)


def block(heading: str) -> str:
    """The first piece of Python below a heading."""
    section = PAGE.split(f"# {heading}\n")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def endless() -> onnx.ModelProto:
    """Adds x to itself for many minutes."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["go"]), helper.make_node("Add", ["sum", "x"], ["more"], name="add")],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("sum", TensorProto.FLOAT, [2, 3]),
        ],
        [value("go", TensorProto.BOOL, []), value("more", TensorProto.FLOAT, [2, 3])],
    )
    constants = [
        helper.make_tensor("trips", TensorProto.INT64, [], [2**30]),
        helper.make_tensor("true", TensorProto.BOOL, [], [True]),
    ]
    loop = helper.make_node("Loop", ["trips", "true", "x"], ["y"], body=body, name="loop")
    ends = [value(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    graph = helper.make_graph([loop], "endless", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_run_is_stopped_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(endless(), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"mace": mace, "array": X}
    exec(block("Stop a run"), names)
    assert "cancelled" in capsys.readouterr().out
    assert not names["flag"].is_set
    names["session"].close()


def test_every_error_named_is_there_and_is_what_the_page_says() -> None:
    import builtins

    rows = re.findall(r"^\| (`\w+Error`.*?) \| (`.*?`) \|", PAGE, re.MULTILINE)
    assert len(rows) >= 7
    for ours, python in rows:
        named = [getattr(mace.errors, name) for name in re.findall(r"`(\w+)`", ours)]
        also = [getattr(builtins, name) for name in re.findall(r"`(\w+)`", python)]
        for place, kind in enumerate(named):
            assert issubclass(kind, mace.errors.MaceError)
            assert issubclass(kind, also[min(place, len(also) - 1)])
