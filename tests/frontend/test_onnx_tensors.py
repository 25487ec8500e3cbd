"""Constants in every element type and every place an ONNX file can keep them in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import info, model

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend import load_model
from mace_core.tensor import DType, Tensor

SIZES = (0, 1, 3, 5, 300)


def constant_model(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["c"], ["y"])
    tensor.name = "c"
    return model([node], [], [info("y", None, tensor.data_type)], [tensor])


def read(tensor: TensorProto) -> Tensor:
    constant = load_model(constant_model(tensor)).initializers["c"].constant
    assert constant is not None
    return constant


def sample(dtype: DType, size: int) -> npt.NDArray[Any]:
    """Values of every bit pattern a narrow kind has, and some of the wide ones."""
    if dtype is DType.BOOL:
        return np.arange(size) % 3 == 0
    if dtype in (DType.COMPLEX64, DType.COMPLEX128):
        return (np.arange(size) - 1j * np.arange(size)).astype(dtype.numpy)
    if dtype.bits <= 8:
        codes = (np.arange(size) % (1 << dtype.bits)).astype(np.uint8)
        if dtype in (DType.INT4, DType.INT2):  # unpacked, these have their sign extended
            codes = np.where(codes >= 1 << (dtype.bits - 1), codes - (1 << dtype.bits), codes).astype(np.uint8)
        return codes.view(dtype.numpy)
    return (np.arange(size) * 7 - 20 * (not dtype.name.startswith("U"))).astype(dtype.numpy)


NUMERIC = [d for d in DType if d is not DType.STRING]


def test_all_element_types_of_onnx_are_known() -> None:
    assert {d.value for d in DType} == set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda d: d.label)
@pytest.mark.parametrize("size", SIZES)
def test_raw_data(dtype: DType, size: int) -> None:
    values = sample(dtype, size)
    tensor = read(numpy_helper.from_array(values))
    assert (tensor.dtype, tensor.shape) == (dtype, (size,))
    assert tensor.numpy().astype(values.dtype).tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda d: d.label)
@pytest.mark.parametrize("size", SIZES)
def test_typed_fields(dtype: DType, size: int) -> None:
    values = sample(dtype, size)
    proto = TensorProto(data_type=dtype.value, dims=[size])
    if dtype in (DType.FLOAT32, DType.COMPLEX64):
        proto.float_data.extend(values.view(np.float32).tolist())
    elif dtype in (DType.FLOAT64, DType.COMPLEX128):
        proto.double_data.extend(values.view(np.float64).tolist())
    elif dtype is DType.INT64:
        proto.int64_data.extend(values.tolist())
    elif dtype in (DType.UINT32, DType.UINT64):
        proto.uint64_data.extend(values.tolist())
    elif dtype.bits == 6:
        proto.int32_data.extend(values.view(np.uint8).tolist())
    elif dtype.is_packed:
        proto.int32_data.extend(Tensor.from_numpy(values).payload.tolist())
    elif dtype in (DType.INT8, DType.INT16, DType.INT32):
        proto.int32_data.extend(values.tolist())
    else:
        proto.int32_data.extend(values.view(f"u{dtype.bits // 8}").tolist())
    assert read(proto).numpy().astype(values.dtype).tobytes() == values.tobytes()


def test_the_narrow_kinds_are_read_as_the_onnx_library_reads_them() -> None:
    for dtype in (d for d in NUMERIC if d.is_packed):
        proto = TensorProto(data_type=dtype.value, dims=[7], raw_data=bytes(range(200, 200 + dtype.nbytes(7))))
        expected = numpy_helper.to_array(proto)
        np.testing.assert_array_equal(read(proto).numpy().astype(np.float32), expected.astype(np.float32))


def test_strings_are_text_where_they_are_utf8() -> None:
    proto = TensorProto(data_type=TensorProto.STRING, dims=[2, 2], string_data=[b"a", "ü".encode(), b"", b"\xff"])
    assert read(proto).numpy().tolist() == [["a", "ü"], ["", b"\xff"]]


def test_values_written_one_by_one_or_in_pieces_are_read() -> None:
    """Protobuf allows a repeated field to come unpacked, and in several packed pieces."""
    values = np.arange(64, dtype="<f4")
    head = TensorProto(data_type=TensorProto.FLOAT, dims=[64], name="c").SerializeToString()
    pieces = b"".join(b"\x22\x80\x01" + values[i : i + 32].tobytes() for i in (0, 32))
    single = b"".join(b"\x25" + v.tobytes() for v in values)
    for encoded in (pieces, single):
        proto = TensorProto.FromString(head)
        made = constant_model(proto).SerializeToString()
        short = proto.SerializeToString()
        long = short + encoded
        whole = _replace_initializer(made, short, long)
        constant = load_model(whole).initializers["c"].constant
        assert constant is not None
        np.testing.assert_array_equal(constant.numpy(), values)


def _replace_initializer(made: bytes, old: bytes, new: bytes) -> bytes:
    """The model with the serialized initializer ``old`` (the only one) replaced by ``new``."""
    stripped = onnx.ModelProto.FromString(made)
    del stripped.graph.initializer[:]
    graph = stripped.graph.SerializeToString()
    stripped.ClearField("graph")
    graph += b"\x2a" + _varint(len(new)) + new
    assert old in made
    return bytes(stripped.SerializeToString()) + b"\x3a" + _varint(len(graph)) + graph


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7]) if value >= 0x80 else bytes([value])


def test_what_a_tensor_declares_must_be_there() -> None:
    def floats(dims: list[int], raw: bytes = b"", **fields: object) -> TensorProto:
        return TensorProto(data_type=TensorProto.FLOAT, dims=dims, raw_data=raw, **fields)

    with pytest.raises(ModelError, match=r"initializer 'c' does not hold what it declares: .* takes 40 bytes, not 16"):
        read(floats([10], bytes(16)))
    with pytest.raises(ModelError, match="takes 4000000000000000000 bytes, not 4"):
        read(floats([10**9, 10**9], bytes(4)))
    with pytest.raises(ModelError, match="not 256"):  # taken out by the scanner
        read(floats([63], bytes(256)))
    with pytest.raises(ModelError, match="negative size"):
        read(floats([-1], bytes(4)))
    with pytest.raises(ModelError, match="holds its values twice, in float_data and in raw_data"):
        read(floats([1], bytes(4), float_data=[1.0]))
    with pytest.raises(ModelError, match="float32 but holds its values in int32_data"):
        read(TensorProto(data_type=TensorProto.FLOAT, dims=[1], int32_data=[1]))
    with pytest.raises(ModelError, match="has no element type"):
        read(TensorProto(dims=[1], raw_data=bytes(4)))
    with pytest.raises(UnsupportedModelError, match="element type number 77"):
        read(TensorProto(data_type=77, dims=[1], raw_data=bytes(4)))
    with pytest.raises(UnsupportedModelError, match="stored in segments"):
        read(floats([1], bytes(4), segment=TensorProto.Segment(begin=0, end=4)))


def test_a_sparse_tensor_can_not_blow_up_memory() -> None:
    made = model([helper.make_node("Shape", ["s"], ["y"])], [], [info("y", [2], TensorProto.INT64)])
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**6, 10**6]))
    with pytest.raises(UnsupportedModelError, match="4,000,000,000,000 bytes when written out"):
        load_model(made)
    made.graph.sparse_initializer[0].dims[:] = [2, 2]
    made.graph.sparse_initializer[0].indices.CopyFrom(numpy_helper.from_array(np.array([9]), ""))
    with pytest.raises(ModelError, match="index outside its shape"):
        load_model(made)


# --- external data ---------------------------------------------------------------------------------------------------


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model whose 400-byte weight stands at offset 64 of ``weights.bin``."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(64) + np.arange(100, dtype=np.float32).tobytes())
    _write_external(folder / "m.onnx", location="weights.bin", offset="64", length="400")
    return folder / "m.onnx"


def _write_external(path: Path, **entries: str) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[100], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(constant_model(tensor).SerializeToString())


@pytest.mark.parametrize("mmap", [True, False])
def test_external_data_is_read_beside_the_model(external: Path, mmap: bool) -> None:
    constant = load_model(external, mmap=mmap).initializers["c"].constant
    assert constant is not None and constant.source is not None
    np.testing.assert_array_equal(constant.numpy(), np.arange(100))
    assert (Path(constant.source.path).name, constant.source.offset) == ("weights.bin", 64)


def test_external_data_needs_no_length(external: Path) -> None:
    _write_external(external, location="weights.bin", offset="64")
    assert load_model(external).initializers["c"].constant is not None


def test_external_data_in_a_folder_below(external: Path) -> None:
    (external.parent / "data").mkdir()
    (external.parent / "weights.bin").rename(external.parent / "data" / "w.bin")
    _write_external(external, location="data/w.bin", offset="64")
    assert load_model(external).initializers["c"].constant is not None


@pytest.mark.parametrize("location", ["../secret.bin", "data/../../secret.bin", "{folder}/../secret.bin"])
def test_external_data_outside_the_models_folder_is_refused(external: Path, location: str) -> None:
    (external.parent.parent / "secret.bin").write_bytes(bytes(1000))
    (external.parent / "data").mkdir()
    _write_external(external, location=location.format(folder=external.parent))
    with pytest.raises(ModelError, match=r"outside the model's folder.*refused"):
        load_model(external)


def test_an_absolute_location_is_refused_even_inside(external: Path) -> None:
    _write_external(external, location=str(external.parent / "weights.bin"), offset="64")
    with pytest.raises(ModelError, match="refused"):
        load_model(external)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_link_that_leads_outside_is_refused(external: Path) -> None:
    (external.parent.parent / "secret.bin").write_bytes(bytes(1000))
    (external.parent / "link.bin").symlink_to(external.parent.parent / "secret.bin")
    _write_external(external, location="link.bin")
    with pytest.raises(ModelError, match="refused"):
        load_model(external)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "gone.bin"}, r"initializer 'c' keeps its values in '.*gone\.bin', which is missing"),
        ({"location": "weights.bin", "offset": "100"}, "needs bytes 100 to 500 of .* which has 464"),
        ({"location": "weights.bin", "offset": "-4"}, "needs bytes -4"),
        ({"location": "weights.bin", "length": "10"}, "takes 400 bytes but declares 10"),
        ({"location": "weights.bin", "offset": "six"}, "not a number"),
        ({"offset": "6"}, "no location"),
        ({"location": "."}, "missing or no file"),
        ({"location": "a\0b"}, "NUL"),
    ],
)
def test_external_data_that_is_not_there(external: Path, entries: dict[str, str], message: str) -> None:
    _write_external(external, **entries)
    with pytest.raises(ModelError, match=message):
        load_model(external)


def test_external_data_needs_a_folder(external: Path) -> None:
    with pytest.raises(ModelError, match="load the model from its path"):
        load_model(external.read_bytes())
