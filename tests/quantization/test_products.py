"""Products of a graph as matrices, rounded for the data that they see."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mace_core.frontend.load import load_model
from mace_core.quantization.encodings import dequantize, weight_encoding
from mace_core.quantization.grids import Grid
from mace_core.quantization.weights.gram import in_passes
from mace_core.quantization.weights.nearest import round_to_nearest
from mace_core.quantization.weights.products import Product, bias_shift, product_of, round_product
from mace_core.tensor import DType

Array = npt.NDArray[Any]

CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "Conv": ("Conv", (3, 6, 8, 7), (8, 6, 3, 2), {"strides": [2, 1], "pads": [1, 0, 1, 1]}),
    "grouped Conv": ("Conv", (3, 6, 8, 7), (8, 3, 3, 3), {"group": 2, "dilations": [1, 2]}),
    "depthwise Conv": ("Conv", (3, 6, 9, 9), (6, 1, 3, 3), {"group": 6, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "Conv of one axis": ("Conv", (3, 6, 20), (4, 6, 5), {"auto_pad": "SAME_LOWER"}),
    "Gemm": ("Gemm", (40, 12), (12, 7), {}),
    "turned Gemm": ("Gemm", (40, 12), (7, 12), {"transB": 1}),
    "MatMul": ("MatMul", (3, 15, 12), (12, 7), {}),
}


def made(case: str) -> tuple[Product, Array, Any]:
    """The product of a case, an input for it, and what runs it with other weights in onnxruntime."""
    op_type, x_shape, w_shape, attributes = CASES[case]
    generator = np.random.default_rng(sum(x_shape))
    x = generator.normal(size=x_shape).cumsum(axis=-1).astype(np.float32) + 1
    w = generator.normal(size=w_shape).astype(np.float32)
    node = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, a.shape) for name, a in (("x", x), ("w", w))]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opset = [helper.make_opsetid("", 17)]
    constant = helper.make_graph([node], "g", inputs[:1], [output], [onnx.numpy_helper.from_array(w, "w")])
    product = product_of(load_model(helper.make_model(constant, opset_imports=opset, ir_version=8)).nodes[0])
    assert product is not None
    free = helper.make_model(helper.make_graph([node], "g", inputs, [output]), opset_imports=opset, ir_version=8)
    session = onnxruntime.InferenceSession(free.SerializeToString(), providers=["CPUExecutionProvider"])
    return product, x, lambda weights: session.run(None, {"x": x, "w": weights})[0]


@pytest.mark.parametrize("case", CASES)
def test_matrices_times_rows_are_what_the_node_computes(case: str) -> None:
    product, x, run = made(case)
    matrices = product.matrices(product.weights)
    np.testing.assert_array_equal(product.stored(matrices), product.weights)
    found = np.matmul(product.rows(x, 10**6), matrices.transpose(0, 2, 1))  # (groups, rows, results)
    expected = run(product.weights)
    if product.node.op_type == "Conv":
        expected = np.moveaxis(expected, 1, -1)
    expected = expected.reshape(-1, product.groups, product.results).swapaxes(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("is_per_channel", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_rounding_for_the_data_beats_rounding_to_the_nearest(case: str, is_per_channel: bool) -> None:
    product, x, run = made(case)
    gram = product.gram()
    gram.update(product.rows(x, 10**6))
    grid = Grid(DType.INT4, True)
    integers, encoding = round_product(product, gram, grid, is_per_channel=is_per_channel)
    assert integers.shape == product.weights.shape
    axis = product.channel_axis if is_per_channel else None
    assert encoding.axis == axis
    nearest = round_to_nearest(product.weights, grid, axis=axis).decoded()
    decoded = dequantize(integers, encoding)
    expected = run(product.weights)
    assert np.square(run(decoded) - expected).sum() < 0.8 * np.square(run(nearest) - expected).sum()


@pytest.mark.parametrize("case", ["Gemm", "turned Gemm", "MatMul"])
def test_blocks_lie_along_the_inputs_as_stored(case: str) -> None:
    product, x, _ = made(case)
    gram = product.gram()
    gram.update(product.rows(x))
    integers, encoding = round_product(product, gram, Grid(DType.UINT4, False), block_size=4)
    expected = weight_encoding(product.weights, Grid(DType.UINT4, False), axis=1 - product.channel_axis, block_size=4)
    assert encoding.scale.shape == expected.scale.shape
    assert np.abs(dequantize(integers, encoding) - product.weights).max() < 3 * expected.scale.max()


@pytest.mark.parametrize("case", CASES)
def test_a_corrected_bias_keeps_the_mean_of_each_result(case: str) -> None:
    product, x, run = made(case)
    gram = product.gram()
    gram.update(product.rows(x, 10**6))
    decoded = round_to_nearest(product.weights, Grid(DType.INT4, True)).decoded()
    shift = bias_shift(product, gram.means(), decoded)
    axis = 1 if product.node.op_type == "Conv" else -1
    lost = np.moveaxis(run(product.weights) - run(decoded), axis, -1).reshape(-1, len(shift)).mean(axis=0)
    np.testing.assert_allclose(shift, lost, atol=1e-3 * np.abs(lost).max())
    assert np.abs(lost).max() > 0.01


def test_passes_hold_what_fits_and_one_at_the_least() -> None:
    products = [made(case)[0] for case in ("Gemm", "MatMul", "Conv", "Gemm")]
    sizes = [product.gram_bytes for product in products]
    assert [len(part) for part in in_passes(products, sizes[0] + sizes[1])] == [2, 1, 1]
    assert [len(part) for part in in_passes(products, 1)] == [1, 1, 1, 1]
