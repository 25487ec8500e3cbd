"""Failures that the fuzzer found, each as the smallest case."""

from __future__ import annotations

import numpy as np
import pytest
from mace_testing.fuzzing.case import CONTRIB, OpCase
from mace_testing.fuzzing.verdict import Outcome, decide

from mace_core import Session
from mace_core.errors import MaceError


def check(case: OpCase) -> None:
    verdict = decide(case, "cpu")
    assert verdict.outcome in (Outcome.RIGHT, Outcome.EXCUSED), f"{verdict.outcome.value}: {verdict.detail}"


def test_layer_normalization_of_float64_has_its_statistics_in_float32() -> None:
    # the kernel stored float64 into memory for float32
    x, scale = np.array([[-4.0, 1.0, 2.5]]), np.array([1.0, 0.5, 2.0])
    check(OpCase("LayerNormalization", 17, (x, scale), {"epsilon": 0.01}, outputs=(True, True, True)))


def test_shrink_of_unsigned_numbers_compares_with_no_negative() -> None:
    # the operator's function body negates lambd, which wrapped around
    case = OpCase("Shrink", 9, (np.array([0, 1, 2], np.uint8),), {"bias": 1.0, "lambd": 1.0})
    check(case)


@pytest.mark.parametrize("opset", [9, 18, 23])
@pytest.mark.parametrize("bias", [0.0, 1.5, -0.5])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_shrink_of_whole_numbers_cuts_what_it_makes_of_them(dtype: type, bias: float, opset: int) -> None:
    x = np.array([0, 1, 2, 3, 100] if np.dtype(dtype).kind == "u" else [0, 1, -1, -2, 3, -100], dtype)
    assert decide(OpCase("Shrink", opset, (x,), {"bias": bias, "lambd": 1.0}), "cpu").outcome is Outcome.RIGHT


def test_a_table_of_positions_is_as_long_as_the_rows_of_words() -> None:
    # one row of the table stood for every word
    words = np.zeros((2, 3), np.int32)
    tables = [np.ones((rows, 6), np.float32) for rows in (4, 1, 2)]
    ends = [np.ones(6, np.float32)] * 2
    case = OpCase("EmbedLayerNormalization", 17, (words, words, *tables, *ends), domain=CONTRIB)
    with pytest.raises(MaceError, match="the table of positions has 1 rows for 3 words"):
        Session(case.model(), devices=["cpu"])


def test_fused_gemm_knows_the_slope_of_its_activation() -> None:
    a, b = np.array([[-1.0]], np.float32), np.array([[3.0]], np.float32)
    attributes = {"activation": "LeakyRelu", "activation_alpha": 0.25}
    check(OpCase("FusedGemm", 17, (a, b), attributes, domain=CONTRIB))


def test_an_operator_that_onnxruntime_keeps_in_the_domain_of_onnx() -> None:
    x, scale = np.array([[-4.0, 1.0]], np.float32), np.array([1.0, 0.5], np.float32)
    check(OpCase("SimplifiedLayerNormalization", 17, (x, scale), {"axis": -1, "epsilon": 0.01}))


def test_clip_without_bounds_of_an_old_opset_makes_infinities_finite() -> None:
    check(OpCase("Clip", 10, (np.array([-np.inf, 2.0, np.inf], np.float32),)))
    check(OpCase("Clip", 10, (np.array([-np.inf, 2.0, np.inf], np.float32),), {"min": 0.0}))


@pytest.mark.parametrize(("size", "scale", "mode"), [(3, 1.5, "ceil"), (3, 2.5, "floor"), (5, 0.5, "floor")])
def test_resize_with_symmetric_coordinates_hits_whole_numbers(size: int, scale: float, mode: str) -> None:
    inputs = (np.arange(size, dtype=np.float32).reshape(1, 1, size), None, np.array([1, 1, scale], np.float32))
    attributes = {"coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": mode}
    check(OpCase("Resize", 19, inputs, attributes, constants=frozenset({2})))


def test_a_causal_query_after_a_cache_sees_the_cache_and_what_is_before_it() -> None:
    # onnxruntime counts from the last key instead
    query, keys, values = (np.array(v, np.float32) for v in ([[[[-1, 1]]]], [[[[-1, 0], [1, 1]]]], [[[[-1], [1]]]]))
    past_key, past_value = np.array([[[[-1, 1]]]], np.float32), np.array([[[[-1]]]], np.float32)
    inputs = (query, keys, values, None, past_key, past_value)
    check(OpCase("Attention", 24, inputs, {"is_causal": 1}, outputs=(True, True, True), tolerance=1e-4))


@pytest.mark.parametrize(("scales", "mode"), [((1, 1, 1), "tf_crop_and_resize"), ((1, 1, 0.75), "pytorch_half_pixel")])
def test_resize_computes_coordinates_whatever_the_lengths_are(scales: tuple[float, ...], mode: str) -> None:
    region = (0, 0, 0, 1, 1, 0.75) if mode == "tf_crop_and_resize" else ()
    inputs = (np.array([[[-4, -3.75]]], np.float32), np.array(region, np.float32), np.array(scales, np.float32))
    attributes = {"coordinate_transformation_mode": mode, "mode": "linear"}
    check(OpCase("Resize", 28, inputs, attributes, constants=frozenset({1, 2})))


def test_same_padding_is_never_less_than_none() -> None:
    # windows of 1 at strides of 3: the formula gives -2
    x = np.array([[[-4, -3.75, -3.5]]], np.float32)
    check(OpCase("LpPool", 17, (x,), {"kernel_shape": [1], "strides": [3], "auto_pad": "SAME_UPPER"}))
    attributes = {"kernel_shape": [1, 1], "strides": [3, 1], "auto_pad": "SAME_UPPER"}
    check(OpCase("AveragePool", 28, (x.reshape(1, 1, 3, 1),), attributes))


def test_log_softmax_of_float16_is_exact_where_probabilities_vanish() -> None:
    check(OpCase("LogSoftmax", 28, (np.array([[7.25, -7.5, -5.75]], np.float16),), {}))


def test_grid_sample_rounds_ties_as_the_precision_of_the_grid_has_them() -> None:
    # 0.2 of 5 pixels is 2.5 in float32, and a little more in float64
    x = np.array([-4, -3.75, -3.5, -3.25, -3], np.float32).reshape(1, 1, 1, 5)
    grid = np.array([0.2, 0, -0.2, 0], np.float32).reshape(1, 1, 2, 2)
    check(OpCase("GridSample", 28, (x, grid), {"mode": "nearest"}))


def test_integer_convolution_of_volumes_has_a_zero_point_per_output_channel() -> None:
    # onnx.reference takes it along the input channels
    x, w = np.array([0, 1], np.uint8).reshape(1, 2, 1, 1, 1), np.arange(4, dtype=np.uint8).reshape(2, 2, 1, 1, 1)
    check(OpCase("ConvInteger", 28, (x, w, np.array(0, np.uint8), np.array([0, 1], np.uint8)), {}))


@pytest.mark.parametrize(
    ("mode", "of_49", "of_10"), [("pytorch_half_pixel", 0, 0), ("tf_crop_and_resize", 24, 4.5), ("align_corners", 0, 0)]
)
def test_resize_to_one_element_is_one_element_however_its_scale_is_rounded(
    mode: str, of_49: float, of_10: float
) -> None:
    # 49 * (1 / 49) is a little less than 1, and 10 * float32(0.1) a little more; onnx.reference falls for it
    attributes = {"mode": "linear", "coordinate_transformation_mode": mode}
    x = np.arange(49, dtype=np.float32).reshape(1, 1, 49)
    region = np.array([0, 0, 0.25, 1, 1, 0.75], np.float32)
    by_size = OpCase("Resize", 19, (x, region, None, np.array([1, 1, 1])), attributes, constants=frozenset({1, 3}))
    by_scale = OpCase(
        "Resize", 19, (x[..., :10], region, np.float32([1, 1, 0.1])), attributes, constants=frozenset({1, 2})
    )
    for case, expected in ((by_size, of_49), (by_scale, of_10)):
        with Session(case.model(), devices=["cpu"], strict=True) as session:
            np.testing.assert_array_equal(session.run(case.feeds)["y0"], [[[expected]]])


def test_layer_normalization_of_float16_has_its_statistics_in_float32() -> None:
    # onnx.reference has them in float16, and is off by one part in a hundred
    x, scale = np.linspace(-4, 4, 48).astype(np.float16).reshape(4, 4, 3), np.array([0.5, 0.75, 1], np.float16)
    check(OpCase("LayerNormalization", 28, (x, scale), {"epsilon": 0.01}, tolerance=2e-3))
