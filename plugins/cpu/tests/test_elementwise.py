"""Elementwise operators: element types, broadcasting, edge values, fusion, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import FEATURES, check_node, check_nodes, rejection
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

Array = npt.NDArray[Any]
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "float16")
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1.5, 2.5, 1e-40, -1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan, 100.0, -100.0]


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0, low: int = -9, high: int = 9) -> Array:
    """Numbers of either sign where the type has one; whole numbers for integers."""
    generator = np.random.default_rng(seed)
    if dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.startswith("uint"):
        return generator.integers(0, high, shape).astype(dtype)
    if dtype.startswith("int"):
        return generator.integers(low, high, shape).astype(dtype)
    return generator.uniform(low, high, shape).astype(dtype)


# --- binary operators -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic(op: str, dtype: str) -> None:
    x, y = numbers((3, 5, 43), dtype), numbers((5, 1), dtype, 1)
    y[y == 0] = 3
    check_node(op, [x, y], oracle=lambda _, feeds: [_arithmetic(op, feeds["x0"], feeds["x1"])])


def _arithmetic(op: str, x: Array, y: Array) -> Array:
    if op == "Div" and x.dtype.kind in "iu":
        quotient = np.abs(x.astype(object)) // np.abs(y.astype(object))
        signs = np.sign(x.astype(object)) * np.sign(y.astype(object))
        return (quotient * signs).astype(x.dtype)
    found: Array = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[op](x, y)
    return found


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("features", FEATURES)
def test_integer_division_never_traps(dtype: str, features: str | None) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.min, info.max, 0, 7, 7] * 8, dtype)
    y = np.array([0, -1 if info.min else 1, 0, 0, 0, 2] * 8, dtype)
    wrapped = info.min  # the quotient of the smallest number and -1 does not fit
    check_node("Div", [x, y], expected=[np.array([0, wrapped, 0, 0, 0, 3] * 8, dtype)], features=features)
    for fmod in (0, 1):
        rest = np.array([0, 0, 0, 0, 0, 1] * 8, dtype)
        check_node("Mod", [x, y], {"fmod": fmod}, expected=[rest], features=features)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("fmod", [0, 1])
def test_mod_of_integers(dtype: str, fmod: int) -> None:
    x, y = numbers((4, 37), dtype), numbers((4, 37), dtype, 1)
    y[y == 0] = 5
    check_node("Mod", [x, y], {"fmod": fmod})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mod_of_floats(dtype: str) -> None:
    x, y = numbers((4, 37), dtype), numbers((4, 37), dtype, 1)
    check_node("Mod", [x, y], {"fmod": 1})


@pytest.mark.parametrize("op", ["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_comparison(op: str, dtype: str) -> None:
    check_node(op, [numbers((3, 41), dtype, 0, -3, 3), numbers((41,), dtype, 1, -3, 3)])


@pytest.mark.parametrize("op", ["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"])
def test_comparison_of_edge_values(op: str) -> None:
    x = np.array(EDGES, np.float32)
    check_node(op, [x[:, None], x[None, :]])


def test_equality_of_bools() -> None:
    check_node("Equal", [numbers((3, 70), "bool"), numbers((3, 70), "bool", 1)])


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
@pytest.mark.parametrize("features", FEATURES)
def test_logic(op: str, features: str | None) -> None:
    check_node(op, [numbers((3, 4, 70), "bool"), numbers((4, 70), "bool", 1)], features=features)


@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_bitwise_logic(op: str, dtype: str) -> None:
    check_node(op, [numbers((3, 67), dtype, 0, -99, 99), numbers((67,), dtype, 1, -99, 99)])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bit_shift(dtype: str, direction: str) -> None:
    x = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, 90, dtype)
    check_node("BitShift", [x, numbers((90,), dtype, 1, 0, 7)], {"direction": direction})


def test_bit_shift_by_the_whole_width_gives_zero() -> None:
    x, y = np.full(20, 255, np.uint8), np.full(20, 8, np.uint8)
    check_node("BitShift", [x, y], {"direction": "LEFT"}, expected=[np.zeros(20, np.uint8)])


@pytest.mark.parametrize("base", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("exponent", ["float32", "float64", "int8", "int32", "int64", "uint8"])
def test_power_of_type_pairs(base: str, exponent: str) -> None:
    x = numbers((3, 21), base, 0, 1, 7)
    y = numbers((3, 21), exponent, 1, 0, 5)
    if exponent.startswith("float") and base.startswith("int"):
        y = np.round(y)
    check_node("Pow", [x, y], tol=1e-5)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 0.5, -1.0, -0.5, 2.7])
@pytest.mark.parametrize("constant", [True, False])
def test_power_with_one_exponent(exponent: float, constant: bool) -> None:
    x = np.abs(numbers((3, 21), "float32")) + 0.1
    check_node("Pow", [x, np.float32(exponent)], constants=["x1"] if constant else [])


def test_half_power_of_edge_values() -> None:
    x = np.array([0.0, np.inf, np.nan, -4.0], np.float32)
    check_node("Pow", [x, np.float32(0.5)], constants=["x1"])


def test_integer_powers_wrap_and_invert() -> None:
    x = np.array([2, 2, 1, -1, -1, 3, 0, 5], np.int32)
    y = np.array([31, -1, -5, -5, -4, 0, 0, -2], np.int32)
    check_node("Pow", [x, y], expected=[np.array([-(2**31), 0, 1, -1, 1, 1, 1, 0], np.int32)])


@pytest.mark.parametrize("op", ["Min", "Max"])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_extremes_of_several(op: str, dtype: str) -> None:
    for count in (1, 2, 3):
        check_node(op, [numbers((2, 1, 45) if i else (3, 45), dtype, i) for i in range(count)])


@pytest.mark.parametrize("op", ["Min", "Max"])
@pytest.mark.parametrize("features", FEATURES)
def test_extremes_keep_nan(op: str, features: str | None) -> None:
    x = np.array(EDGES, np.float32)
    check_node(op, [x[:, None], x[None, :]], features=features)


@pytest.mark.parametrize("op", ["Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_sums_of_several(op: str, count: int) -> None:
    arrays = [numbers((4, 1, 19) if i % 2 else (3, 19), "float32", i) for i in range(count)]
    total = np.sum(np.broadcast_arrays(*arrays), axis=0, dtype=np.float32)
    check_node(op, arrays, expected=[total / np.float32(count) if op == "Mean" else total])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
def test_where(dtype: str) -> None:
    check_node("Where", [numbers((3, 1, 40), "bool"), numbers((2, 40), dtype), numbers((1,), dtype, 1)])


# --- unary operators --------------------------------------------------------------------------------------------------

UNARY = {
    "Neg": EDGES,
    "Abs": EDGES,
    "Sign": EDGES,
    "Floor": EDGES,
    "Ceil": EDGES,
    "Round": EDGES,
    "Sqrt": EDGES,
    "Exp": EDGES,
    "Log": EDGES,
    "Reciprocal": EDGES,
    "Erf": EDGES,
    "Sin": [*EDGES[:12], 1e5, 1e7, 1e30, np.inf, np.nan],
    "Cos": [*EDGES[:12], 1e5, 1e7, 1e30, np.inf, np.nan],
    "Tan": [0.0, -0.0, 1.0, -1.3, 1e-30],
    "Asin": [0.0, -0.0, 1.0, -1.0, 0.3, 2.0],
    "Acos": [0.0, -0.0, 1.0, -1.0, 0.3, 2.0],
    "Atan": EDGES,
    "Sinh": [0.0, -0.0, 1e-6, 1.0, -8.0, np.inf],
    "Cosh": [0.0, -0.0, 1e-6, 1.0, -8.0, np.inf],
    "Asinh": [0.0, -0.0, 1e-6, 1.0, -8.0, np.inf],
    "Acosh": [1.0, 1.5, 20.0, 0.3, np.inf],
    "Atanh": [0.0, -0.0, 0.3, -0.9, 1.0, 2.0],
}


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("features", FEATURES)
def test_functions_of_one_number(op: str, features: str | None) -> None:
    x = np.resize(np.array(UNARY[op], np.float32), 83)
    check_node(op, [x], features=features, tol=2e-6)


@pytest.mark.parametrize("op", ["Neg", "Floor", "Ceil", "Round", "Sqrt", "Sin", "Erf", "Tanh", "Sign", "Asinh"])
@pytest.mark.parametrize("features", FEATURES)
def test_odd_functions_keep_the_sign_of_zero(op: str, features: str | None) -> None:
    x = np.array([0.0, -0.0] * 20, np.float32)
    got = check_node(op, [x], features=features).outputs["y0"]
    np.testing.assert_array_equal(np.signbit(got), np.signbit(-x if op == "Neg" else x))


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_functions_of_one_number_in_other_types(op: str, dtype: str) -> None:
    x = np.array([v for v in UNARY[op] if abs(v) < 50 or not np.isfinite(v)], dtype)
    # the reference computes erf in float32
    check_node(op, [np.resize(x, 29)], tol=1e-7 if op == "Erf" and dtype == "float64" else None)


@pytest.mark.parametrize("op", ["Neg", "Abs", "Sign"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_signs_of_integers(op: str, dtype: str) -> None:
    if op == "Neg" and dtype.startswith("u"):
        pytest.skip("Neg is defined for signed numbers only")
    check_node(op, [numbers((3, 71), dtype)])


def test_not() -> None:
    check_node("Not", [numbers((3, 71), "bool")])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bitwise_not(dtype: str) -> None:
    check_node("BitwiseNot", [numbers((3, 71), dtype)])


@pytest.mark.parametrize("dtype", FLOATS)
def test_tests_for_nan_and_infinity(dtype: str) -> None:
    with np.errstate(over="ignore"):
        x = np.array(EDGES * 3).astype(dtype)
    check_node("IsNaN", [x])
    for negative, positive in ((1, 1), (0, 1), (1, 0), (0, 0)):
        check_node("IsInf", [x], {"detect_negative": negative, "detect_positive": positive})


# --- shapes -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_broadcasting_of_any_shapes(data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, 5))
    result = data.draw(st.lists(st.sampled_from([1, 2, 3, 17, 33]), min_size=rank, max_size=rank))

    def operand() -> Array:
        dims = [d if data.draw(st.booleans()) else 1 for d in result]
        while dims and dims[0] == 1 and data.draw(st.booleans()):
            dims.pop(0)
        return numbers(tuple(dims), "int32", data.draw(st.integers(0, 99)))

    check_node("Add", [operand(), operand()])


@pytest.mark.parametrize("shapes", [((0,), (0,)), ((3, 0, 2), (1, 2)), ((0, 1), (1, 5)), ((2, 0), ())])
def test_empty_tensors(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    check_node("Mul", [np.ones(shape, np.float32) for shape in shapes])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 4096, 8192, 8193, 100_003])
def test_sizes_around_vectors_and_segments(size: int, threads: int) -> None:
    check_node("Add", [numbers((size,), "float32"), numbers((1,), "float32", 1)], threads=threads)


# --- fusion and layout ------------------------------------------------------------------------------------------------


def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def test_a_chain_is_one_kernel() -> None:
    nodes = [node("Mul", "x a", "p"), node("Add", "p b", "q"), node("Sigmoid", "q", "r"), node("Sub", "c r", "y")]
    inputs = {
        "x": numbers((2, 3, 50), "float32"),
        "a": numbers((50,), "float32", 1),
        "b": numbers((3, 1), "float32", 2),
        "c": numbers((2, 3, 50), "float32", 3),
    }
    assert check_nodes(nodes, inputs, ["y"], constants=["a"]).steps == ("Mul+Add+Sigmoid+Sub",)


def test_a_value_used_twice_stays_in_the_kernel() -> None:
    nodes = [node("Add", "x x", "p"), node("Sigmoid", "p", "s"), node("Mul", "p s", "y")]
    assert check_nodes(nodes, {"x": numbers((7, 31), "float32")}, ["y"]).steps == ("Add+Sigmoid+Mul",)


def test_an_inner_value_that_is_an_output_is_stored() -> None:
    nodes = [node("Neg", "x", "p"), node("Exp", "p", "q"), node("Identity", "p", "i"), node("Add", "p q", "y")]
    ran = check_nodes(nodes, {"x": numbers((7, 31), "float32")}, ["y", "p", "i"])
    assert [step for step in ran.steps if step != "Copy"] == ["Neg+Exp+Identity+Add"]


def test_comparison_and_selection_fuse_across_types() -> None:
    nodes = [node("Less", "x z", "m"), node("Where", "m z x", "w"), node("Cast", "w", "y", to=7)]
    inputs = {"x": numbers((5, 40), "float32"), "z": np.float32(0)}
    assert check_nodes(nodes, inputs, ["y"]).steps == ("Less+Where+Cast",)


def test_a_user_of_another_shape_is_another_kernel() -> None:
    nodes = [node("Neg", "x", "p"), node("Add", "p w", "y")]
    inputs = {"x": numbers((1, 40), "float32"), "w": numbers((5, 40), "float32")}
    assert check_nodes(nodes, inputs, ["y"]).steps == ("Neg", "Add")


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("channels", [3, 16, 20])
def test_blocked_operands_stay_blocked(channels: int, features: str | None) -> None:
    shape = (2, channels, 3, 5)
    nodes = [
        node("Mul", "x gate", "a"),
        node("Add", "a bias", "b"),
        node("Add", "b y", "c"),
        node("Mul", "c mask", "d"),
        node("Relu", "d", "out"),
    ]
    inputs = {
        "x": numbers(shape, "float32"),
        "y": numbers(shape, "float32", 1),
        "gate": numbers((2, channels, 1, 1), "float32", 2),
        "bias": numbers((channels, 1, 1), "float32", 3),
        "mask": numbers((1, 1, 3, 5), "float32", 4),
    }
    ran = check_nodes(nodes, inputs, ["out"], blocked=["x", "y", "gate"], constants=["bias"], features=features)
    assert ran.steps[-2:] == ("Mul+Add+Add+Mul+Relu", "ToPlain")


def test_blocked_and_per_channel_gate_is_walked_in_long_rows() -> None:
    ran = check_nodes(
        [node("Mul", "x gate", "out")],
        {"x": numbers((1, 32, 9, 9), "float32"), "gate": numbers((1, 32, 1, 1), "float32")},
        ["out"],
        blocked=["x", "gate"],
    )
    assert ran.steps[-2:] == ("Mul", "ToPlain")


def test_one_blocked_and_one_plain_operand() -> None:
    shape = (1, 20, 4, 4)
    inputs = {"x": numbers(shape, "float32"), "y": numbers(shape, "float32", 1)}
    check_nodes([node("Add", "x y", "out")], inputs, ["out"], blocked=["x"])


def test_comparison_of_blocked_operands() -> None:
    shape = (1, 20, 4, 4)
    inputs = {"x": numbers(shape, "float32"), "y": numbers(shape, "float32", 1)}
    check_nodes([node("Less", "x y", "out")], inputs, ["out"], blocked=["x", "y"])


# --- what is declined -------------------------------------------------------------------------------------------------


def test_broadcasting_along_an_axis_is_declined() -> None:
    x, y = np.ones((2, 3, 4), np.float32), np.ones(3, np.float32)
    assert "axis" in rejection("Add", [x, y], [x], {"axis": 1, "broadcast": 1}, opset=6)


def test_float_mod_without_fmod_is_declined() -> None:
    x = np.ones(3, np.float32)
    assert "fmod" in rejection("Mod", [x, x], [x])
