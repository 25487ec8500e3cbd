"""Forms of a file that protobuf allows, or that contradict themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model

from mace_core.errors import ModelError
from mace_core.frontend import load_model


def varint(number: int) -> bytes:
    encoded = b""
    while number >= 0x80:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


UNKNOWN_FIELDS = [
    varint(99 << 3 | 0) + varint(1 << 40),
    varint(99 << 3 | 1) + bytes(8),
    varint(99 << 3 | 2) + varint(5) + b"hello",
    varint(99 << 3 | 5) + bytes(4),
    varint(123456 << 3 | 2) + varint(5000) + bytes(5000),
]


@pytest.mark.parametrize("field", UNKNOWN_FIELDS, ids=["number", "eight bytes", "text", "four bytes", "long"])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_fields_that_are_not_known_are_passed_over(field: bytes, at_the_end: bool) -> None:
    content = model([helper.make_node("Relu", ["x"], ["y"])], [info("x", [2])], [info("y", [2])]).SerializeToString()
    graph = load_model(content + field if at_the_end else field + content)
    assert [node.op_type for node in graph.nodes] == ["Relu"]


@pytest.mark.parametrize(
    "content",
    [
        *(start + bytes(60) for start in (b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"GGUF")),
        *(b"<html><body>Not found</body></html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:00"),
        *(b"\x1f\x8b\x08" + bytes(40), b"hello, world", b'{"a": 1}', bytes(64)),
    ],
)
def test_what_is_no_model_is_not_taken_for_one(content: bytes) -> None:
    with pytest.raises(ModelError, match="no frontend recognizes"):
        load_model(content)


def test_values_packed_and_one_by_one_are_one_list() -> None:
    """Protobuf lets a repeated field come in pieces of either form."""
    numbers = np.arange(70, dtype=np.float32)
    packed = numbers[:64].tobytes()
    singles = b"".join(varint(4 << 3 | 5) + number.tobytes() for number in numbers[64:])
    tensor = varint(1 << 3) + varint(70) + varint(2 << 3) + varint(1) + varint(8 << 3 | 2) + varint(1) + b"w"
    tensor += varint(4 << 3 | 2) + varint(len(packed)) + packed + singles
    made = model([helper.make_node("Identity", ["w"], ["y"])], [], [info("y", [70])])
    graph_bytes = made.graph.SerializeToString() + varint(5 << 3 | 2) + varint(len(tensor)) + tensor
    made.ClearField("graph")
    content = made.SerializeToString() + varint(7 << 3 | 2) + varint(len(graph_bytes)) + graph_bytes
    constant = load_model(content).initializers["w"].constant
    assert constant is not None
    np.testing.assert_array_equal(constant.numpy(), numbers)


@pytest.mark.parametrize("count", [2, 64])
@pytest.mark.parametrize(
    ("data_type", "field"),
    [
        (TensorProto.INT32, "float_data"),
        (TensorProto.DOUBLE, "float_data"),
        (TensorProto.FLOAT, "double_data"),
        (TensorProto.INT64, "double_data"),
        (TensorProto.INT64, "int32_data"),
        (TensorProto.FLOAT, "int32_data"),
    ],
)
def test_values_in_the_field_of_another_type_are_refused(data_type: int, field: str, count: int) -> None:
    made = model([helper.make_node("Identity", ["w"], ["y"])], [], [info("y", [count], data_type)])
    tensor = TensorProto(name="w", data_type=data_type, dims=[count])
    getattr(tensor, field).extend([1] * count)
    made.graph.initializer.append(tensor)
    with pytest.raises(ModelError, match=f"holds its values in {field}"):
        load_model(made)


@pytest.mark.parametrize(("declared", "in_file"), [("404", 500), ("400", 399), ("396", 500), ("0", 500)])
def test_external_data_of_another_length_is_refused(tmp_path: Path, declared: str, in_file: int) -> None:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[100], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", declared)):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes(bytes(in_file))
    made = model([helper.make_node("Identity", ["c"], ["y"])], [], [info("y", [100])], [tensor])
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match=r"'c' (takes 400 bytes but declares|needs bytes 0 to 400)"):
        load_model(tmp_path / "m.onnx")
