"""Floats of eight bits and less, integers of less than a byte: conversion, quantization, movement."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import FEATURES, check_node, check_nodes, rejection
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference.ops.op_cast import cast_to

from mace_core.tensor import DType

Array = npt.NDArray[Any]
RNG = np.random.default_rng(3)
FLOAT8 = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz")
PACKED = ("float4e2m1", "int4", "uint4", "int2", "uint2")
SMALL_FLOATS = ("float6e2m3", "float6e3m2")
WIDE = ("float32", "float16", "bfloat16", "float64")


def kind(label: str) -> np.dtype[Any]:
    return DType.from_label(label).numpy


def code(label: str) -> int:
    return DType.from_label(label).value


def every_code(label: str) -> Array:
    """Every bit pattern of a float of up to 16 bits."""
    bits = DType.from_label(label).bits
    return np.arange(1 << bits, dtype=np.uint16 if bits == 16 else np.uint8).view(kind(label))


def around_every_float16() -> Array:
    """Every float16, and float32 numbers just beside each: ties, and what is just off them."""
    exact = every_code("float16").astype(np.float32)
    bits = exact.view(np.uint32)
    return np.concatenate([exact, (bits + 1).view(np.float32), (bits - 1).view(np.float32)])


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("target", FLOAT8)
def test_every_float16_and_bfloat16_becomes_the_nearest_float8(target: str, saturate: int) -> None:
    for x in (every_code("float16"), every_code("bfloat16"), around_every_float16()):
        with np.errstate(all="ignore"):
            expected = cast_to(x, code(target), bool(saturate))
        check_node("Cast", [x], {"to": code(target), "saturate": saturate}, 25, expected=[expected])


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("target", FLOAT8)
def test_float8_with_any_instruction_set(target: str, features: str | None) -> None:
    x = (RNG.standard_normal(517) * 100).astype(np.float32)
    attributes = {"to": code(target)}
    check_node("Cast", [x], attributes, 25, expected=[cast_to(x, code(target), True)], features=features)


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_exponents_are_rounded_as_asked(mode: str, saturate: int) -> None:
    attributes = {"to": code("float8e8m0"), "saturate": saturate, "round_mode": mode}
    for x in (around_every_float16(), every_code("bfloat16")):
        expected = cast_to(x, code("float8e8m0"), bool(saturate), mode)
        check_node("Cast", [x], attributes, 25, expected=[expected])


@pytest.mark.parametrize("target", [*WIDE, "bool"])
@pytest.mark.parametrize("source", [*FLOAT8, "float8e8m0"])
def test_every_float8_is_read_exactly(source: str, target: str) -> None:
    x = every_code(source)
    check_node(
        "Cast",
        [x],
        {"to": code(target)},
        25,
        expected=[x.astype(kind(target))],
        tol=0 if target != "bfloat16" else None,
    )


@pytest.mark.parametrize("target", FLOAT8)
@pytest.mark.parametrize("source", FLOAT8)
def test_between_formats_of_eight_bits(source: str, target: str) -> None:
    x = every_code(source)
    expected = x if source == target else cast_to(x.astype(np.float32), code(target), True)
    check_node("Cast", [x], {"to": code(target)}, 25, expected=[expected])


@pytest.mark.parametrize("label", [*PACKED, *SMALL_FLOATS])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7), (67,), (4, 40), (3000,), (0, 3)])
def test_elements_of_less_than_a_byte(label: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(RNG.standard_normal(shape) * 4).astype(np.float32)
    narrow = np.asarray(x.astype(kind(label)))
    check_node("Cast", [x], {"to": code(label)}, 25, expected=[narrow])
    for wide in ("float32", "float16", "int32"):
        check_node("Cast", [narrow], {"to": code(wide)}, 25, expected=[np.asarray(narrow.astype(kind(wide)))], tol=0)


@pytest.mark.parametrize("source", ["int8", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("target", ["int4", "uint4", "int2", "uint2"])
def test_integers_wrap_to_fewer_bits(source: str, target: str) -> None:
    x = np.arange(-128, 128).astype(source)
    bits = DType.from_label(target).bits
    low = x.astype(np.int64) & ((1 << bits) - 1)
    if target.startswith("int"):
        low = np.where(low >= 1 << (bits - 1), low - (1 << bits), low)
    check_node("Cast", [x], {"to": code(target)}, 25, expected=[low.astype(np.int8).astype(kind(target))])


def test_cast_like_takes_the_type_of_the_other_input() -> None:
    x = (RNG.standard_normal((3, 5)) * 300).astype(np.float32)
    for saturate in (0, 1):
        like = np.zeros(1, kind("float8e5m2"))
        expected = cast_to(x, code("float8e5m2"), bool(saturate))
        check_node("CastLike", [x, like], {"saturate": saturate}, 25, expected=[expected])


@settings(max_examples=12)
@given(st.data())
def test_quantized_and_back(data: st.DataObject) -> None:
    """Per tensor, axis and block, with scales of any real type, against the reference."""
    label = data.draw(st.sampled_from([*FLOAT8, *PACKED]))
    real = kind(data.draw(st.sampled_from(["float32", "float16", "bfloat16"])))
    shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9)), 3)
    axis = data.draw(st.integers(0, 2))
    block = data.draw(st.integers(1, shape[axis]))
    options: dict[str, Any] = {}
    lanes: tuple[int, ...] = ()
    how = data.draw(st.sampled_from(["tensor", "axis", "block"]))
    if how == "axis":
        lanes, options = (shape[axis],), {"axis": axis}
    elif how == "block":
        lanes = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
        options = {"axis": axis, "block_size": block}
    x = (RNG.standard_normal(shape) * 5).astype(real)
    scale = np.asarray((RNG.random(lanes) + 0.3).astype(real))
    zero = np.zeros(lanes, np.int8)
    if "int" in label and data.draw(st.booleans()):
        zero = RNG.integers(0, 2, lanes).astype(np.int8)
    zero = np.asarray(np.asarray(zero).astype(kind(label)))
    check_node("QuantizeLinear", [x, scale, zero], options, 25)
    narrow = RNG.integers(-3, 4, shape).astype(np.float32).astype(kind(label))
    for constants in ((), ("x0", "x1", "x2")):
        check_node("DequantizeLinear", [narrow, scale, zero], options, 25, constants=constants)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("label", ["float4e2m1", "float8e4m3fn"])
def test_a_zero_point_of_floats_is_added_and_taken_away_again(label: str, known: bool) -> None:
    x, scale, zero = np.float32([0, 0.5, 1, -1]), np.array(0.5, np.float32), np.array(1, kind(label))
    stored = np.float32([1, 2, 3, -1]).astype(kind(label))
    constants = ("x2",) if known else ()
    check_node("QuantizeLinear", [x, scale, zero], opset=23, constants=constants, expected=[stored])
    check_node("DequantizeLinear", [stored, scale, zero], opset=23, constants=constants, expected=[x])


def test_what_is_too_large_need_not_saturate() -> None:
    x = np.array([1e6, -1e6, 3.0, np.inf, np.nan], np.float32)
    for label in FLOAT8:
        for saturate in (0, 1):
            zero = np.zeros((), kind(label))
            check_node("QuantizeLinear", [x, np.array(0.5, np.float32), zero], {"saturate": saturate}, 25)


@pytest.mark.parametrize("label", [*PACKED, "float8e4m3fn", "float8e8m0"])
def test_movement_is_of_bits(label: str) -> None:
    x = every_code("float8e8m0").reshape(16, 16) if label == "float8e8m0" else None
    x = (RNG.integers(-9, 10, (6, 7)).astype(np.float32)).astype(kind(label)) if x is None else x
    rows, columns = x.shape
    check_node("Transpose", [x], {}, 25, expected=[np.ascontiguousarray(x.T)])
    check_node("Identity", [x], {}, 25, expected=[x])
    shape = np.array([columns, rows])
    check_node("Reshape", [x, shape], {}, 25, constants=["x1"], expected=[x.reshape(columns, rows)])
    check_node("Unsqueeze", [x, np.array([0])], {}, 25, constants=["x1"], expected=[x[None]])
    padded = np.zeros((rows + 3, columns), x.dtype)
    if label != "float8e8m0":  # which has no zero to pad with
        padded[1:-2] = x
        check_node("Pad", [x, np.array([1, 0, 2, 0])], {}, 25, constants=["x1"], expected=[padded])
    check_node("Concat", [x, x], {"axis": 1}, 25, expected=[np.concatenate([x, x], 1)])
    check_node("Gather", [x, np.array([2, 0, 2])], {"axis": 1}, 25, expected=[np.ascontiguousarray(x[:, [2, 0, 2]])])
    ends = [np.array([1]), np.array([6]), np.array([1])]
    names = ["x1", "x2", "x3"]
    check_node("Slice", [x, *ends], {}, 25, constants=names, expected=[np.ascontiguousarray(x[:, 1:6])])


def test_a_matrix_of_four_bit_weights() -> None:
    """The weights are turned into floats while compiling: a run is a matrix product only."""
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    weights = RNG.integers(-8, 8, (64, 40)).astype(np.int8).astype(kind("int4"))
    scales = (RNG.random((4, 40)) + 0.5).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=16, name="dequantize"),
        helper.make_node("MatMul", ["x", "f"], ["y"], name="product"),
    ]
    ran = check_nodes(nodes, {"x": x, "w": weights, "s": scales}, ["y"], 25, constants=["w", "s"])
    assert not any("Dequantize" in step for step in ran.steps)


def test_a_round_mode_that_does_not_exist_is_declined() -> None:
    x = np.ones(3, np.float32)
    attributes = {"to": code("float8e8m0"), "round_mode": "sideways"}
    assert "round mode 'sideways'" in rejection("Cast", [x], [x.astype(kind("float8e8m0"))], attributes, 25)
