"""Layers whose input is rounded to 8 bits by its range in a run: one step of integers each, as in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from harness import Array, ask_onnxruntime, check_nodes, here, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.native.target import host_target

CONTRIB = "com.microsoft"
MASKS = here(None, "avx512", "avx2", "sse4", "dotprod", "baseline")
RNG = np.random.default_rng(0)


def whole(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def skip_if_missing(features: str | None) -> None:
    try:
        host_target(features)
    except UsageError as missing:
        pytest.skip(str(missing))


def dynamic(op: str, bias: bool = True, **attributes: Any) -> list[onnx.NodeProto]:
    """DynamicQuantizeLinear, the layer, and the scaling of its sums, as onnxruntime's quantize_dynamic writes them."""
    node = helper.make_node
    made = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="range"),
        node(op, ["q", "w", "z", "wz"], ["sums"], name="layer", **attributes),
        node("Cast", ["sums"], ["floats"], name="cast", to=TensorProto.FLOAT),
        node("Mul", ["s", "ws"], ["scale"], name="scale"),
        node("Mul", ["floats", "scale"], ["y" if not bias else "scaled"], name="scaled"),
    ]
    return made + [node("Add", ["scaled", "b"], ["y"], name="bias")] * bias


def check_dynamic(nodes: list[onnx.NodeProto], arrays: dict[str, Array], **how: Any) -> tuple[str, ...]:
    """Compare with onnxruntime, bit by bit; returns the names of the steps."""
    how = {"constants": [name for name in arrays if name != "x"], "oracle": "onnxruntime", "tol": 1e-6, **how}
    return check_nodes(nodes, arrays, ["y"], **how).steps


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 20),
    results=st.integers(1, 40),
    image=st.lists(st.integers(3, 12), min_size=1, max_size=2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pad=st.integers(0, 2),
    dtype=st.sampled_from(["uint8", "int8"]),
    far_zero=st.booleans(),
    by_channel=st.booleans(),
    biased=st.booleans(),
    features=st.sampled_from(MASKS),
    seed=st.integers(0, 1 << 30),
)
def test_convolutions(
    channels: int,
    results: int,
    image: list[int],
    kernel: int,
    stride: int,
    dilation: int,
    pad: int,
    dtype: str,
    far_zero: bool,
    by_channel: bool,
    biased: bool,
    features: str | None,
    seed: int,
) -> None:
    skip_if_missing(features)
    rng, rank = np.random.default_rng(seed), len(image)
    image = [max(size, (kernel - 1) * dilation + 1) for size in image]
    ones = (1,) * rank
    arrays = {
        "x": (rng.standard_normal((2, channels, *image)) + rng.normal(0, 2)).astype(np.float32),
        "w": whole(rng, dtype, results, channels, *[kernel] * rank),
        "wz": np.array((3 if far_zero else 128) if dtype == "uint8" else 0, dtype),
        "ws": (rng.random((results, *ones) if by_channel else (1,)) / 50).astype(np.float32),
        "b": rng.standard_normal((1, results, *ones)).astype(np.float32),
    }
    attributes = {"pads": [pad] * 2 * rank, "strides": [stride] * rank, "dilations": [dilation] * rank}
    nodes = dynamic("ConvInteger", biased, **attributes)
    if not biased:
        del arrays["b"]
    steps = check_dynamic(nodes, arrays, features=features, threads=2)
    assert "ToBlocked" not in steps  # the layout of floats


@pytest.mark.parametrize("features", MASKS)
def test_groups(features: str | None) -> None:
    skip_if_missing(features)
    rng = np.random.default_rng(1)
    for groups, channels in ((8, 8), (2, 12)):
        arrays = {
            "x": rng.standard_normal((1, channels, 9, 8)).astype(np.float32),
            "w": whole(rng, "int8", 24, channels // groups, 3, 3),
            "wz": np.array(0, np.int8),
            "ws": np.array([0.01], np.float32),
            "b": rng.standard_normal((1, 24, 1, 1)).astype(np.float32),
        }
        nodes = dynamic("ConvInteger", pads=[1, 1, 1, 1], group=groups)
        assert "ToBlocked" not in check_dynamic(nodes, arrays, features=features)


def test_sums_that_others_read_too() -> None:
    """What is computed for the scaling alone is fused, nothing else."""
    rng = np.random.default_rng(2)
    arrays = {
        "x": rng.standard_normal((1, 6, 9, 8)).astype(np.float32),
        "w": whole(rng, "int8", 5, 6, 3, 3),
        "wz": np.array(0, np.int8),
        "ws": np.array([0.01], np.float32),
        "b": rng.standard_normal((1, 5, 1, 1)).astype(np.float32),
    }
    nodes = dynamic("ConvInteger")
    for value in ("sums", "floats", "scale", "scaled", "z"):
        constants = [name for name in arrays if name != "x"]
        check_nodes(nodes, arrays, ["y", value], constants=constants, oracle="onnxruntime", tol=1e-6)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("by_channel", [True, False])
def test_scales_that_stand_before_the_layer(by_channel: bool, biased: bool) -> None:
    """Tools that sort a model's nodes anew put the product of two scales as early as it can be."""
    rng = np.random.default_rng(2)
    arrays = {
        "x": rng.standard_normal((1, 6, 9, 8)).astype(np.float32),
        "w": whole(rng, "int8", 5, 6, 3, 3),
        "wz": np.array(0, np.int8),
        "ws": (rng.random((5, 1, 1) if by_channel else (1,)) / 50).astype(np.float32),
        "b": rng.standard_normal((1, 5, 1, 1)).astype(np.float32),
    }
    if not biased:
        del arrays["b"]
    first, layer, cast, scale, *rest = dynamic("ConvInteger", biased)
    steps = check_dynamic([first, scale, layer, cast, *rest], arrays)
    assert any(step.startswith("ConvInteger+Cast+Mul" + "+Add" * biased) for step in steps)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("by_column", [False, True])
def test_products(by_column: bool, features: str | None) -> None:
    skip_if_missing(features)
    rng = np.random.default_rng(3)
    arrays = {
        "x": rng.standard_normal((2, 30, 65)).astype(np.float32),
        "w": whole(rng, "int8", 65, 50),
        "wz": np.array(0, np.int8),
        "ws": (rng.random(50 if by_column else 1) / 50).astype(np.float32),
        "b": rng.standard_normal(50).astype(np.float32),
    }
    steps = check_dynamic(dynamic("MatMulInteger"), arrays, features=features, threads=2)
    assert any(name.startswith("MatMulInteger+Cast+Mul+Mul+Add (int8") for name in steps), steps


QUERIES: dict[str, tuple[dict[str, Array], dict[str, Any]]] = {
    "plain": ({}, {}),
    "unidirectional": ({}, {"unidirectional": 1}),
    "lengths": ({"mask": np.array([12, 7], np.int32)}, {}),
    "mask of keys": ({"mask": (RNG.random((2, 12)) > 0.3).astype(np.int32)}, {}),
    "mask of pairs": ({"mask": (RNG.random((2, 12, 12)) > 0.3).astype(np.int32)}, {}),
    "past": ({"past": RNG.standard_normal((2, 2, 4, 5, 16)).astype(np.float32)}, {"unidirectional": 1}),
}


@pytest.mark.parametrize(("dtype", "by_column"), [("int8", False), ("int8", True), ("uint8", False)])
@pytest.mark.parametrize("form", QUERIES)
def test_attention(form: str, dtype: str, by_column: bool) -> None:
    """QAttention projects its input in one product of integers; the rest is float, as in onnxruntime."""
    rng = np.random.default_rng(4)
    extra, attributes = QUERIES[form]
    count = 192 if by_column else 1
    zero = np.array(130, dtype) if dtype == "uint8" else np.zeros(count if by_column else (), dtype)
    inputs: dict[str, Array | None] = {
        "x": whole(rng, "uint8", 2, 12, 64),
        "w": whole(rng, dtype, 64, 192),
        "b": rng.standard_normal(192).astype(np.float32),
        "xs": np.array(0.02, np.float32),
        "ws": (rng.random(count) / 100 + 0.001).astype(np.float32).reshape((count,) if by_column else ()),
        "m": extra.get("mask"),
        "xz": np.array(121, np.uint8),
        "wz": zero,
        "p": extra.get("past"),
    }
    nodes = attention_nodes(inputs, {"num_heads": 4, **attributes}, outputs=2 if "past" in extra else 1)
    arrays = {name: array for name, array in inputs.items() if array is not None}
    names = ["y0", "y1"][: 2 if "past" in extra else 1]
    found, steps = run_whole(nodes, arrays, names)
    wanted = ask_onnxruntime(whole_model(nodes, arrays, names), {k: arrays[k] for k in arrays if k not in FIXED})
    for name, array in zip(names, wanted, strict=True):
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5 * np.abs(array).max())
    assert sum("(int8" in name for name in steps) == 1, steps


FIXED = ("w", "b", "xs", "ws", "xz", "wz")


def attention_nodes(inputs: dict[str, Array | None], attributes: dict[str, Any], outputs: int) -> list[onnx.NodeProto]:
    names = [name if array is not None else "" for name, array in inputs.items()]
    results = [f"y{i}" for i in range(outputs)]
    return [helper.make_node("QAttention", names, results, domain=CONTRIB, **attributes)]


def whole_model(nodes: list[onnx.NodeProto], arrays: dict[str, Array], outputs: list[str]) -> onnx.ModelProto:
    model = make_model(nodes, arrays, outputs, 21, FIXED)
    for value in model.graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def run_whole(
    nodes: list[onnx.NodeProto], arrays: dict[str, Array], outputs: list[str]
) -> tuple[dict[str, Array], list[str]]:
    """(outputs, names of the steps) of a session, which makes standard operators of the node first."""
    model = whole_model(nodes, arrays, outputs).SerializeToString()
    feeds = {name: array for name, array in arrays.items() if name not in FIXED}
    with Session(model, devices=["cpu"], strict=True, cache=False) as session:
        return session.run(feeds), [span.name for span in session.profile(feeds).spans]
