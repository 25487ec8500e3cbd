"""Models whose files are links: into a model hub's folder of blobs, or to wherever somebody keeps the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.errors import ModelError
from mace_core.frontend import load_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege on this system")


def model_bytes(location: str) -> bytes:
    weights = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    weights.external_data.add(key="length", value="16")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def data(value: float) -> bytes:
    return np.full(4, value, np.float32).tobytes()


def link(path: Path, target: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def weight(path: Path) -> float:
    constant = load_model(path).initializers["w"].constant
    assert constant is not None
    return float(constant.numpy()[0])


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """A hub's folder of one repository with a model, its weights, and a file elsewhere that is nobody's business."""
    repository = tmp_path / "models--org--name"
    put(repository / "blobs" / "abc", model_bytes("model.onnx_data"))
    put(repository / "blobs" / "def", data(1))
    put(tmp_path / "secret", data(9))
    return repository / "blobs"


@pytest.mark.parametrize("below", ["", "onnx", "onnx/fp32"])
@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_the_cache_of_a_hub(blobs: Path, below: str, absolute: bool) -> None:
    folder = blobs.parent / "snapshots" / "0123" / below
    folder.mkdir(parents=True)
    up = blobs if absolute else Path(os.path.relpath(blobs, folder))
    link(folder / "model.onnx", up / "abc")
    link(folder / "model.onnx_data", up / "def")
    assert weight(folder / "model.onnx") == 1
    link(blobs.parent.parent / "downloads", blobs.parent)
    assert weight(blobs.parent.parent / "downloads" / folder.relative_to(blobs.parent) / "model.onnx") == 1


def test_a_new_revision_of_the_data_alone_is_another_model(blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(blobs.parent / "cache"))
    folder = blobs.parent / "snapshots" / "0123"
    link(folder / "model.onnx", blobs / "abc")
    link(folder / "model.onnx_data", blobs / "def")
    put(blobs / "ghi", data(2))
    for expected in (1, 1, 2, 2):
        if expected == 2:
            (folder / "model.onnx_data").unlink()
            link(folder / "model.onnx_data", blobs / "ghi")
        with Session(folder / "model.onnx") as session:
            assert session.run({"x": np.zeros(4, np.float32)})["y"][0] == expected


@pytest.mark.parametrize("location", ["model.data", "weights/model.data", "weights/../model.data"])
def test_data_beside_the_file_that_the_model_is_a_link_to(tmp_path: Path, location: str) -> None:
    real = put(tmp_path / "kept" / "real.onnx", model_bytes(location))
    (tmp_path / "kept" / "weights").mkdir()
    put(tmp_path / "kept" / location, data(3))
    link(tmp_path / "current" / "model.onnx", real)
    link(tmp_path / "again.onnx", "current/model.onnx")
    assert weight(tmp_path / "current" / "model.onnx") == 3
    assert weight(tmp_path / "again.onnx") == 3


def test_what_lies_beside_the_link_comes_first(tmp_path: Path) -> None:
    real = put(tmp_path / "kept" / "real.onnx", model_bytes("model.data"))
    put(tmp_path / "kept" / "model.data", data(3))
    link(tmp_path / "current" / "model.onnx", real)
    put(tmp_path / "current" / "model.data", data(4))
    assert weight(tmp_path / "current" / "model.onnx") == 4


@pytest.mark.parametrize("target", ["../../../secret", "{tmp}/secret", "hop", "folder/secret"])
@pytest.mark.parametrize("linked", [True, False], ids=["linked", "plain"])
def test_links_that_leave_both_folders_are_refused_and_shown(
    blobs: Path, tmp_path: Path, target: str, linked: bool
) -> None:
    folder = blobs.parent / "snapshots" / "0123"
    folder.mkdir(parents=True)
    if linked:
        link(folder / "model.onnx", "../../blobs/abc")
    else:
        put(folder / "model.onnx", model_bytes("model.onnx_data"))
    link(folder / "hop", "../../../secret")
    link(folder / "folder", tmp_path)
    link(folder / "model.onnx_data", target.format(tmp=tmp_path))
    with pytest.raises(ModelError, match=r"outside the model's folder .*refused") as refused:
        load_model(folder / "model.onnx")
    assert f"'{tmp_path / 'secret'}'" in str(refused.value)


def test_links_to_devices_and_to_nothing(blobs: Path) -> None:
    folder = blobs.parent / "snapshots" / "0123"
    link(folder / "model.onnx", "../../blobs/abc")
    with pytest.raises(ModelError, match="is missing or no file"):
        load_model(folder / "model.onnx")
    for target, words in (
        ("/dev/zero", "refused"),
        ("../../blobs/absent", "missing or no file"),
        ("../../blobs", "missing or no file"),
        ("model.onnx_data", "cannot be followed|missing or no file"),
    ):
        (folder / "model.onnx_data").unlink(missing_ok=True)
        link(folder / "model.onnx_data", target)
        with pytest.raises(ModelError, match=words):
            load_model(folder / "model.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "../../../secret", "weights/../../secret", ".."])
def test_a_location_that_climbs_is_refused_wherever_the_model_is_linked_from(blobs: Path, location: str) -> None:
    put(blobs / "abc", model_bytes(location))
    put(blobs.parent / "snapshots" / "secret", data(9))
    folder = blobs.parent / "snapshots" / "0123"
    link(folder / "model.onnx", "../../blobs/abc")
    with pytest.raises(ModelError, match=r"outside the model's folder .*refused"):
        load_model(folder / "model.onnx")
