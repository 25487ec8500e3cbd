"""Squeeze-and-excite: the mean is taken while the picture is computed, the gate goes into the next convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from harness import FEATURES, Array, Ran, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op} {outputs}", **attributes)


def squeeze_excite(
    image: tuple[int, ...],
    *,
    out: int = 24,
    kernel: int = 3,
    stride: int = 1,
    last_kernel: int = 1,
    mean: str = "GlobalAveragePool",
    swapped: bool = False,
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Depthwise, SiLU, mean, two 1x1, gate, 1x1: what EfficientNet and MobileNetV3 are made of."""
    channels = image[1]
    arrays = {
        "x": numbers(*image),
        "d": numbers(channels, 1, kernel, kernel, seed=1),
        "s": numbers(4, channels, 1, 1, seed=2),
        "e": numbers(channels, 4, 1, 1, seed=3),
        "eb": numbers(channels, seed=4),
        "p": numbers(out, channels, last_kernel, last_kernel, seed=5),
        "axes": np.array([2, 3]),
    }
    half = kernel // 2
    nodes = [
        node("Conv", "x d", "c", group=channels, pads=[half] * 4, strides=[stride] * 2),
        node("Sigmoid", "c", "g"),
        node("Mul", "c g", "a"),
        node("GlobalAveragePool", "a", "m") if mean == "GlobalAveragePool" else node("ReduceMean", "a axes", "m"),
        node("Conv", "m s", "q"),
        node("Relu", "q", "r"),
        node("Conv", "r e eb", "u"),
        node("HardSigmoid", "u", "h"),
        node("Mul", "h a" if swapped else "a h", "b"),
        node("Conv", "b p", "y", pads=[last_kernel // 2] * 4),
    ]
    return nodes, arrays


def check(nodes: list[onnx.NodeProto], arrays: dict[str, Array], outputs: list[str], **options: Any) -> Ran:
    constants = [name for name in arrays if name != "x"]
    return check_nodes(nodes, arrays, outputs, constants=constants, blocked=["x"], tol=1e-4, **options)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("channels", [17, 32, 48])
@pytest.mark.parametrize("mean", ["GlobalAveragePool", "ReduceMean"])
def test_it_reads_the_picture_once(channels: int, mean: str, features: str | None) -> None:
    nodes, arrays = squeeze_excite((1, channels, 23, 31), mean=mean, swapped=channels == 32)
    ran = check(nodes, arrays, ["y"], features=features, threads=2)
    picture = ran.steps.index("Conv+Sigmoid+Mul")
    assert ran.steps[picture + 1] == mean and "ScaleWeights" in ran.steps and "Mul" not in ran.steps


@settings(max_examples=40)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    size = st.integers(1, 40)
    nodes, arrays = squeeze_excite(
        (
            data.draw(st.sampled_from([1, 1, 2])),
            data.draw(st.sampled_from([2, 3, 16, 17, 40])),
            *data.draw(st.tuples(size, size)),
        ),
        out=data.draw(st.sampled_from([1, 3, 17, 40])),
        kernel=data.draw(st.sampled_from([1, 3, 5])),
        stride=data.draw(st.integers(1, 2)),
        last_kernel=data.draw(st.sampled_from([1, 3])),
        swapped=data.draw(st.booleans()),
    )
    outputs = data.draw(st.lists(st.sampled_from(["y", "b", "a", "m", "h"]), min_size=1, unique=True))
    features, threads = data.draw(st.sampled_from(FEATURES)), data.draw(st.integers(1, 3))
    check(nodes, arrays, outputs, features=features, threads=threads)


@pytest.mark.parametrize("where", [0, 15, 16])
def test_infinity_and_what_is_not_a_number_stay_in_their_channel(where: int) -> None:
    nodes, arrays = squeeze_excite((1, 17, 20, 20))
    arrays["x"][0, where, 3, 4], arrays["x"][0, where, 11, 12] = np.inf, np.nan
    check(nodes[:4], arrays, ["a", "m"])


def test_long_rows_are_summed_up_accurately() -> None:
    x = np.full((1, 16, 1, 300_000), 1.1, np.float32)
    arrays = {"x": x, "d": np.ones((16, 1, 1, 1), np.float32)}
    nodes = [node("Conv", "x d", "c", group=16), node("GlobalAveragePool", "c", "m"), node("Abs", "c", "y")]
    ran = check(nodes, arrays, ["m", "y"], expected=[np.full((1, 16, 1, 1), 1.1, np.float32), x])
    np.testing.assert_allclose(ran.outputs["m"], 1.1, rtol=1e-6)
