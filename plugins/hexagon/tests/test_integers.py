"""Integers of every width are exact: in 32 bits, wrapped as ONNX says, refused where 32 bits do not suffice."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hexagon_support import Array, onnxruntime_outputs
from onnx import helper

from mace_core.errors import OutOfRangeError, StrictPlacementError
from mace_core.session import Session

pytestmark = pytest.mark.usefixtures("library_folder")

NARROW = ("int8", "uint8", "int16", "uint16")


def model(
    nodes: list[onnx.NodeProto], feeds: dict[str, Array], outputs: dict[str, npt.DTypeLike], **constants: Array
) -> onnx.ModelProto:
    """A model of any element types; the shapes of its outputs are left to inference."""
    graph = helper.make_graph(
        nodes,
        "integers",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feeds.items()
        ],
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
            for name, dtype in outputs.items()
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 10
    return made


def run(made: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """On the emulated HTP alone."""
    with Session(made, devices=["hexagon:v75"], strict=True, cache=False) as session:
        return {name: np.asarray(array) for name, array in session.run(feeds).items()}


def samples(dtype: str, seed: int = 0) -> Array:
    """Both ends of the range, numbers around zero, and any."""
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(2**30) + 1), min(limits.max, 2**30 - 1)
    ends = [low, low + 1, 0, 1, high - 1, high]
    some = np.random.default_rng(seed).integers(low, high, 18, endpoint=True)
    return np.concatenate([ends, some]).astype(dtype)


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_integers_overflow_as_they_do_on_a_processor(dtype: str) -> None:
    x, y = samples(dtype), samples(dtype, 1)[::-1].copy()
    operations: dict[str, Any] = {"Add": np.add, "Sub": np.subtract, "Max": np.maximum, "Min": np.minimum}
    if dtype != "uint16":  # whose products do not fit
        operations["Mul"] = np.multiply
    nodes = [helper.make_node(op, ["x", "y"], [op], name=op) for op in operations]
    found = run(model(nodes, {"x": x, "y": y}, dict.fromkeys(operations, dtype)), {"x": x, "y": y})
    for op, function in operations.items():
        assert found[op].dtype == dtype
        np.testing.assert_array_equal(found[op], function(x, y), op)


@pytest.mark.parametrize("dtype", [*NARROW, "int32", "int64"])
def test_comparisons_and_moves_of_integers_are_exact(dtype: str) -> None:
    x, y = samples(dtype).reshape(4, 6), samples(dtype, 1).reshape(4, 6)
    y[0] = x[0]
    nodes = [
        *(helper.make_node(op, ["x", "y"], [op], name=op) for op in ("Less", "GreaterOrEqual", "Equal")),
        helper.make_node("Transpose", ["x"], ["Turned"], name="turn"),
        helper.make_node("ReduceMax", ["x"], ["Highest"], name="highest", keepdims=0),
        helper.make_node("ArgMin", ["x"], ["Where"], name="where", axis=1, keepdims=0, select_last_index=1),
    ]
    outputs = {"Less": bool, "GreaterOrEqual": bool, "Equal": bool, "Turned": dtype, "Highest": dtype, "Where": "int64"}
    found = run(model(nodes, {"x": x, "y": y}, outputs), {"x": x, "y": y})
    np.testing.assert_array_equal(found["Less"], x < y)
    np.testing.assert_array_equal(found["GreaterOrEqual"], x >= y)
    np.testing.assert_array_equal(found["Equal"], x == y)
    np.testing.assert_array_equal(found["Turned"], x.T)
    assert found["Highest"] == x.max()
    np.testing.assert_array_equal(found["Where"], 5 - x[:, ::-1].argmin(1))


def test_unsigned_integers_of_32_bits_compare_as_such() -> None:
    x = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 7], np.uint32)
    y = np.array([0, 2**32 - 1, 2**31, 2**31 - 1, 2**32 - 2, 9], np.uint32)
    operations: dict[str, Any] = {
        "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
        "Max": np.maximum, "Min": np.minimum,
    }  # fmt: skip
    nodes = [helper.make_node(op, ["x", "y"], [op], name=op) for op in operations]
    outputs = {op: np.uint32 if op in ("Max", "Min") else bool for op in operations}
    found = run(model(nodes, {"x": x, "y": y}, outputs), {"x": x, "y": y})
    for op, function in operations.items():
        np.testing.assert_array_equal(found[op], function(x, y), op)


@pytest.mark.parametrize("divisor", [256, -8, 7])
def test_integer_division_rounds_towards_zero(divisor: int) -> None:
    """The library rounds down where the divisor is a constant power of two."""
    x = samples("int32")
    made = model(
        [helper.make_node("Div", ["x", "d"], ["y"], name="div")], {"x": x}, {"y": "int32"}, d=np.int32([divisor])
    )
    np.testing.assert_array_equal(run(made, {"x": x})["y"], np.trunc(x / divisor).astype(np.int32))


@pytest.mark.parametrize("fmod", [0, 1])
def test_the_sign_of_a_remainder(fmod: int) -> None:
    x, y = samples("int32"), np.where(np.arange(24) % 2, 7, -5).astype(np.int32)
    made = model([helper.make_node("Mod", ["x", "y"], ["z"], name="mod", fmod=fmod)], {"x": x, "y": y}, {"z": "int32"})
    np.testing.assert_array_equal(run(made, {"x": x, "y": y})["z"], (np.fmod if fmod else np.mod)(x, y))


@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
def test_casts_between_integers_keep_the_low_bits(target: str) -> None:
    x = samples("int32")
    to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
    made = model([helper.make_node("Cast", ["x"], ["y"], name="cast", to=to)], {"x": x}, {"y": target})
    np.testing.assert_array_equal(run(made, {"x": x})["y"], x.astype(target))


def test_64_bit_numbers_beyond_32_bits_are_refused_and_not_cut_off() -> None:
    x = np.array([1, 2**40, 3], np.int64)
    made = model(
        [helper.make_node("Reshape", ["x", "s"], ["y"], name="r")], {"x": x}, {"y": "int64"}, s=np.int64([3, 1])
    )
    with Session(made, devices=["hexagon:v75"], strict=True, cache=False) as session:
        with pytest.raises(OutOfRangeError, match="32 bits"):
            session.run({"x": x})
        np.testing.assert_array_equal(session.run({"x": x % 100})["y"], (x % 100).reshape(3, 1))


@pytest.mark.parametrize(("op", "is_offered"), [("Add", True), ("Mul", False)])
def test_sums_of_64_bit_numbers_are_offered_as_far_as_they_fit(op: str, is_offered: bool) -> None:
    x = samples("int64")
    made = model([helper.make_node(op, ["x", "x"], ["y"], name=op)], {"x": x}, {"y": "int64"})
    if is_offered:
        np.testing.assert_array_equal(run(made, {"x": x})["y"], x + x)
    else:
        with pytest.raises(StrictPlacementError, match="32 bits"):
            run(made, {"x": x})


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_shifts(dtype: str, direction: str) -> None:
    x = samples(dtype)
    y = (np.arange(24) % (8 * x.itemsize)).astype(dtype)
    made = model(
        [helper.make_node("BitShift", ["x", "y"], ["z"], name="s", direction=direction)],
        {"x": x, "y": y},
        {"z": dtype},
    )
    expected = np.left_shift(x, y) if direction == "LEFT" else np.right_shift(x, y)
    np.testing.assert_array_equal(run(made, {"x": x, "y": y})["z"], expected)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("is_constant", [True, False])
def test_gather_takes_tables_of_indices_and_negative_ones(axis: int, is_constant: bool) -> None:
    """The library's Gather is wrong for such tables, and on some axes for computed indices."""
    x = np.random.default_rng(0).uniform(-2, 2, (3, 4, 5, 3)).astype(np.float32)
    where = np.array([[0, -1, 2], [1, 1, -3]], np.int64)
    nodes = [helper.make_node("Gather", ["x", "i"], ["y"], name="gather", axis=axis)]
    feeds = {"x": x} if is_constant else {"x": x, "i": where}
    made = model(nodes, feeds, {"y": "float32"}, **({"i": where} if is_constant else {}))
    np.testing.assert_allclose(run(made, feeds)["y"], np.take(x, where, axis), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("op", "attributes", "where", "size"),
    [
        ("GatherElements", {"axis": 1}, [[0, -1], [2, 1], [1, 1]], None),
        ("GatherND", {}, [[0, -1], [2, 1]], None),
        ("ScatterElements", {"axis": 1}, [[0, -1], [2, 1], [1, 0]], (3, 2)),
        ("ScatterND", {}, [[0, -1], [2, 1]], (2,)),
        ("ScatterND", {"reduction": "add"}, [[0, -1], [0, 3]], (2,)),
    ],
)
def test_elements_are_picked_and_placed_by_computed_indices(
    op: str, attributes: dict[str, Any], where: Any, size: tuple[int, ...] | None
) -> None:
    generator = np.random.default_rng(0)
    feeds: dict[str, Array] = {"x": generator.uniform(-2, 2, (3, 4)).astype(np.float32), "i": np.array(where, np.int64)}
    if size is not None:
        feeds["u"] = generator.uniform(-2, 2, size).astype(np.float32)
    made = model([helper.make_node(op, list(feeds), ["y"], name=op, **attributes)], feeds, {"y": "float32"})
    (expected,) = onnxruntime_outputs(made.SerializeToString(), feeds)
    np.testing.assert_allclose(run(made, feeds)["y"], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("largest", [0, 1])
def test_of_equal_numbers_the_first_is_selected(largest: int) -> None:
    x = np.float32([[1, 3, 3, 3, 0, 0], [2, 2, 2, 2, 2, 2]])
    nodes = [helper.make_node("TopK", ["x", "k"], ["v", "i"], name="top", axis=1, largest=largest)]
    made = model(nodes, {"x": x}, {"v": "float32", "i": "int64"}, k=np.int64([3]))
    found = run(made, {"x": x})
    order = np.argsort(-x if largest else x, 1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found["i"], order)
    np.testing.assert_allclose(found["v"], np.take_along_axis(x, order, 1), rtol=1e-3)
