"""Scales, zero points and rounding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from mace_core.errors import UsageError
from mace_core.quantization.encodings import (
    LEAST_SCALE,
    decoded_range,
    dequantize,
    encoding_for_bias,
    encoding_for_range,
    fake_quantize,
    limits,
    quantize,
    quantize_bias,
    weight_encoding,
)
from mace_core.quantization.grids import Grid
from mace_core.tensor import DType, QuantEncoding

TYPES = [DType.INT4, DType.UINT4, DType.INT8, DType.UINT8, DType.INT16, DType.UINT16]
GRIDS = [Grid(dtype, is_symmetric) for dtype in TYPES for is_symmetric in (True, False)]
NUMBERS = st.floats(-(2.0**120), 2.0**120, width=32)
ENDS = st.tuples(NUMBERS, NUMBERS).map(lambda ends: sorted(end + 0.0 for end in ends))  # no -0.0


@given(ends=ENDS, grid=st.sampled_from(GRIDS))
def test_zero_is_exact_and_the_range_is_covered(ends: list[float], grid: Grid) -> None:
    encoding = encoding_for_range(*ends, grid)
    assert fake_quantize(np.zeros(1, np.float32), encoding)[0] == 0.0
    assert encoding.scale.dtype == np.float32
    assert encoding.zero_point.dtype == grid.dtype.numpy
    assert np.isfinite(encoding.scale)
    assert encoding.scale >= LEAST_SCALE
    low, high = decoded_range(encoding)
    slack = float(encoding.scale) * 0.5001 + 1e-6 * max(map(abs, ends))  # the zero point is rounded
    assert low <= min(ends[0], 0.0) + slack
    assert high >= max(ends[1], 0.0) - slack


@given(ends=ENDS, grid=st.sampled_from(GRIDS), data=st.data())
def test_fake_quantization_is_idempotent_and_within_half_a_step(
    ends: list[float], grid: Grid, data: st.DataObject
) -> None:
    encoding = encoding_for_range(*ends, grid)
    inside = data.draw(arrays.arrays(np.float32, 8, elements=st.floats(ends[0], ends[1], width=32)))
    once = fake_quantize(inside, encoding)
    np.testing.assert_array_equal(fake_quantize(once, encoding), once)
    low, high = decoded_range(encoding)
    error = np.abs(once.astype(np.float64) - np.clip(inside.astype(np.float64), low, high))
    assert (error <= 0.5 * float(encoding.scale) * (1 + 1e-5) + 1e-6 * np.abs(inside)).all()


@given(grid=st.sampled_from(GRIDS), scale=st.floats(2.0**-126, 2.0**100, width=32), data=st.data())
def test_integers_survive_the_way_through_floats(grid: Grid, scale: float, data: st.DataObject) -> None:
    lowest, highest = limits(grid.dtype)
    zero = data.draw(st.integers(lowest, highest))
    encoding = QuantEncoding(grid.dtype, np.array(scale, np.float32), np.array(zero).astype(grid.dtype.numpy))
    integers = np.linspace(lowest, highest, 200).astype(np.int32).astype(grid.dtype.numpy)
    np.testing.assert_array_equal(quantize(dequantize(integers, encoding), encoding), integers)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT16, DType.UINT16])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_numbers_become_the_integers_that_onnxruntime_makes(dtype: DType, axis: int | None) -> None:
    import onnxruntime

    generator = np.random.default_rng(1)
    lowest, highest = limits(dtype)
    steps = np.concatenate([np.arange(-9, 9) + 0.5, np.linspace(2 * lowest - 9, 2 * highest + 9, 30)])
    numbers = np.stack([steps, generator.permutation(steps)] * 2).astype(np.float32)  # (4, 48), half of them ties
    count = 1 if axis is None else numbers.shape[axis]
    scales = np.exp2(generator.integers(-3, 4, count)).astype(np.float32)
    zeros = generator.integers(lowest, highest + 1, count).astype(dtype.numpy)
    zeros[0] = highest
    shape: list[int] = [] if axis is None else [count]
    encoding = QuantEncoding(dtype, scales.reshape(shape), zeros.reshape(shape), axis)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis or 0),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis or 0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, numbers.shape)],
        [
            helper.make_tensor_value_info("q", dtype.value, numbers.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, numbers.shape),
        ],
        [onnx.numpy_helper.from_array(encoding.scale, "s"), onnx.numpy_helper.from_array(encoding.zero_point, "z")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    integers, floats = session.run(None, {"x": numbers})
    np.testing.assert_array_equal(quantize(numbers, encoding), integers)
    np.testing.assert_array_equal(fake_quantize(numbers, encoding), floats)


def test_a_group_without_range_takes_the_usual_scale_of_the_others() -> None:
    weights = np.array([[0, 0], [1, -2], [4, 1], [0.5, 0]], np.float32)
    encoding = weight_encoding(weights, Grid(DType.INT8, True), axis=0)
    np.testing.assert_allclose(encoding.scale, np.array([2, 2, 4, 0.5], np.float32) / 127)
    alone = encoding_for_range(0.0, 0.0, Grid(DType.UINT8, False))
    assert (float(alone.scale), int(alone.zero_point)) == (1.0, 0)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("largest", [1e-45, 1e-38, 3.4e38])
def test_ranges_at_the_ends_of_float32_give_usable_scales(grid: Grid, largest: float) -> None:
    encoding = encoding_for_range(-largest, largest, grid)
    assert np.isfinite(1 / encoding.scale)
    found = fake_quantize(np.array([-largest, 0, largest], np.float32), encoding)
    assert np.isfinite(found).all()
    assert found[1] == 0.0


def test_blocks_have_their_own_scales_and_the_last_may_be_short() -> None:
    weights = np.arange(-7, 7, dtype=np.float32).reshape(2, 7)
    encoding = weight_encoding(weights, Grid(DType.INT4, True), axis=1, block_size=3)
    assert encoding.scale.shape == (2, 3)
    np.testing.assert_allclose(encoding.scale[0] * 7, [7, 4, 1])
    assert np.abs(fake_quantize(weights, encoding) - weights).max() <= 0.5


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (float("nan"), 1.0, "NaN or infinite"),
        (0.0, float("inf"), "NaN or infinite"),
        (2.0, 1.0, "above its high end"),
        ([0.0, 0.0], 1.0, "one shape"),
    ],
)
def test_ranges_that_are_none_are_refused(low: float, high: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encoding_for_range(low, high, Grid(DType.INT8, False))


def test_what_cannot_be_quantized_is_refused() -> None:
    with pytest.raises(UsageError, match="float32 is not a type to quantize to"):
        Grid(DType.FLOAT32, True)
    with pytest.raises(UsageError, match="holds NaN"):
        quantize(np.array([np.nan], np.float32), encoding_for_range(0, 1, Grid(DType.INT8, True)))
    with pytest.raises(UsageError, match="NaN or infinity"):
        weight_encoding(np.array([1, np.inf], np.float32), Grid(DType.INT8, True))
    with pytest.raises(UsageError, match="no number"):
        weight_encoding(np.zeros((0, 3), np.float32), Grid(DType.INT8, True), axis=1)
    encoding = weight_encoding(np.ones((3, 2), np.float32), Grid(DType.INT8, True), axis=0)
    with pytest.raises(UsageError, match="3 scales along axis 0"):
        dequantize(np.ones((4, 2), np.int8), encoding)
    saturated = quantize(np.array([np.inf, -np.inf], np.float32), encoding_for_range(-1, 1, Grid(DType.INT8, False)))
    assert saturated.tolist() == [127, -128]


def test_a_bias_fits_into_32_bits_also_beside_tiny_weights() -> None:
    weights = np.array([[1e-12, 0], [1.0, -1.0]], np.float32)
    bias = np.array([3.0, -0.25], np.float32)
    plain = weight_encoding(weights, Grid(DType.INT8, True), axis=0)
    encoding = encoding_for_bias(plain, bias, 0.02)
    stored, scales = quantize_bias(bias, 0.02, encoding.scale)
    assert (np.abs(stored * scales.astype(np.float64) - bias) <= scales * 0.5001).all()
    assert encoding.scale[1] == plain.scale[1]
    kept, scales = quantize_bias(bias, 0.02, plain.scale)
    assert abs(kept[0] * float(scales[0]) - 3.0) > 1.0  # what would happen without
