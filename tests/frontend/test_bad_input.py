"""Whatever the file holds: one clear error, or a graph; no other exception, no memory balloon."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import everything, info, model, relu_chain

from mace_core.errors import ModelError
from mace_core.frontend import load_model


def outcome(content: bytes) -> str:
    """``ok``, or the message of the ModelError, made sure to be a sentence."""
    try:
        load_model(content)
    except ModelError as error:
        message = str(error)
        assert not message.endswith(".") and "\n" not in message and len(message) <= 1000, message
        return message
    return "ok"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model file '.*nowhere\.onnx'"):
        load_model(tmp_path / "nowhere.onnx")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        load_model(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="not a regular file"):
        load_model(tmp_path / "m.onnx")


def test_a_path_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_model("a\0b.onnx")
    with pytest.raises(ModelError):
        load_model("x" * 10_000 + ".onnx")


def test_empty_files_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    for source in (path, b"", onnx.ModelProto()):
        with pytest.raises(ModelError, match="is empty"):
            load_model(source)


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX's")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(relu_chain().SerializeToString())
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        with pytest.raises(ModelError, match=r"cannot be read: .*Permission denied"):
            load_model(path)
    else:
        pytest.skip("needs a user who is not root")


def test_text_and_other_formats_are_not_recognized(tmp_path: Path) -> None:
    for content in (b"hello, world\n" * 50, b"GGUF" + bytes(100), b"PK\3\4" + bytes(100), bytes(100)):
        with pytest.raises(
            ModelError, match=r"no frontend recognizes the model given as bytes; installed frontends: .*onnx"
        ):
            load_model(content)
        path = tmp_path / "m.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=rf"'{path}' is (a text|a GGUF file|a zip|full of zeros)"):
            load_model(path)


def test_a_model_cut_off_at_every_byte() -> None:
    whole = everything().SerializeToString()
    outcomes = [outcome(whole[:length]) for length in range(1, len(whole))]
    assert outcomes.count("ok") < 20  # cut between the last optional fields
    assert outcome(whole) == "ok"


@pytest.mark.parametrize("seed", range(4))
def test_a_model_with_bytes_changed(seed: int) -> None:
    source = random.Random(seed)
    whole = everything().SerializeToString()
    seen = set()
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(source.choice([1, 1, 2, 5])):
            changed[source.randrange(len(changed))] = source.randrange(256)
        seen.add(outcome(bytes(changed)))
    assert len(seen) > 20


def test_random_bytes(tmp_path: Path) -> None:
    source = random.Random(0)
    path = tmp_path / "m.onnx"
    for length in (1, 2, 10, 100, 1000, 10_000):
        for _ in range(20):
            path.write_bytes(source.randbytes(length))
            with pytest.raises(ModelError):
                load_model(path)


def test_sizes_declared_but_not_there(tmp_path: Path) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**40, 2**20])
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], [info("x", [1])], [info("y", None)], [tensor])
    assert "initializer 'w' does not hold what it declares" in outcome(made.SerializeToString())
    tensor.dims[:] = [2**62, 2**62]
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], [info("x", [1])], [info("y", None)], [tensor])
    assert "initializer 'w' does not hold what it declares" in outcome(made.SerializeToString())
    assert "does not fit" in outcome(relu_chain().SerializeToString() + b"\x3a\xff\xff\xff\xff\x7f")


def _nested(depth: int) -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "inner", [], [info("y")])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], "g", [], [info("y")])
    if_node = helper.make_node("If", ["c"], ["y"])
    for name in ("then_branch", "else_branch"):
        if_node.attribute.append(helper.make_attribute(name, body))
    return model([if_node], [info("c", [], TensorProto.BOOL), info("x", [1])], [info("y", [1])])


def test_graphs_nested_a_few_deep_load() -> None:
    assert outcome(_nested(5).SerializeToString()) == "ok"


def test_absurd_nesting_is_refused() -> None:
    """Deeper than protobuf parses: the bytes are put together by hand."""

    def field(number: int, content: bytes) -> bytes:
        length, encoded = len(content), b""
        while length >= 0x80:
            encoded += bytes([length & 0x7F | 0x80])
            length >>= 7
        return bytes([number << 3 | 2]) + encoded + bytes([length]) + content

    for levels, words in ((40, "MaxDepth"), (2000, "nested more than 100 deep")):
        graph = b""
        for _ in range(levels):
            graph = field(1, field(5, field(6, graph) + field(1, b"body")))
        assert words in outcome(b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11"))

    kind = b"\x08\x01"
    for _ in range(200):  # a sequence of sequences …
        kind = field(4, field(1, kind))
    value = field(1, b"x") + field(2, kind)
    assert outcome(b"\x08\x08" + field(7, field(11, value)) + field(8, b"\x10\x11")) != "ok"


def test_names_that_are_no_text() -> None:
    whole = relu_chain().SerializeToString()
    for name in (b"relu", b"Relu"):
        assert "not UTF-8" in outcome(whole.replace(name, b"\xff\xfe\xfd\xfc"))


def test_the_message_names_the_file_and_stays_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model([helper.make_node("Neg", ["a\nb" * 5000], ["y"])], [], [info("y", [1])]).SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 1000
