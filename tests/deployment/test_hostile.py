"""Damaged and hostile deployment files: one clear error each, and no file but those of the conversion is touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.cli.main import main
from mace_core.deployment.read import read_deployment
from mace_core.errors import MaceError

from .hostile import GOOD, changed, hostile

FILES = dict(hostile())
LONGEST = 4000
"""Characters of a message: a file may have twenty mistakes."""


@pytest.fixture
def inner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in a folder, with the model that the good file names; what is around it has to stay as it is."""
    outer = tmp_path / "outer"
    folder = outer / "inner"
    folder.mkdir(parents=True)
    (outer / "precious.txt").write_text("mine", encoding="utf-8")
    weights = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 48, 192]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2]),
    ]
    graph = helper.make_graph(nodes, "mean", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "mobilenet_v1.onnx")
    monkeypatch.chdir(folder)
    before = _files(outer)
    yield folder
    after = _files(outer)
    after.pop("inner/bad.yml", None)
    assert after == before


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_are_a_hundred_of_them_and_the_good_one_is_good(tmp_path: Path) -> None:
    assert len(FILES) >= 150
    path = tmp_path / "good.yml"
    path.write_text(GOOD, encoding="utf-8")
    deployment, document = read_deployment(path)
    assert (deployment.library_name, document.notes) == ("mobilenet", [])
    path.write_text(changed("runtime", "runtime: gpu"), encoding="utf-8")
    assert read_deployment(path)[0].models["mobilenet_v1"].subgraphs["default_graph"].runtime == "gpu"


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_one_clear_error(name: str, inner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (inner / "bad.yml").write_bytes(FILES[name])
    code = main(["convert", "--config", "bad.yml", "--no-validate", "--quiet"])
    printed = capsys.readouterr()
    assert code in (1, 2), printed  # the model, or the file that names it
    assert printed.out == ""
    assert printed.err.startswith("mace: error: ")
    assert len(printed.err) < LONGEST
    for word in ("Traceback", "defect", "pydantic", "yaml.", "Error:", "value_error", "ctx", "\x1b", "\0"):
        assert word not in printed.err
    assert "bad.yml" in printed.err
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(inner / "build")  # noqa: PTH106 - only if it is empty


@pytest.mark.full
def test_files_with_a_piece_missing_or_twice_are_errors_or_good(tmp_path: Path) -> None:
    """Every line left out, doubled, and cut at every place: an error of ours, or a deployment."""
    lines = GOOD.splitlines(keepends=True)
    texts = ["".join(lines[:n] + lines[n + 1 :]) for n in range(len(lines))]
    texts += ["".join([*lines[:n], lines[n], *lines[n:]]) for n in range(len(lines))]
    texts += [GOOD[:n] for n in range(len(GOOD))] + [GOOD[:n] + GOOD[n + 1 :] for n in range(len(GOOD))]
    good = 0
    for text in texts:
        path = tmp_path / "some.yml"
        path.write_text(text, encoding="utf-8")
        try:
            read_deployment(path)
            good += 1
        except MaceError as error:
            assert str(error)
    assert 0 < good < len(texts)
