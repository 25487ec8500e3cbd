"""Files of other kinds: the error says what the file is and what to do next."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mace_core.errors import ModelError, UsageError
from mace_core.frontend.load import load_model


def _onnx() -> bytes:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()  # type: ignore[no-any-return]


def _zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def _picture(kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, kind)
    return stream.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
SAFETENSORS = (60).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      ' + bytes(4)
KINDS: list[tuple[str, bytes, str, str]] = [
    (
        "m.pt",
        _zip("archive/data.pkl", "archive/version"),
        "PyTorch checkpoint",
        "load_model(module, example_inputs)",
    ),
    ("m.pth", _zip("m/data.pkl"), "PyTorch checkpoint", "load_model(module, example_inputs)"),
    ("m.pt", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", "pickle", "load_model(module, example_inputs)"),
    ("m.pkl", b"\x80\x04}q\x00.", "Python pickle", "if you trust"),
    ("m.pb", b"\x0a\x05\x0a\x01x\x12\x00", "TensorFlow graph", "tf2onnx"),
    ("m.onnx", b"\x1c\x00\x00\x00TFL3\x14\x00\x20\x00", "TensorFlow Lite", ".tflite"),
    ("m.safetensors", SAFETENSORS, "safetensors", "export the model to ONNX"),
    ("m.gguf", b"GGUF\x03\x00\x00\x00", "GGUF", "export the model to ONNX"),
    ("m.mlmodel", b"\x08\x04\x12\x10\x0a\x05input\x1a\x07", "Core ML", "ONNX"),
    ("m.pdmodel", b"\x0a\x0a\x08\x00\x10\x01", "Paddle", "paddle2onnx"),
    ("m.onnx.gz", gzip.compress(_onnx()), "gzip", "gunzip"),
    ("m.zip", _zip("model.onnx"), "zip archive", "unzip"),
    ("m.npz", _zip("x.npy"), "numpy arrays", "--npz"),
    ("m.npy", _npy(), "array of numpy", "--input"),
    ("m.html", b"<!DOCTYPE html>\n<html><head></head></html>", "web page", "download"),
    ("page", b"\n  <html lang=en><body>Sign in</body></html>", "web page", "download"),
    ("m.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO", "ONNX"),
    ("denied", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML", "download"),
    ("pointer", POINTER, "Git LFS pointer", "git lfs pull"),
    ("readme.md", b"# A model\n\nIt is good.\n", "text that begins with '# A model'", ".onnx"),
    ("gone", b"Entry not found", "Entry not found", "download"),
    ("config.json", b'{"a": 1}', "JSON", ".onnx"),
    ("m.onnxtxt", b'<ir_version: 8, opset_import: ["": 17]>\nagraph (float[1] x)', "text form", "onnx.save"),
    ("cat.jpg", _picture("JPEG"), "JPEG picture", "--input"),
    ("cat.png", _picture("PNG"), "PNG picture", "--input"),
    ("cat.gif", _picture("GIF"), "GIF picture", "--input"),
    ("zeros", bytes(5000), "full of zeros", "again"),
]


@pytest.mark.parametrize(("name", "content", "what", "advice"), KINDS, ids=[kind[0] for kind in KINDS])
def test_the_error_says_what_it_is_and_what_to_do(
    tmp_path: Path, name: str, content: bytes, what: str, advice: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / name)
    assert what in str(caught.value) and advice in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


BY_CONTENT = [kind for kind in KINDS if kind[0] not in ("m.pkl", "m.pb", "m.mlmodel", "m.pdmodel")]


@pytest.mark.parametrize(("name", "content", "what", "advice"), BY_CONTENT, ids=[kind[0] for kind in BY_CONTENT])
def test_content_tells_whatever_the_name_says(
    tmp_path: Path, name: str, content: bytes, what: str, advice: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    for source in (tmp_path / "model.onnx", content):
        with pytest.raises(ModelError) as caught:
            load_model(source)
        assert what in str(caught.value) and advice in str(caught.value)


def test_a_keras_model_by_the_name_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(30))
    with pytest.raises(ModelError, match=r"an HDF5 file, as Keras writes them: give it a name that ends in \.h5"):
        load_model(tmp_path / "model.onnx")


def test_a_damaged_model_stays_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(_onnx()[:-9])
    with pytest.raises(ModelError, match="damaged"):
        load_model(tmp_path / "model.onnx")


def test_a_model_by_another_name_is_read(tmp_path: Path) -> None:
    for name in ("model.pt", "model.pb", "model", "model.zip"):
        (tmp_path / name).write_bytes(_onnx())
        assert [node.op_type for node in load_model(tmp_path / name).nodes] == ["Relu"]


def test_empty_names_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="path of the model is empty"):
        load_model("")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match="is empty: fetch or export it again"):
        load_model(tmp_path / "empty.onnx")
    with pytest.raises(ModelError, match=r"give a file in it: empty\.onnx"):
        load_model(tmp_path)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    with pytest.raises(ModelError, match=r"saved_model\.pb' is empty"):
        load_model(tmp_path / "saved")
    with pytest.raises(ModelError, match=r"did you mean '.*empty\.onnx'"):
        load_model(tmp_path / "emtpy.onnx")


def test_bytes_of_another_kind_are_told() -> None:
    assert onnx.__version__
    with pytest.raises(ModelError, match="it is a Git LFS pointer"):
        load_model(POINTER)
