"""MaxPool, AveragePool, LpPool and the global poolings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, Array, check_node
from hypothesis import assume, given, settings
from hypothesis import strategies as st


def picture(*shape: int, dtype: str = "float32") -> Array:
    rng = np.random.default_rng(0)
    found = rng.permutation(int(np.prod(shape))).reshape(shape)
    return (found - found.size // 2).astype(dtype) if np.dtype(dtype).kind == "f" else found.astype(dtype)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("features", FEATURES)
def test_pooling_over_one_two_and_three_axes(op: str, features: str | None) -> None:
    for shape in [(2, 3, 19), (2, 3, 9, 8), (1, 2, 5, 6, 7)]:
        rank = len(shape) - 2
        attributes = {"kernel_shape": [3, 2, 2][:rank], "strides": [2, 1, 2][:rank], "pads": [1, 0, 1][:rank] * 2}
        check_node(op, [picture(*shape)], attributes, features=features, threads=2, oracle="onnxruntime", opset=18)


CASES: list[dict[str, Any]] = [
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 1, 2, 0], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "dilations": [2, 3], "pads": [2, 1, 1, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [4, 2], "strides": [3, 1], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [3, 16, 20])
def test_max_pool_in_both_layouts(case: dict[str, Any], channels: int) -> None:
    x = {"x": picture(2, channels, 13, 11)}
    check_node("MaxPool", x, case, oracle="onnxruntime")
    check_node("MaxPool", x, case, oracle="onnxruntime", blocked=["x"], threads=2)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("channels", [3, 20])
def test_average_pool_in_both_layouts(case: dict[str, Any], include: int, channels: int) -> None:
    x = {"x": picture(2, channels, 13, 11)}
    attributes = {**case, "count_include_pad": include}
    for blocked in ([], ["x"]):
        check_node("AveragePool", x, attributes, oracle="onnxruntime", blocked=blocked, opset=19)


def test_many_channels_are_brought_into_blocks_first() -> None:
    ran = check_node("MaxPool", [picture(1, 24, 13, 11)], {"kernel_shape": [2, 2]}, oracle="onnxruntime")
    assert ran.steps == ("ToBlocked", "MaxPool", "ToPlain")


@pytest.mark.parametrize("features", FEATURES)
def test_blocked_pooling_on_every_instruction_set(features: str | None) -> None:
    for op in ("MaxPool", "AveragePool"):
        case = {"kernel_shape": [3, 3], "strides": [1, 2], "pads": [1, 1, 1, 1]}
        check_node(op, {"x": picture(1, 36, 7, 9)}, case, blocked=["x"], features=features, oracle="onnxruntime")


@settings(max_examples=40)
@given(st.data())
def test_max_pool_of_any_geometry(data: st.DataObject) -> None:
    def two(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=2, max_size=2))

    kernel, strides, dilations, pads = two(1, 4), two(1, 3), two(1, 3), two(0, 2) + two(0, 2)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    assume(all(p < k for p, k in zip(pads, kernel * 2, strict=True)))
    shape = [s + extra for s, extra in zip(spans, two(0, 5), strict=True)]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "ceil_mode": data.draw(st.integers(0, 1)),
    }
    x = {"x": picture(1, 5, *shape)}
    check_node("MaxPool", x, attributes, oracle="onnxruntime")
    check_node("MaxPool", x, attributes, oracle="onnxruntime", blocked=["x"])


@pytest.mark.parametrize("dtype", ["float64", "int8", "uint8"])
def test_max_pool_of_other_types(dtype: str) -> None:
    x = picture(1, 2, 7, 9, dtype=dtype)
    check_node("MaxPool", [x], {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0]}, oracle="onnxruntime")


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 11), (2, 3, 7, 9), (1, 2, 5, 4, 6)])
def test_max_pool_tells_where(order: int, shape: tuple[int, ...]) -> None:
    rank = len(shape) - 2
    attributes = {
        "kernel_shape": [3] * rank,
        "strides": [2] * rank,
        "pads": [1] * 2 * rank,
        "storage_order": order,
    }
    check_node("MaxPool", [picture(*shape)], attributes, outputs=2, oracle="onnxruntime")


def test_a_nan_in_a_window_wins() -> None:
    x = np.zeros((1, 16, 1, 4), np.float32)
    x[0, 3, 0, 1] = np.nan
    wanted = np.zeros((1, 16, 1, 2), np.float32)
    wanted[0, 3, 0, 0] = np.nan
    attributes = {"kernel_shape": [1, 2], "strides": [1, 2]}
    for blocked in ([], ["x"]):
        check_node("MaxPool", {"x": x}, attributes, blocked=blocked, expected=[wanted])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(p: int) -> None:
    x = picture(1, 2, 7, 9) / 10
    attributes = {"kernel_shape": [3, 2], "p": p, "strides": [2, 1]}
    check_node("LpPool", [x], attributes, opset=11, oracle="onnxruntime")
    check_node("GlobalLpPool", [x], {"p": p}, oracle="onnxruntime")


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("features", FEATURES)
def test_global_pooling(op: str, features: str | None) -> None:
    for shape in [(2, 3, 7), (2, 20, 5, 6), (1, 16, 1, 1), (1, 2, 3, 4, 5)]:
        x = {"x": picture(*shape) / 7}
        # onnx.reference leaves out an axis of three
        check_node(op, x, features=features, threads=2, oracle="onnxruntime")
        check_node(op, x, features=features, blocked=["x"], oracle="onnxruntime")
    check_node(op, [picture(1, 2, 3, 4, dtype="float64")], features=features)


def test_pooling_of_nothing() -> None:
    check_node(
        "MaxPool",
        [np.zeros((0, 3, 4, 4), np.float32)],
        {"kernel_shape": [2, 2]},
        expected=[np.zeros((0, 3, 3, 3), np.float32)],
    )
