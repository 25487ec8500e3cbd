"""Thousands of random shapes in one session.

Memory stays flat, no descriptor is kept, nothing is written per shape, and each result is that of a session that never
saw another shape.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper

import mace_core as mace
from benchmarks.shapes.decoder import decoder, decoder_feeds
from mace_core.testing.network import NetworkBuilder

SHAPES = 10_000
SETTLED = 0.8
"""Share of the shapes after which every structure, and the largest arena, are taken to be there."""

PATIENCE_SECONDS = 5.0
"""How long what other tests left running in this process may have a file open for a moment."""

GROWTH_BYTES = 16 << 20
FRESH = 20
"""Sessions opened for one shape each; the rest is compared with onnxruntime alone."""

Feeds = dict[str, npt.NDArray[Any]]


class Family(NamedTuple):
    """A model, random feeds for it, and how far from another engine its results may be."""

    model: Path
    draw: Callable[[np.random.Generator], Feeds]
    close: dict[str, float]


def _ints(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


def picture_model(path: Path) -> None:
    """Convolutions, a pool, a sum with a small copy of itself resized by shape arithmetic: pictures (n, 3, h, w)."""
    net = NetworkBuilder("pictures", ("n", 3, "h", "w"), seed=5)
    x = net.op("Relu", net.conv("x", 3, 8, 3))
    halved = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    halved = net.op("Relu", net.conv(halved, 8, 8, 3))
    sizes = net.op("Slice", net.op("Shape", x), net.constant(_ints(2)), net.constant(_ints(4)))
    kept = net.op("Slice", net.op("Shape", halved), net.constant(_ints(0)), net.constant(_ints(2)))
    grown = net.op("Resize", halved, "", "", net.op("Concat", kept, sizes, axis=0), mode="nearest")
    mixed = net.op("Add", x, grown)
    pooled = net.op("GlobalAveragePool", mixed)
    result = net.op("Add", net.op("Softmax", mixed, axis=3), pooled)
    onnx.save(net.build(result, ("n", 8, "h", "w")), path)


def lines_model(path: Path) -> None:
    """Products over rows whose number is a batch times a length that is taken apart again: (b, t, 24), (t, 24)."""
    random = np.random.default_rng(3)
    weights = {
        "w": random.standard_normal((24, 32)).astype(np.float32),
        "rows": _ints(-1, 24),
        "last": _ints(32),
        "axes": _ints(1),
    }
    nodes = [
        helper.make_node("Add", ["x", "place"], ["placed"]),
        helper.make_node("Reshape", ["placed", "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["wide"]),
        helper.make_node("Gelu", ["wide"], ["active"]),
        helper.make_node("Shape", ["x"], ["shape"], end=2),
        helper.make_node("Concat", ["shape", "last"], ["back"], axis=0),
        helper.make_node("Reshape", ["active", "back"], ["lines"]),
        helper.make_node("Transpose", ["lines"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["lines", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "lines"], ["mixed"]),
        helper.make_node("ReduceMean", ["mixed", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "lines",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", 24]),
            helper.make_tensor_value_info("place", TensorProto.FLOAT, ["t", 24]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 32])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def draw_picture(random: np.random.Generator) -> Feeds:
    batch, height, width = random.integers(1, 4), random.integers(2, 40), random.integers(2, 40)
    return {"x": random.standard_normal((batch, 3, height, width), np.float32)}


def draw_lines(random: np.random.Generator) -> Feeds:
    batch, length = random.integers(1, 6), random.integers(1, 60)
    return {
        "x": random.standard_normal((batch, length, 24), np.float32),
        "place": random.standard_normal((length, 24), np.float32),
    }


def draw_cache(random: np.random.Generator) -> Feeds:
    return decoder_feeds(int(random.integers(0, 120)), 2, int(random.integers(1, 4)))


@pytest.fixture
def family(name: str, tmp_path: Path) -> Family:
    path = tmp_path / f"{name}.onnx"
    match name:
        case "pictures":
            picture_model(path)
            return Family(path, draw_picture, {"rtol": 1e-4, "atol": 2e-5})
        case "lines":
            lines_model(path)
            return Family(path, draw_lines, {"rtol": 1e-3, "atol": 1e-3})
        case _:
            decoder(path, 2)
            return Family(path, draw_cache, {"rtol": 1e-3, "atol": 1e-4})


def opened(model: Path) -> mace.Session:
    return mace.Session(model, devices=["cpu"], options={"cpu": {"threads": 2}}, strict=True)


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def files_of(folder: str) -> int:
    return sum(path.is_file() for path in Path(folder).rglob("*"))


@pytest.fixture
def judge(family: Family) -> Iterator[onnxruntime.InferenceSession]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # what it keeps is not what is measured
    yield onnxruntime.InferenceSession(str(family.model), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("lines", SHAPES // 40),
        ("pictures", SHAPES // 40),
        ("decoder", SHAPES // 40),
        pytest.param("lines", SHAPES, marks=pytest.mark.full),
        pytest.param("pictures", SHAPES, marks=pytest.mark.full),
        pytest.param("decoder", SHAPES, marks=pytest.mark.full),
    ],
)
def test_random_shapes(
    family: Family, shapes: int, judge: onnxruntime.InferenceSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(11)
    names = [output.name for output in judge.get_outputs()]
    fresh_at = set(random.choice(shapes, FRESH, replace=False).tolist())
    signatures = set()
    with opened(family.model) as session:  # kernels, which other tests may have compiled, are loaded for good
        for _ in range(4):
            session.run(family.draw(np.random.default_rng(5)))
            session.run(family.draw(random))
    cache = str(tmp_path / "cache")  # other tests write to that of the whole run
    monkeypatch.setenv("MACE_CACHE_DIR", cache)
    process = psutil.Process()
    with opened(family.model) as session:
        for number in range(shapes):
            feeds = family.draw(random)
            signatures.add(tuple(array.shape for array in feeds.values()))
            found = session.run(feeds)
            for name, array in zip(names, judge.run(None, feeds), strict=True):
                np.testing.assert_allclose(found[name], array, **family.close, err_msg=f"{name} of run {number}")
            if number in fresh_at:
                monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache of sessions with one shape"))
                _check_fresh(family, feeds, found)
                monkeypatch.setenv("MACE_CACHE_DIR", cache)
            if number == int(shapes * SETTLED):
                settled, descriptors, files = resident_bytes(), process.num_fds(), files_of(cache)
                compiled = len(session.explain().preparations)
        assert len(signatures) > shapes / 40
        assert resident_bytes() - settled < GROWTH_BYTES
        until = time.monotonic() + PATIENCE_SECONDS
        while process.num_fds() > descriptors and time.monotonic() < until:
            time.sleep(0.05)
        assert process.num_fds() <= descriptors, process.open_files()
        # A structure that only a rare shape needs is the one thing that may still be made.
        assert len(session.explain().preparations) - compiled <= 2
        assert files_of(cache) - files <= 4


def _check_fresh(family: Family, feeds: Feeds, found: Feeds) -> None:
    with opened(family.model) as session:
        for name, array in session.run(feeds).items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=2e-6, err_msg=name)
