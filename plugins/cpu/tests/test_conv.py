"""Conv: every attribute, layouts, odd sizes, fusion, instruction sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, Ran, check_node, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

Array = np.ndarray[Any, Any]


def arrays(seed: int, *shapes: tuple[int, ...], dtype: str = "float32") -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def check(
    shape: tuple[int, ...],
    out: int,
    kernel: tuple[int, ...],
    *,
    group: int = 1,
    constant: bool = True,
    blocked: bool = False,
    dtype: str = "float32",
    features: str | None = None,
    threads: int = 1,
    **attributes: Any,
) -> Ran:
    x, w, b = arrays(out, shape, (out, shape[1] // group, *kernel), (out,), dtype=dtype)
    return check_node(
        "Conv",
        [x, w, b],
        {"group": group, **attributes},
        constants=("x1", "x2") if constant else (),
        blocked=("x0",) if blocked else (),
        features=features,
        threads=threads,
        tol=2e-5 if dtype == "float32" else 1e-12,
        oracle="onnxruntime" if dtype == "float32" else "reference",
    )


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(
    ("shape", "out", "kernel", "attributes"),
    [
        ((1, 16, 14, 14), 32, (1, 1), {}),
        ((2, 40, 7, 9), 24, (1, 1), {}),
        ((1, 17, 13, 31), 33, (3, 3), {"pads": [1, 1, 1, 1]}),
        ((2, 32, 9, 13), 48, (3, 3), {"pads": [1, 2, 0, 1], "strides": [2, 2]}),
        ((1, 16, 20, 20), 16, (1, 1), {"strides": [2, 2]}),
        ((1, 32, 12, 12), 20, (3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
        ((1, 20, 33, 21), 16, (5, 1), {"pads": [2, 0, 2, 0]}),
        ((1, 16, 3, 4), 16, (7, 7), {"pads": [3, 3, 3, 3]}),
        ((1, 16, 6, 6), 16, (3, 3), {"pads": [4, 5, 4, 5]}),
        ((1, 16, 17, 19), 16, (3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((1, 16, 17, 18), 16, (2, 2), {"auto_pad": "SAME_LOWER"}),
        ((1, 16, 9, 9), 16, (3, 3), {"auto_pad": "VALID", "strides": [3, 4]}),
    ],
)
def test_two_axes(
    shape: tuple[int, ...], out: int, kernel: tuple[int, ...], attributes: dict[str, Any], features: str | None
) -> None:
    check(shape, out, kernel, features=features, blocked=True, **attributes)


def test_a_single_pixel_with_many_weights_is_no_row_of_pixels() -> None:
    """Lanes that are pixels would be empty but for one, and there would be one unit of work."""
    ran = check((1, 48, 3, 3), 1404, (3, 3), threads=2)
    assert not any("planar" in kernel for kernel in ran.kernels), ran.kernels


@pytest.mark.parametrize("features", FEATURES)
def test_few_channels_are_read_as_they_lie(features: str | None) -> None:
    ran = check((1, 3, 33, 37), 24, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1], features=features)
    assert "ToBlocked" not in ran.steps
    check((2, 1, 20, 30), 8, (7, 7), pads=[3, 3, 3, 3], features=features)
    check((1, 4, 18, 30), 8, (3, 3), dilations=[2, 2], features=features)


@pytest.mark.parametrize("channels", [1, 3, 17, 40])
def test_spare_lanes_of_the_input_never_leak(channels: int) -> None:
    check((1, channels, 9, 11), 5, (3, 3), pads=[1, 1, 1, 1], blocked=True)
    check((1, channels, 9, 11), 5, (1, 1), blocked=True)


def test_one_axis() -> None:
    check((2, 20, 33), 7, (5,), pads=[2, 2])
    check((1, 16, 50), 32, (4,), strides=[3], dilations=[2])
    check((1, 1, 300), 8, (25,), strides=[4], pads=[12, 12])


@pytest.mark.parametrize("group", [1, 2, 32])
@pytest.mark.parametrize("stride", [96, 128, 513, 2048])
def test_long_hops_have_generated_kernels(stride: int, group: int) -> None:
    """As those of a Fourier transform; what follows is joined, which the kernel for any stride does not do."""
    channels = 1 if group == 1 else 32
    x, w = arrays(1, (1, channels, 3 * stride + 40), (64, channels // group, 40))
    conv = helper.make_node("Conv", ["x", "w"], ["c"], group=group, strides=[stride])
    nodes = [conv, helper.make_node("Relu", ["c"], ["y"])]
    ran = check_nodes(nodes, {"x": x, "w": w}, ["y"], 20, constants=("w",), tol=5e-5)
    assert "Conv+Relu" in ran.steps


def test_three_axes() -> None:
    check((1, 3, 5, 6, 7), 4, (3, 2, 3), pads=[1, 0, 1, 1, 1, 1], strides=[2, 1, 2], dilations=[1, 2, 1])


@pytest.mark.parametrize("group", [2, 4])
def test_groups_of_whole_blocks(group: int) -> None:
    check((2, 32 * group, 7, 6), 16 * group, (3, 3), group=group, pads=[1, 1, 1, 1], blocked=True)


@pytest.mark.parametrize("features", FEATURES)
def test_groups_that_split_blocks(features: str | None) -> None:
    check((1, 12, 8, 9), 6, (3, 3), group=3, pads=[1, 1, 1, 1], strides=[1, 2], threads=2, features=features)
    check((2, 64, 8, 9), 64, (3, 3), group=16, pads=[1, 1, 1, 1], features=features, blocked=True)
    check((1, 24, 8, 9), 48, (1, 1), group=4, features=features)


def test_many_groups_of_odd_size() -> None:
    check((1, 57, 8, 9), 38, (3, 3), group=19, pads=[1, 1, 1, 1], threads=2)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("channels", [3, 16, 33])
def test_depthwise(channels: int, multiplier: int, features: str | None) -> None:
    def each(size: tuple[int, ...], kernel: tuple[int, ...], **attributes: Any) -> None:
        shape, out = (2, channels, *size), channels * multiplier
        check(shape, out, kernel, group=channels, features=features, blocked=True, threads=2, **attributes)

    each((14, 15), (3, 3), pads=[1, 1, 1, 1])
    each((7, 9), (5, 5), pads=[2, 2, 2, 2], strides=[2, 2])
    each((9, 31), (3, 3), dilations=[2, 2], pads=[0, 3, 1, 2])
    each((20, 1), (3, 1), pads=[1, 0, 1, 0])
    each((40,), (4,), strides=[3])


@pytest.mark.parametrize("constant", [False, True])
def test_float64(constant: bool) -> None:
    check((1, 3, 7, 8), 4, (3, 3), pads=[1, 1, 1, 1], dtype="float64", constant=constant)


def test_weights_computed_in_the_graph() -> None:
    check((1, 16, 7, 8), 16, (3, 3), pads=[1, 1, 1, 1], constant=False, blocked=True)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("known", [(), ("x1",), ("x2",)])
def test_weights_and_bias_that_a_run_computes(known: tuple[str, ...], features: str | None) -> None:
    def each(shape: tuple[int, ...], out: int, kernel: tuple[int, ...], group: int = 1, **attributes: Any) -> None:
        inputs = arrays(out, shape, (out, shape[1] // group, *kernel), (out,))
        how: dict[str, Any] = {"features": features, "threads": 2, "tol": 2e-5, "oracle": "onnxruntime"}
        ran = check_node("Conv", inputs, {"group": group, **attributes}, constants=known, **how)
        assert any("conv_b" in kernel for kernel in ran.kernels), ran.kernels

    each((2, 17, 7, 8), 35, (3, 3), pads=[1, 1, 1, 1])
    each((1, 64, 5, 6), 96, (1, 1), group=2)
    each((1, 3, 9, 9), 40, (5, 3), strides=[2, 2])
    each((1, 20, 30), 7, (4,), dilations=[2])


def test_all_operands_constant() -> None:
    x, w = arrays(3, (1, 16, 5, 5), (4, 16, 3, 3))
    add = helper.make_node("Add", ["c", "z"], ["y"])
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), add]
    check_nodes(nodes, {"x": x, "w": w, "z": np.ones((1,), np.float32)}, ["c"], constants=("x", "w"), tol=2e-5)


def test_empty_batch() -> None:
    x, w = arrays(3, (0, 16, 5, 5), (4, 16, 3, 3))
    check_node("Conv", [x, w], constants=("x1",), expected=[np.zeros((0, 4, 3, 3), np.float32)])


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("group", [1, 24])
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish", "Tanh"])
def test_activation_is_part_of_the_convolution(activation: str, group: int, features: str | None) -> None:
    x, w, b = arrays(1, (1, 24, 9, 17), (24, 24 // group, 3, 3), (24,))
    conv = helper.make_node("Conv", ["x", "w", "b"], ["c"], group=group, pads=[1, 1, 1, 1])
    nodes = [conv, helper.make_node(activation, ["c"], ["y"])]
    ran = check_nodes(nodes, {"x": x, "w": w, "b": b}, ["y"], 20, constants=("w", "b"), tol=5e-5, features=features)
    assert not [step for step in ran.steps if step == activation]


@pytest.mark.parametrize("group", [1, 24])
def test_batch_normalization_is_folded(group: int) -> None:
    x, w, scale, bias, mean = arrays(1, (1, 24, 9, 7), (24, 24 // group, 3, 3), (24,), (24,), (24,))
    given = {"x": x, "w": w, "s": scale, "b": bias, "m": mean, "v": np.abs(scale) + 0.5}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], group=group),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    ran = check_nodes(nodes, given, ["y"], constants=("w", "s", "b", "m", "v"), tol=5e-5)
    assert not any(step in ("BatchNormalization", "Relu") for step in ran.steps)


@pytest.mark.parametrize("features", FEATURES)
def test_residual_is_added_before_the_activation(features: str | None) -> None:
    x, w, b = arrays(1, (2, 40, 9, 7), (40, 40, 3, 3), (40,))
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "x"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    ran = check_nodes(nodes, {"x": x, "w": w, "b": b}, ["y"], constants=("w", "b"), tol=5e-5, features=features)
    assert not any(step in ("Add", "Relu") for step in ran.steps)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.integers(1, 2))
    groups = draw(st.sampled_from((1, 1, 1, 2, "depthwise")))
    channels = draw(st.sampled_from((1, 3, 8, 16, 17, 32)))
    out = draw(st.sampled_from((1, 3, 16, 17, 48, 80)))
    if groups == "depthwise":
        groups, out = channels, channels * draw(st.integers(1, 2))
    elif groups == 2:
        channels, out = 2 * channels, 2 * out
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    pads = [draw(st.integers(0, 3)) for _ in range(2 * rank)]
    least = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = tuple(max(draw(st.integers(1, 33)), n - pads[i] - pads[i + rank], 1) for i, n in enumerate(least))
    return {
        "shape": (draw(st.integers(1, 2)), channels, *size),
        "out": out,
        "kernel": kernel,
        "group": groups,
        "pads": pads,
        "dilations": dilations,
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "blocked": draw(st.booleans()),
        "threads": draw(st.integers(1, 2)),
        "features": draw(st.sampled_from(FEATURES)),
    }


@settings(max_examples=60)
@given(convolutions())
def test_any_convolution(case: dict[str, Any]) -> None:
    check(**case)
