"""Windows place their taps where onnxruntime does: explicit padding, VALID, and SAME, whose odd element has a side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mace_core.graph import Attribute, AttributeKind, Node, Value, Window, sliding_window, transposed_window

Array = np.ndarray[Any, Any]
Attributes = dict[str, Any]


def node(op_type: str, attributes: Attributes) -> Node:
    kinds = {
        name: Attribute(AttributeKind.STRING if isinstance(value, str) else AttributeKind.INTS, value)
        for name, value in attributes.items()
    }
    return Node(op_type, [], [Value("y", None)], name="window", attributes=kinds)


def by_onnxruntime(op_type: str, data: Array, weights: Array, attributes: Attributes) -> Array:
    made = onnx.helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    graph = onnx.helper.make_graph(
        [made],
        "window",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, data.shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"x": data})[0]
    return found


def positions(window: Window, index: int) -> list[int]:
    """What the taps of position ``index`` read, of one spatial axis."""
    start = index * window.strides[0] - window.begins[0]
    return [start + tap * window.dilations[0] for tap in range(window.kernel[0])]


def convolved(window: Window, data: Array, weights: Array) -> Array:
    size = data.size
    count = (size + window.begins[0] + window.ends[0] - window.spans[0]) // window.strides[0] + 1
    return np.array(
        [
            sum(data[at] * weight for at, weight in zip(positions(window, i), weights, strict=True) if 0 <= at < size)
            for i in range(count)
        ],
        np.float32,
    )


def transposed(window: Window, data: Array, weights: Array, size: int) -> Array:
    result = np.zeros(size, np.float32)
    for i, element in enumerate(data):
        for at, weight in zip(positions(window, i), weights, strict=True):
            if 0 <= at < size:
                result[at] += element * weight
    return result


def numbers(count: int) -> Array:
    return (np.arange(count) ** 2 % 7 + 1).astype(np.float32)


MODES = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    size=st.integers(1, 12),
    taps=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
@example(mode="SAME_UPPER", size=5, taps=2, stride=1, dilation=1, pads=(0, 0))
@example(mode="SAME_LOWER", size=5, taps=2, stride=1, dilation=1, pads=(0, 0))
@example(mode="SAME_LOWER", size=7, taps=4, stride=2, dilation=1, pads=(0, 0))
@example(mode="SAME_UPPER", size=4, taps=1, stride=4, dilation=1, pads=(0, 0))
def test_a_sliding_window_reads_what_onnxruntime_reads(
    mode: str, size: int, taps: int, stride: int, dilation: int, pads: tuple[int, int]
) -> None:
    if mode.startswith("SAME"):
        dilation = 1  # which onnxruntime refuses otherwise
    attributes: Attributes = {"strides": [stride], "dilations": [dilation], "auto_pad": mode}
    if mode == "NOTSET":
        attributes["pads"] = list(pads)
    window = sliding_window(node("Conv", attributes), [size], [taps])
    if size + window.begins[0] + window.ends[0] < window.spans[0]:
        return  # nowhere to place it
    if mode.startswith("SAME") and (-(-size // stride) - 1) * stride + taps < size:
        assert (window.begins[0], window.ends[0]) == (0, 0)  # there onnxruntime begins behind it: docs/judges.md
        return
    data, weights = numbers(size), numbers(taps)
    expected = by_onnxruntime("Conv", data[None, None], weights[None, None], attributes)
    np.testing.assert_allclose(convolved(window, data, weights), expected[0, 0])


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    size=st.integers(1, 6),
    taps=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    more=st.integers(0, 3),
    less=st.integers(0, 3),
    has_shape=st.booleans(),
)
@example(mode="NOTSET", size=3, taps=3, stride=2, dilation=1, pads=(0, 0), more=0, less=1, has_shape=True)
@example(mode="SAME_UPPER", size=3, taps=4, stride=1, dilation=1, pads=(0, 0), more=0, less=1, has_shape=True)
@example(mode="SAME_LOWER", size=3, taps=4, stride=1, dilation=1, pads=(0, 0), more=0, less=1, has_shape=True)
def test_a_transposed_window_writes_what_onnxruntime_writes(
    mode: str, size: int, taps: int, stride: int, dilation: int, pads: tuple[int, int], more: int, less: int,
    has_shape: bool,
) -> None:  # fmt: skip
    attributes: Attributes = {
        "strides": [stride], "dilations": [dilation], "auto_pad": mode, "output_padding": [min(more, stride - 1)]
    }  # fmt: skip
    full = stride * (size - 1) + attributes["output_padding"][0] + (taps - 1) * dilation + 1
    if mode.startswith("SAME") or (has_shape and mode == "NOTSET"):
        attributes["output_shape"] = [full - less]
    elif mode == "NOTSET":
        attributes["pads"] = list(pads)
    if full - less < 1 or full - sum(pads) < 1:
        return
    data, weights = numbers(size), numbers(taps)
    expected = by_onnxruntime("ConvTranspose", data[None, None], weights[None, None], attributes)[0, 0]
    window = transposed_window(node("ConvTranspose", attributes), [size], [expected.size], [taps])
    np.testing.assert_allclose(transposed(window, data, weights, expected.size), expected)


@pytest.mark.parametrize(
    ("mode", "sizes", "begins", "ends"),
    [
        ("SAME_UPPER", (5, 6), (0, 1), (1, 2)),
        ("SAME_LOWER", (5, 6), (1, 2), (0, 1)),
        ("VALID", (5, 6), (0, 0), (0, 0)),
        ("", (5, 6), (0, 0), (0, 0)),
    ],
)
def test_each_axis_has_pads_of_its_own(
    mode: str, sizes: Sequence[int], begins: Sequence[int], ends: Sequence[int]
) -> None:
    attributes: Attributes = {"auto_pad": mode, "dilations": [1, 3]}
    window = sliding_window(node("MaxPool", attributes), sizes, (2, 2))
    assert (window.begins, window.ends) == (begins, ends)
    assert (window.kernel, window.strides, window.dilations, window.spans) == ((2, 2), (1, 1), (1, 3), (2, 4))


def test_an_unknown_auto_pad_is_refused() -> None:
    with pytest.raises(ValueError, match="auto_pad is 'SAME', not NOTSET"):
        sliding_window(node("Conv", {"auto_pad": "SAME"}), [5], [3])
