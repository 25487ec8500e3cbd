"""Convolutions joined with the pooling or the depthwise convolution that reads their result, band by band."""

from __future__ import annotations

from typing import Any

import mace_cpu.conv.bands.pass_join as bands
import numpy as np
import onnx
import pytest
from harness import FEATURES, Array, Ran, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper


@pytest.fixture(autouse=True)
def _join_whatever_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "SMALLEST_RESULT_BYTES", 0)
    monkeypatch.setattr(bands, "MOST_PRODUCTS", 1 << 30)
    monkeypatch.setattr(bands, "BAND_BYTES", 6 << 10)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op} {outputs}", **attributes)


def check_pair(
    image: tuple[int, ...],
    out: int,
    first: dict[str, Any],
    op: str,
    second: dict[str, Any],
    *,
    features: str | None = None,
    threads: int = 1,
    arrays: dict[str, Array] | None = None,
) -> Ran:
    """Conv, Relu and what follows, of an image in blocks of channels."""
    kernel = first.pop("kernel")
    given = {"x": numbers(*image), "w": numbers(out, image[1], *kernel, seed=1), "b": numbers(out, seed=2)}
    nodes = [node("Conv", "x w b", "c", **first), node("Relu", "c", "r")]
    if op == "Conv":
        given["d"] = numbers(out, 1, *second.pop("kernel_shape"), seed=3)
        nodes += [node("Conv", "r d", "y", group=out, **second)]
    else:
        nodes += [node(op, "r", "y", **second)]
    given.update(arrays or {})
    return check_nodes(
        nodes,
        given,
        ["y"],
        constants=[name for name in given if name != "x"],
        blocked=["x"] if image[1] > 4 else [],
        features=features,
        threads=threads,
        tol=1e-4,
        oracle="onnxruntime",
    )


SECOND: list[tuple[str, dict[str, Any]]] = [
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 1]}),
    ("Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("Conv", {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    ("Conv", {"kernel_shape": [3, 3], "dilations": [3, 2]}),
]


@pytest.mark.parametrize(("op", "second"), SECOND)
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("pointwise", [True, False])
def test_every_follower_on_every_instruction_set(
    op: str, second: dict[str, Any], features: str | None, pointwise: bool
) -> None:
    first = {"kernel": (1, 1)} if pointwise else {"kernel": (5, 5), "pads": [2, 2, 2, 2]}
    for out in (48, 17):
        ran = check_pair((1, 16, 23, 18), out, dict(first), op, dict(second), features=features, threads=2)
        assert any(step.startswith(f"Conv+Relu+{op}") for step in ran.steps), ran.steps


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_stems_of_few_channels_and_batches(channels: int, threads: int) -> None:
    first = {"kernel": (7, 7), "pads": [3, 3, 3, 3], "strides": [2, 2]}
    second = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    ran = check_pair((2, channels, 45, 50), 64, first, "MaxPool", second, threads=threads)
    assert ran.steps[0] == "Conv+Relu+MaxPool"


@settings(max_examples=60)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    def two(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=2, max_size=2))

    kernel, stride = data.draw(st.sampled_from([(1, 1), (3, 3), (5, 1)])), two(1, 2)
    pads = [data.draw(st.integers(0, k // 2)) for k in kernel] * 2
    op = data.draw(st.sampled_from(["MaxPool", "AveragePool", "Conv"]))
    window = two(1, 4)
    around = [data.draw(st.integers(0, (k - 1) // 2)) for k in window]
    second: dict[str, Any] = {"kernel_shape": window, "strides": two(1, 3), "pads": around * 2}
    channels = data.draw(st.sampled_from([1, 3, 16, 17, 40]))
    shape = (data.draw(st.integers(1, 2)), channels, data.draw(st.integers(12, 40)), data.draw(st.integers(12, 30)))
    check_pair(
        shape,
        data.draw(st.sampled_from([1, 3, 16, 17, 48, 80])),
        {"kernel": kernel, "pads": pads, "strides": stride},
        op,
        second,
        threads=data.draw(st.sampled_from([1, 2, 3])),
        features=data.draw(st.sampled_from(FEATURES)),
    )


def test_a_result_that_others_need_is_kept() -> None:
    arrays = {"x": numbers(1, 16, 20, 20), "w": numbers(32, 16, 3, 3, seed=1)}
    nodes = [
        node("Conv", "x w", "c"),
        node("MaxPool", "c", "y", kernel_shape=[2, 2]),
        node("Abs", "c", "z"),
    ]
    check_nodes(nodes, arrays, ["y", "z"], constants=["w"], blocked=["x"], tol=1e-4)
    ran = check_nodes(nodes[:2], arrays, ["y", "c"], constants=["w"], blocked=["x"], tol=1e-4)
    assert "Conv+MaxPool" not in ran.steps


def test_infinity_and_what_is_not_a_number_pass_through() -> None:
    x, w = numbers(1, 16, 31, 31), numbers(32, 16, 1, 1, seed=1)
    x[0, 3, 11, 12], x[0, 5, 20, 21] = np.nan, np.inf
    check_pair((1, 16, 31, 31), 32, {"kernel": (1, 1)}, *SECOND[4], arrays={"x": x})
    windows = np.lib.stride_tricks.sliding_window_view(np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]), (3, 3), (2, 3))
    wanted = windows[:, :, ::2, ::2].max((4, 5))  # onnxruntime would lose the NaN
    nodes = [node("Conv", "x w", "c"), node("MaxPool", "c", "y", kernel_shape=[3, 3], strides=[2, 2])]
    arrays = {"x": x, "w": w}
    ran = check_nodes(nodes, arrays, ["y"], constants=["w"], blocked=["x"], expected=[wanted], tol=1e-4)
    assert ran.steps[0] == "Conv+MaxPool" and np.isnan(wanted).any() and np.isinf(wanted).any()


def test_a_result_that_is_added_to_what_was_made_of_it_is_kept() -> None:
    """The reader adds the convolution's result to its own: that has to be in memory as a whole."""
    given = {"x": numbers(1, 16, 32, 32), "w": numbers(16, 16, 1, 1, seed=1), "d": numbers(16, 1, 3, 3, seed=3)}
    given["t"] = numbers(16, 1, 2, 2, seed=4)
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("Conv", "r d", "e", group=16, pads=[1, 1, 1, 1]),
        node("Relu", "e", "f"),
        node("Add", "r f", "s"),
        node("ConvTranspose", "s t", "y", strides=[2, 2]),
    ]
    check_nodes(nodes, given, ["y"], constants=["w", "d", "t"], blocked=["x"])
