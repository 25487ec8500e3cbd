"""Convolutions of 16-bit numbers with 8-bit weights: exact sums, requantized once, in every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from exact_convolutions import exact_sums, given_inputs, requantized
from harness import BYTE_FEATURES, Ran, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.quantized.integer_form import INTEGERS
from onnx import helper

Array = npt.NDArray[Any]

WORDS = ["uint16", "int16"]
ENDS = {"uint16": (0, 65535), "int16": (-32768, 32767), "uint8": (0, 255), "int8": (-128, 127)}


def check_conv(inputs: dict[str, Array], attributes: dict[str, Any], **how: Any) -> Ran:
    """Run a convolution whose operands but the first are known, and compare with the definition, bit by bit."""
    sums = exact_sums(inputs["x"], inputs["w"], int(inputs["x_zero"]), inputs["w_zero"], attributes)
    bounds = [attributes.pop(name, None) for name in ("minimum", "maximum")]
    set_bounds = {name: bound for name, bound in zip(("minimum", "maximum"), bounds, strict=True) if bound is not None}
    node = helper.make_node(
        "QLinearConv", list(inputs), ["y"], name="conv", domain=INTEGERS, **attributes, **set_bounds
    )
    constants = [name for name in inputs if name != "x"]
    return check_nodes([node], inputs, ["y"], expected=[requantized(sums, inputs, *bounds)], constants=constants, **how)


def sized(
    size: tuple[int, ...], kernel: tuple[int, ...], dilations: tuple[int, ...], pads: tuple[int, ...]
) -> list[int]:
    """Image sizes that some window fits into."""
    spans = [(kernel[i] - 1) * dilations[i] + 1 for i in range(2)]
    return [max(size[i], spans[i] - pads[i] - pads[2 + i]) for i in range(2)]


@given(
    batch=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 1, 2, 3]),
    per_in=st.integers(1, 20),
    per_out=st.integers(1, 70),
    size=st.tuples(st.integers(1, 9), st.integers(1, 17)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    types=st.sampled_from([(x, w, y) for x in WORDS for w in ("uint8", "int8") for y in (*WORDS, "uint8", "int8")]),
    per_channel=st.booleans(),
    bias=st.sampled_from(["int32", "float32", ""]),
    end=st.sampled_from([None, 0, 1]),
    is_bounded=st.booleans(),
    threads=st.integers(1, 2),
    features=st.sampled_from(BYTE_FEATURES),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_results_are_those_of_the_definition(
    batch: int,
    groups: int,
    per_in: int,
    per_out: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    types: tuple[str, str, str],
    per_channel: bool,
    bias: str,
    end: int | None,
    is_bounded: bool,
    threads: int,
    features: Any,
    seed: int,
) -> None:
    image = sized(size, kernel, dilations, pads)
    x_shape, w_shape = (batch, groups * per_in, *image), (groups * per_out, per_in, *kernel)
    zeros = None if end is None else (ENDS[types[0]][end], ENDS[types[2]][end])
    generator = np.random.default_rng(seed)
    inputs = given_inputs(generator, x_shape, w_shape, types, per_channel=per_channel, bias=bias, zeros=zeros)
    attributes: dict[str, Any] = {"group": groups, "strides": strides, "dilations": dilations, "pads": pads}
    if is_bounded:
        low, high = ENDS[types[2]]
        attributes |= {"minimum": low + (high - low) // 4, "maximum": high - (high - low) // 4}
    check_conv(inputs, attributes, features=features, threads=threads)


@given(
    channels=st.integers(2, 150),
    size=st.tuples(st.integers(1, 9), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 2),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    types=st.sampled_from([(x, "int8", y) for x in (*WORDS, "uint8") for y in (*WORDS, "uint8", "int8")]),
    bias=st.sampled_from(["int32", "float32", ""]),
    end=st.sampled_from([None, 0, 1]),
    features=st.sampled_from(BYTE_FEATURES),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_depthwise_results_are_those_of_the_definition(
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    types: tuple[str, str, str],
    bias: str,
    end: int | None,
    features: Any,
    seed: int,
) -> None:
    image = sized(size, kernel, dilations, pads)
    zeros = None if end is None else (ENDS[types[0]][end], ENDS[types[2]][end])
    x_shape, w_shape = (1, channels, *image), (channels, 1, *kernel)
    inputs = given_inputs(np.random.default_rng(seed), x_shape, w_shape, types, bias=bias, zeros=zeros)
    attributes = {"group": channels, "strides": [stride] * 2, "dilations": dilations, "pads": pads}
    check_conv(inputs, attributes, features=features)


@pytest.mark.parametrize("features", BYTE_FEATURES)
@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("end", [0, 1])
def test_extreme_numbers_do_not_overflow_on_the_way(dtype: str, end: int, features: str | None) -> None:
    """Every product at its largest, over as many steps as ResNet50 has, and weights as far from their zero point."""
    for group, weight in ((1, np.int8(-128)), (1, np.uint8(255)), (64, np.int8(-128))):
        types = (dtype, weight.dtype.name, dtype)
        inputs = given_inputs(np.random.default_rng(0), (1, 64, 3, 3), (64, 64 // group, 3, 3), types)
        inputs["x"][...] = ENDS[dtype][end]
        inputs["x_zero"][...] = ENDS[dtype][1 - end]
        inputs["w"][...], inputs["w_zero"][...] = weight, 0
        inputs["y_scale"] = np.asarray(inputs["y_scale"] * 100, np.float32)
        check_conv(inputs, {"pads": [1, 1, 1, 1], "group": group}, features=features)


@pytest.mark.parametrize("features", BYTE_FEATURES)
def test_sums_whose_parts_leave_float32_lose_nothing(features: str | None) -> None:
    """The bias leaves little of sums that are far larger than 2**24."""
    generator = np.random.default_rng(1)
    inputs = given_inputs(generator, (1, 1024, 3, 3), (18, 1024, 3, 3), ("uint16", "int8", "int16"), zeros=(0, 7))
    inputs["w"] = np.abs(inputs["w"].astype(np.int16)).clip(0, 3).astype(np.int8)
    sums = exact_sums(inputs["x"], inputs["w"], 0, inputs["w_zero"], {})
    inputs["bias"] = (generator.integers(-30000, 30000, 18) - sums.reshape(-1)).astype(np.int32)
    inputs |= {name: np.float32(1) for name in ("x_scale", "y_scale")} | {"w_scale": np.ones(18, np.float32)}
    check_conv(inputs, {}, features=features)


@pytest.mark.parametrize("features", BYTE_FEATURES)
def test_biases_that_leave_no_room_for_sums_are_added_in_float(features: str | None) -> None:
    generator = np.random.default_rng(1)
    inputs = given_inputs(generator, (1, 33, 5, 5), (33, 1, 3, 3), ("uint16", "int8", "int16"), zeros=(0, 7))
    inputs["bias"] = generator.choice(np.array([-(2**31), 2**31 - 1], np.int32), 33)
    inputs |= {"x_scale": np.float32(1e-5), "y_scale": np.float32(1), "w_scale": np.ones(33, np.float32)}
    added = (inputs["bias"] * np.float64(np.float32(1e-5))).astype(np.float32)
    sums = exact_sums(inputs["x"], inputs["w"], 0, inputs["w_zero"], {"group": 33})
    right = requantized(sums, {**inputs, "bias": added})
    node = helper.make_node("QLinearConv", list(inputs), ["y"], name="conv", domain=INTEGERS, group=33)
    constants = [name for name in inputs if name != "x"]
    check_nodes([node], inputs, ["y"], expected=[right], constants=constants, features=features)
