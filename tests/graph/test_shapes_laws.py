"""Laws of shape arithmetic, for any sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mace_core.errors import ModelError
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.operators import resolve
from mace_core.tensor import DType, Tensor, TensorType

sizes = st.integers(1, 6)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def one_node(op: str, inputs: list[Any], opset: int = 21, outputs: int = 1, **attributes: Any) -> tuple[int, ...]:
    """The shape of output 0 of a node over inputs given as shapes (tuples) or contents (arrays)."""
    graph = Graph("law")
    graph.opset_imports = {"": opset}
    types = {}
    values = []
    for index, given_ in enumerate(inputs):
        value = Value(f"i{index}")
        if isinstance(given_, np.ndarray):
            value = Value(f"i{index}", constant=Tensor.from_numpy(given_))
            graph.initializers[value.name] = value
        else:
            graph.inputs.append(value)
            types[value] = TensorType(DType.FLOAT32, given_)
        values.append(value)
    out = [Value(f"o{i}") for i in range(outputs)]
    kinds = {int: AttributeKind.INT, str: AttributeKind.STRING, tuple: AttributeKind.INTS}
    attrs = {name: Attribute(kinds[type(v)], v) for name, v in attributes.items()}
    graph.nodes.append(Node(op, values, out, name="n", attributes=attrs))
    graph.outputs = out
    found = resolve(graph, types).types[out[0]]
    assert isinstance(found, TensorType)
    return found.concrete_shape


@given(shapes, shapes, shapes)
def test_broadcasting_is_numpys(a: tuple[int, ...], b: tuple[int, ...], c: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b, c)
    except ValueError:
        with pytest.raises(ModelError, match="do not broadcast"):
            one_node("Max", [a, b, c])
    else:
        assert one_node("Max", [a, b, c]) == expected
        assert one_node("Add", [np.empty(a, np.float32), b]) == np.broadcast_shapes(a, b)


@given(st.data())
def test_reshape_is_numpys_with_zero_copying(data: st.DataObject) -> None:
    shape = data.draw(st.lists(sizes, min_size=1, max_size=4))
    order = data.draw(st.permutations(shape))
    cut = data.draw(st.integers(0, len(order)))
    wanted = [math.prod(order[:cut]), *order[cut:]]
    expected = tuple(wanted)
    if data.draw(st.booleans()):
        wanted[data.draw(st.integers(0, len(wanted) - 1))] = -1
    wanted = [0 if i < len(shape) and w == shape[i] else w for i, w in enumerate(wanted)]
    assert one_node("Reshape", [tuple(shape), np.array(wanted)]) == expected


@given(st.lists(sizes, min_size=1, max_size=3), st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_reshape_refuses_other_sizes(shape: list[int], wanted: list[int]) -> None:
    assume(math.prod(shape) != math.prod(wanted))
    with pytest.raises(ModelError, match="cannot take the shape"):
        one_node("Reshape", [tuple(shape), np.array(wanted)])


def positions(size: int, kernel: int, stride: int, dilation: int, before: int, after: int, ceil: bool) -> int:
    """Count the places of a window one by one."""
    extent = (kernel - 1) * dilation + 1
    padded = size + before + after
    fitting = [start for start in range(0, padded, stride) if start + extent <= padded]
    count = len(fitting)
    covered = fitting[-1] + extent == padded
    if ceil and not covered and count * stride < size + before:
        count += 1
    return count


@given(st.integers(1, 40), st.integers(1, 5), *[st.integers(1, 4)] * 2, *[st.integers(0, 3)] * 2, st.booleans())
def test_windows_are_counted(
    size: int, kernel: int, stride: int, dil: int, before: int, after: int, ceil: bool
) -> None:
    assume((kernel - 1) * dil + 1 <= size + before + after)
    assume(before < (kernel - 1) * dil + 1 and after < (kernel - 1) * dil + 1)
    window = {"kernel_shape": (kernel,), "strides": (stride,), "dilations": (dil,), "pads": (before, after)}
    expected = positions(size, kernel, stride, dil, before, after, ceil)
    assert one_node("MaxPool", [(2, 3, size)], ceil_mode=int(ceil), **window) == (2, 3, expected)
    if not ceil:
        weights = np.zeros((4, 3, kernel), np.float32)
        assert one_node("Conv", [(2, 3, size), weights], **window) == (2, 4, expected)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.data())
def test_transposed_convolution_inverts_the_arithmetic_of_convolution(
    size: int, kernel: int, stride: int, dilation: int, data: st.DataObject
) -> None:
    extent = (kernel - 1) * dilation + 1
    pads = tuple(data.draw(st.tuples(*[st.integers(0, max(0, (extent - 1) // 2))] * 2)))
    extra = data.draw(st.integers(0, stride - 1))
    window = {"kernel_shape": (kernel,), "strides": (stride,), "dilations": (dilation,), "pads": pads}
    weights = np.zeros((3, 4, kernel), np.float32)
    grown = one_node("ConvTranspose", [(1, 3, size), weights], output_padding=(extra,), **window)
    assume(grown[2] + sum(pads) >= extent)
    back = np.zeros((3, 4, kernel), np.float32)
    assert one_node("Conv", [grown, back], **window) == (1, 3, size)


@given(st.integers(1, 50), st.integers(1, 5), st.integers(1, 4), st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
def test_same_padding_divides_by_the_stride(size: int, kernel: int, stride: int, auto_pad: str) -> None:
    shape = one_node("AveragePool", [(1, 1, size)], kernel_shape=(kernel,), strides=(stride,), auto_pad=auto_pad)
    assert shape == (1, 1, math.ceil(size / stride))


@given(st.integers(0, 9), st.integers(-12, 12), st.integers(-12, 12), st.sampled_from([-3, -2, -1, 1, 2, 3]))
def test_slicing_is_onnxs_and_contents_follow(size: int, start: int, end: int, step: int) -> None:
    graph = Graph("law")
    graph.opset_imports = {"": 21}
    data = Value("x", constant=Tensor.from_numpy(np.arange(size)))
    bounds = [
        Value(n, constant=Tensor.from_numpy(np.array([v]))) for n, v in zip("seat", (start, end, 0, step), strict=True)
    ]
    out = Value("y")
    graph.nodes.append(Node("Slice", [data, *bounds], [out], name="slice"))
    found = resolve(graph, {})
    first = np.clip(start + size if start < 0 else start, 0, size if step > 0 else max(size - 1, 0))
    last = np.clip(end + size if end < 0 else end, 0 if step > 0 else -1, size if step > 0 else size - 1)
    expected = np.arange(first, last, step) if size else np.arange(0)
    assert found.types[out] == TensorType(DType.INT64, expected.shape)
    np.testing.assert_array_equal(found.known[out].numpy(), expected)


@given(st.integers(-(2**40), 2**40), st.integers(-(2**20), 2**20))
def test_integer_division_truncates_like_c(a: int, b: int) -> None:
    assume(b != 0)
    graph = Graph("law")
    graph.opset_imports = {"": 21}
    operands = [Value(n, constant=Tensor.from_numpy(np.array(v))) for n, v in (("a", a), ("b", b))]
    out = Value("y")
    graph.nodes.append(Node("Div", operands, [out], name="div"))
    assert resolve(graph, {}).known[out].numpy() == int(math.copysign(abs(a) // abs(b), a * b))


@given(st.lists(sizes, min_size=2, max_size=4), st.data())
def test_split_and_concat_are_inverse(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    shape[axis] = sum(parts)
    pieces = []
    for part in parts:
        piece = list(shape)
        piece[axis] = part
        pieces.append(tuple(piece))
    assert one_node("Concat", pieces, axis=axis) == tuple(shape)
    assert one_node("Split", [tuple(shape), np.array(parts)], outputs=len(parts), axis=axis) == pieces[0]


@given(shapes.filter(len), shapes.filter(len))
def test_matrix_products_are_numpys(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.matmul(np.zeros(a), np.zeros(b)).shape
    except ValueError:
        with pytest.raises(ModelError):
            one_node("MatMul", [a, b])
    else:
        assert one_node("MatMul", [a, b]) == expected
