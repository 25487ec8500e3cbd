"""Bounds that lie outside the data: nothing outside is read, and one window may hang over the end."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace


def run(node: onnx.NodeProto, x: np.ndarray, **initializers: np.ndarray) -> np.ndarray:
    graph = helper.make_graph(
        [node],
        "bounds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    with mace.Session(model, devices=["cpu"], strict=True) as session:
        return session.run({"x": x})["y"]


@pytest.mark.parametrize(
    ("start", "end", "step", "indices"),
    [
        (-9, -(2**63), -2, [0]),  # a start before the first element is moved onto it
        (-9, -(2**63), 2, []),
        (2**63 - 1, -(2**63), -2, [4, 2, 0]),
        (-2, -9, -1, [3, 2, 1, 0]),
        (-9, 2**63 - 1, 3, [0, 3]),
    ],
)
@pytest.mark.parametrize("rank", [1, 3])
def test_slice_stays_inside(start: int, end: int, step: int, indices: list[int], rank: int) -> None:
    x = np.arange(5 * 4 ** (rank - 1), dtype=np.float32).reshape(5, *[4] * (rank - 1))
    bounds = {name: np.array([value], np.int64) for name, value in zip("bea", (start, end, 0), strict=True)}
    found = run(helper.make_node("Slice", ["x", "b", "e", "a", "s"], ["y"]), x, s=np.array([step]), **bounds)
    np.testing.assert_array_equal(found, x[np.array(indices, int)])


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("size", "kernel", "stride", "dilation"), [(6, 4, 3, 2), (3, 4, 2, 1), (1, 3, 3, 1)])
def test_ceil_mode_lets_the_only_window_hang_over_the_end(
    op: str, size: int, kernel: int, stride: int, dilation: int
) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, size)).astype(np.float32)
    node = helper.make_node(
        op, ["x"], ["y"], kernel_shape=[kernel], strides=[stride], dilations=[dilation], ceil_mode=1
    )
    inside = x[:, :, ::dilation][:, :, :kernel]
    expected = inside.max(2, keepdims=True) if op == "MaxPool" else inside.mean(2, keepdims=True)
    np.testing.assert_allclose(run(node, x), expected, rtol=1e-6)
