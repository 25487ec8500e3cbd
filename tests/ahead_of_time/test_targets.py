"""A library computes what a session computes, on every target."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import TOOLCHAINS, assert_close, link, run, skip_without

import mace_core as mace
from mace_core.ahead_of_time import build_library
from mace_core.errors import UsageError

Array = npt.NDArray[Any]

CROSS = [name for name in TOOLCHAINS if name not in ("host", "arm64-v8a")]


def classifier() -> onnx.ModelProto:
    """What classifiers are made of: convolutions, a depthwise one, pooling, a product, Softmax."""
    rng = np.random.default_rng(1)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) * 0.3, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["c1"], ["h1"]),
        helper.make_node("Conv", ["h1", "w2"], ["c2"], group=16, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["c3"]),
        helper.make_node("Add", ["c3", "h1"], ["a3"]),
        helper.make_node("GlobalAveragePool", ["a3"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["g"]),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    weights = [
        weight("w1", 16, 3, 3, 3), weight("b1", 16), weight("w2", 16, 1, 3, 3), weight("w3", 16, 16, 1, 1),
        weight("w4", 16, 10), weight("b4", 10),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 24, 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.full
def test_a_library_multiplies_in_float16_where_asked_to(tmp_path: Path) -> None:
    """The tolerance is beyond what float32 needs and within what float16 may; that they differ shows which it was."""
    skip_without("arm64-v8.2a")
    library = build_library(classifier(), tmp_path / "out", target="arm64-v8.2a", name="small", precision="float16")
    with mace.Session(classifier(), devices=["cpu"]) as session:
        expected = np.asarray(session.run({"x": picture()})["y"])
    ran = run(link(library, "small"), "arm64-v8.2a", {"x": picture()})
    assert ran.status == 0, ran.text
    found = ran.arrays({"y": expected})["y"]
    assert 1e-6 < np.abs(found - expected).max() < 5e-3


def test_a_precision_that_the_target_has_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the target 'armeabi-v7a' has neither"):
        build_library(classifier(), tmp_path / "out", target="armeabi-v7a", name="small", precision="float16")
    assert not (tmp_path / "out").exists()


def picture() -> Array:
    return np.random.default_rng(2).standard_normal((1, 3, 24, 20)).astype(np.float32)


@pytest.mark.parametrize(
    "target", ["host", "arm64-v8a", *(pytest.param(name, marks=pytest.mark.full) for name in CROSS)]
)
def test_a_library_computes_what_a_session_computes(target: str, tmp_path: Path) -> None:
    skip_without(target)
    library = build_library(classifier(), tmp_path / "out", target=target, name="small")
    program = link(library, "small")
    with mace.Session(classifier(), devices=["cpu"]) as session:
        expected = {name: np.asarray(value) for name, value in session.run({"x": picture()}).items()}
    for threads in (1, 3):
        ran = run(program, target, {"x": picture()}, threads=threads, repeats=2)
        assert ran.status == 0, ran.text
        assert_close(ran.arrays(expected), expected)
    assert "output y 1 10" in ran.text
