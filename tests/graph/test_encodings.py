"""The encoding of a quantized value says what DequantizeLinear does to it, however scale and zero point are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from mace_core.graph import Attribute, AttributeKind, Graph, GraphView, Node, Value, node_encoding
from mace_core.tensor import DType, QuantEncoding, Tensor, TensorType

CODES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
Array = np.ndarray[Any, Any]


def constant(name: str, array: Array) -> Value:
    tensor = Tensor.from_numpy(array)
    return Value(name, TensorType(tensor.dtype, array.shape), constant=tensor)


def linear(
    op_type: str, codes: Array, scale: Array, zero: Array | None, *, domain: str = "", rank_known: bool = True,
    **attributes: int,
) -> tuple[GraphView, Node, Value]:  # fmt: skip
    """A graph of one QuantizeLinear or DequantizeLinear node, and the value that is quantized."""
    stored = Value("codes", TensorType(DType(onnx.helper.np_dtype_to_tensor_dtype(codes.dtype)),
                                       codes.shape if rank_known else None))  # fmt: skip
    real = Value("real", TensorType(DType.FLOAT32, codes.shape))
    source, result = (stored, real) if op_type == "DequantizeLinear" else (real, stored)
    inputs = [source, constant("scale", scale), None if zero is None else constant("zero", zero)]
    kinds = {key: Attribute(AttributeKind.INT, number) for key, number in attributes.items()}
    node = Node(op_type, inputs, [result], name="node", domain=domain, attributes=kinds)
    result.producer = node
    graph = Graph("encodings")
    graph.nodes = [node]
    return GraphView(graph, graph.nodes, [source], [result], {}, {}, opset_imports={"": 21}), node, stored


def reals(encoding: QuantEncoding, codes: Array) -> Array:
    """``codes`` as the documentation of `QuantEncoding` reads them."""
    scale, zero = encoding.scale, encoding.zero_point.astype(np.int32)
    assert scale.shape == zero.shape
    if encoding.axis is None:
        assert scale.shape == () and encoding.block_size == 0
    elif encoding.block_size:
        kept = tuple(slice(size) for size in codes.shape)
        scale, zero = (np.repeat(part, encoding.block_size, encoding.axis)[kept] for part in (scale, zero))
    else:
        along = [1] * codes.ndim
        along[encoding.axis] = -1
        scale, zero = scale.reshape(along), zero.reshape(along)
    found: Array = (codes.astype(np.int32) - zero) * scale
    return found


def by_onnxruntime(codes: Array, scale: Array, zero: Array | None, **attributes: int) -> Array:
    given = {"scale": scale} if zero is None else {"scale": scale, "zero": zero}
    node = onnx.helper.make_node("DequantizeLinear", ["codes", *given], ["real"], **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info("codes", onnx.helper.np_dtype_to_tensor_dtype(codes.dtype), codes.shape)],
        [onnx.helper.make_tensor_value_info("real", onnx.TensorProto.FLOAT, codes.shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"codes": codes})[0]
    return found


def scales(*shape: int) -> Array:
    return np.asarray((np.arange(np.prod(shape, dtype=int)).reshape(shape) + 1) / 8, np.float32)


def zeros(*shape: int) -> Array:
    return np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) + 7, np.uint8)


FORMS: dict[str, tuple[Array, Array, Array | None, dict[str, int]]] = {
    "a scalar": (CODES, scales(), zeros(), {}),
    "a scalar, no zero point": (CODES, scales(), None, {}),
    "one element": (CODES, scales(1), zeros(1), {}),
    "one element of a vector": (CODES[0, 0], scales(1), zeros(1), {}),
    "one element, an axis given": (CODES, scales(1), zeros(1), {"axis": 2}),
    "per axis, by default 1": (CODES, scales(3), zeros(3), {}),
    "per axis 0": (CODES, scales(2), zeros(2), {"axis": 0}),
    "per axis, no zero point": (CODES, scales(4), None, {"axis": 2}),
    "a negative axis": (CODES, scales(4), zeros(4), {"axis": -1}),
    "a negative axis, the first": (CODES, scales(2), zeros(2), {"axis": -3}),
    "blocks": (CODES, scales(2, 3, 2), zeros(2, 3, 2), {"axis": 2, "block_size": 2}),
    "blocks on a negative axis": (CODES, scales(2, 3, 2), zeros(2, 3, 2), {"axis": -1, "block_size": 2}),
    "blocks, the last not full": (CODES, scales(2, 2, 4), zeros(2, 2, 4), {"axis": 1, "block_size": 2}),
    "a single block": (CODES[:1, :1], scales(1, 1, 1), zeros(1, 1, 1), {"axis": 2, "block_size": 4}),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_encoding_means_what_dequantize_linear_computes(form: str) -> None:
    codes, scale, zero, attributes = FORMS[form]
    expected = by_onnxruntime(codes, scale, zero, **attributes)
    for op_type in ("DequantizeLinear", "QuantizeLinear"):
        view, node, stored = linear(op_type, codes, scale, zero, **attributes)
        for encoding in (node_encoding(view, node), view.encoding(stored)):
            assert encoding is not None
            assert encoding.dtype is DType.UINT8 and encoding.scale.dtype == np.float32
            assert encoding.zero_point.dtype == np.uint8
            assert encoding.axis is None if scale.size == 1 else encoding.axis in range(codes.ndim)
            np.testing.assert_array_equal(reals(encoding, codes), expected)


def test_scale_and_zero_point_of_one_element_may_differ_in_shape() -> None:
    view, node, _ = linear("DequantizeLinear", CODES, scales(1), zeros())
    encoding = node_encoding(view, node)
    assert encoding is not None and encoding.axis is None
    assert encoding.scale.shape == encoding.zero_point.shape == ()


def test_a_block_size_beside_a_scale_per_axis_says_nothing() -> None:
    view, node, _ = linear("DequantizeLinear", CODES, scales(3), zeros(3), axis=1, block_size=2)
    encoding = node_encoding(view, node)
    assert encoding is not None and (encoding.axis, encoding.block_size) == (1, 0)


def test_half_scales_are_given_as_float32() -> None:
    view, node, _ = linear("DequantizeLinear", CODES, scales(3).astype(np.float16), zeros(3))
    encoding = node_encoding(view, node)
    assert encoding is not None and encoding.scale.dtype == np.float32


def test_what_is_not_known_has_no_encoding() -> None:
    view, node, stored = linear("DequantizeLinear", CODES, scales(3), zeros(3), axis=-2, rank_known=False)
    assert node_encoding(view, node) is None
    view, node, stored = linear("DequantizeLinear", CODES, scales(), zeros())
    node.inputs[2] = Value("computed", TensorType(DType.UINT8, ()))
    assert node_encoding(view, node) is None and view.encoding(stored) is None
    node.inputs[1] = Value("computed", TensorType(DType.FLOAT32, ()))
    assert node_encoding(view, node) is None


@pytest.mark.parametrize(("domain", "is_read"), [("com.microsoft", True), ("acme", False)])
def test_operators_of_other_domains_are_read_where_they_are_the_same(domain: str, is_read: bool) -> None:
    for op_type in ("DequantizeLinear", "QuantizeLinear"):
        view, node, stored = linear(op_type, CODES, scales(), zeros(), domain=domain)
        assert (node_encoding(view, node) is not None) == (view.encoding(stored) is not None) == is_read
