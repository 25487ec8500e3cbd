"""Softmax and its kin, and normalization over rows, channels, groups and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import FEATURES, check_node, check_nodes, rejection
from onnx import helper

Array = npt.NDArray[Any]


def numbers(*shape: int, dtype: str = "float32", seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# --- Softmax ----------------------------------------------------------------------------------------------------------

SHAPES = [(5,), (3, 128), (2, 3, 21), (2, 19, 7), (1, 4, 5, 33), (2, 300), (70, 1)]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_along_every_axis(op: str, shape: tuple[int, ...], features: str | None) -> None:
    for axis in range(-len(shape), len(shape)):
        check_node(op, [numbers(*shape)], {"axis": axis}, opset=13, features=features, tol=2e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
def test_softmax_before_opset_13_flattens(op: str, axis: int | None) -> None:
    attributes = {} if axis is None else {"axis": axis}
    check_node(op, [numbers(2, 3, 4, 5)], attributes, opset=11, oracle="onnxruntime")


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_defaults_and_float64(op: str) -> None:
    check_node(op, [numbers(3, 5, 41)], opset=13)
    check_node(op, [numbers(3, 5, 41, dtype="float64")], opset=13)
    check_node(op, [numbers(3, 5, 41, dtype="float64")], {"axis": 1}, opset=13)


@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_extreme_numbers(axis: int) -> None:
    x = np.zeros((40, 40), np.float32)
    x[3] = 3e38
    x[:, 7] = -3e38
    x[5, 5] = 90
    x[6, :20] = -np.inf
    x[8, 8] = np.nan
    check_node("Softmax", [x], {"axis": axis})
    lowered = x[:3].astype(np.float64) - x[:3].max(axis, keepdims=True)
    wanted = lowered - np.log(np.exp(lowered).sum(axis, keepdims=True))
    check_node("LogSoftmax", [x[:3]], {"axis": axis}, expected=[wanted.astype(np.float32)])


def test_hardmax_takes_the_first_of_equal_elements() -> None:
    x = np.array([[1, 3, 3, 2], [0, 0, 0, 0]], np.float32)
    check_node("Hardmax", [x], expected=[np.array([[0, 1, 0, 0], [1, 0, 0, 0]], np.float32)])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_empty_softmax(op: str) -> None:
    x = np.zeros((0, 5), np.float32)
    check_node(op, [x], expected=[x])


def test_softmax_on_two_threads() -> None:
    check_node("Softmax", [numbers(1536, 128)], threads=2)
    check_node("Softmax", [numbers(8, 128, 65)], {"axis": 1}, threads=2)


# --- LayerNormalization, RMSNormalization -----------------------------------------------------------------------------


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("axis", [-1, 1, -2, 0])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis: int, bias: bool, features: str | None) -> None:
    x = numbers(3, 5, 43)
    row = x.shape[axis:]
    inputs = [x, numbers(*row, seed=1), numbers(*row, seed=2) if bias else None]
    check_node("LayerNormalization", inputs, {"axis": axis}, opset=17, features=features)


@pytest.mark.parametrize("length", [1, 7, 16, 63, 64, 65, 768])
def test_layer_normalization_of_every_length(length: int) -> None:
    x = numbers(4, length) + 3
    check_node("LayerNormalization", [x, numbers(length), numbers(length)], {"epsilon": 1e-3}, opset=17)


def test_layer_normalization_statistics() -> None:
    x = numbers(3, 5, 40)
    inputs = [x, numbers(40), numbers(40)]
    check_node("LayerNormalization", inputs, opset=17, outputs=3)
    check_node("LayerNormalization", inputs, opset=17, outputs=(True, False, True))
    check_node("LayerNormalization", inputs, opset=17, outputs=2)


def test_layer_normalization_scale_that_broadcasts() -> None:
    x, scale = numbers(3, 5, 40), numbers(1)
    check_node("LayerNormalization", [x, scale], opset=17, constants=["x1"])
    check_node("LayerNormalization", [x, numbers(1, 40)], {"axis": 1}, opset=17, constants=["x1"])
    assert "normalized element" in rejection("LayerNormalization", [x, scale], [x], opset=17)


def test_layer_normalization_of_a_large_mean() -> None:
    x = numbers(4, 300) + 1000
    check_node("LayerNormalization", [x, np.ones(300, np.float32)], opset=17, tol=2e-4)


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(axis: int) -> None:
    x = numbers(3, 5, 43)
    check_node("RMSNormalization", [x, numbers(*x.shape[axis:])], {"axis": axis}, opset=23)


def written_out(*, square: str = "Pow", axis: int = -1, affine: bool = True) -> list[Any]:
    """LayerNormalization of x as elementary nodes."""
    second = {"Pow": ["d", "two"], "Mul": ["d", "d"]}[square]
    last = "n" if affine else "y"
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], name="m", axes=[axis]),
        helper.make_node("Sub", ["x", "m"], ["d"], name="d"),
        helper.make_node(square, second, ["q"], name="q"),
        helper.make_node("ReduceMean", ["q"], ["v"], name="v", axes=[axis]),
        helper.make_node("Add", ["v", "epsilon"], ["e"], name="e"),
        helper.make_node("Sqrt", ["e"], ["r"], name="r"),
        helper.make_node("Div", ["d", "r"], [last], name="n"),
    ]
    if affine:
        nodes.append(helper.make_node("Mul", ["n", "scale"], ["w"], name="w"))
        nodes.append(helper.make_node("Add", ["w", "shift"], ["y"], name="y"))
    return nodes


WRITTEN_OUT = {
    "x": numbers(3, 5, 40),
    "two": np.float32(2),
    "epsilon": np.float32(1e-5),
    "scale": numbers(40, seed=1),
    "shift": numbers(40, seed=2),
}


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("constant", [True, False])
def test_layer_normalization_written_out_is_one_kernel(square: str, affine: bool, constant: bool) -> None:
    names = ["two", "epsilon", *(["scale", "shift"] if constant else [])]
    used = {n for e in written_out(square=square, affine=affine) for n in e.input}
    inputs = {k: v for k, v in WRITTEN_OUT.items() if k in used}
    nodes = written_out(square=square, affine=affine)
    ran = check_nodes(nodes, inputs, ["y"], opset=13, constants=[n for n in names if n in used])
    assert len(ran.steps) == 1


def test_what_only_looks_like_a_layer_normalization() -> None:
    inputs, constants = dict(WRITTEN_OUT), ["two", "epsilon", "scale", "shift"]
    ran = check_nodes(written_out(), inputs, ["y", "v"], opset=13, constants=constants)
    assert len(ran.steps) > 1
    check_nodes(written_out(axis=1), inputs, ["y"], opset=13, constants=constants)
    inputs["two"] = np.float32(4)
    check_nodes(written_out(), inputs, ["y"], opset=13, constants=constants)


# --- InstanceNormalization, GroupNormalization ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 3, 50), (2, 4, 3, 3, 3), (2, 3, 1, 1)])
@pytest.mark.parametrize("features", FEATURES)
def test_instance_normalization(shape: tuple[int, ...], features: str | None) -> None:
    inputs = [numbers(*shape), numbers(shape[1], seed=1), numbers(shape[1], seed=2)]
    check_node("InstanceNormalization", inputs, opset=6, features=features)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(groups: int, opset: int) -> None:
    x = numbers(2, 6, 5, 9)
    count = groups if opset == 18 else 6
    scale, bias = numbers(count, seed=1), numbers(count, seed=2)
    per_group = x.reshape(2, groups, -1).astype(np.float64)
    normal = (per_group - per_group.mean(-1, keepdims=True)) / np.sqrt(per_group.var(-1, keepdims=True) + 1e-5)
    wide = [np.repeat(a, 6 // count).reshape(6, 1, 1) for a in (scale, bias)]
    wanted = (normal.reshape(x.shape) * wide[0] + wide[1]).astype(np.float32)
    attributes = {"num_groups": groups}
    check_node("GroupNormalization", [x, scale, bias], attributes, opset=opset, expected=[wanted])


# --- BatchNormalization -----------------------------------------------------------------------------------------------


def batch_inputs(*shape: int, dtype: str = "float32") -> list[Array]:
    c = shape[1]
    parameters = [numbers(c, seed=i, dtype=dtype) for i in (1, 2, 3)]
    return [numbers(*shape, dtype=dtype), *parameters, np.abs(numbers(c, seed=4, dtype=dtype)) + 0.1]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("blocked", [True, False])
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization(opset: int, blocked: bool, constant: bool) -> None:
    names = ["x1", "x2", "x3", "x4"]
    ran = check_node(
        "BatchNormalization",
        batch_inputs(2, 19, 5, 6),
        {"epsilon": 1e-3},
        opset,
        constants=names if constant else [],
        blocked=["x0"] if blocked else [],
        oracle="onnxruntime",
    )
    assert ("ToPlain" in ran.steps) == blocked


@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 4), (2, 3, 4, 5, 2)])
def test_batch_normalization_of_other_ranks(shape: tuple[int, ...]) -> None:
    check_node("BatchNormalization", batch_inputs(*shape), opset=15)
    check_node("BatchNormalization", batch_inputs(*shape, dtype="float64"), opset=15)


def test_batch_normalization_joins_a_chain() -> None:
    x, *parameters = batch_inputs(2, 19, 5, 6)
    names = ["scale", "bias", "mean", "variance"]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node("BatchNormalization", ["a", *names], ["b"], name="b"),
        helper.make_node("Relu", ["b"], ["y"], name="y"),
    ]
    inputs = {"x": x, **dict(zip(names, parameters, strict=True))}
    ran = check_nodes(nodes, inputs, ["y"], opset=15, constants=names, blocked=["x"])
    assert ran.steps[-2:] == ("Relu+BatchNormalization+Relu", "ToPlain")


def test_batch_normalization_in_training_mode_is_declined() -> None:
    inputs = batch_inputs(2, 3, 4, 5)
    assert "training" in rejection("BatchNormalization", inputs, [inputs[0]], {"training_mode": 1}, opset=15)


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_local_response_normalization(size: int, dtype: str) -> None:
    x = numbers(2, 9, 5, 7, dtype=dtype)
    for given in ({"alpha": 0.02, "beta": 0.6, "bias": 2.0}, {}):
        alpha, beta, bias = given.get("alpha", 1e-4), given.get("beta", 0.75), given.get("bias", 1.0)
        total = np.zeros(x.shape)
        for c in range(9):
            window = slice(max(c - (size - 1) // 2, 0), min(c + -(-(size - 1) // 2), 8) + 1)
            total[:, c] = (x[:, window].astype(np.float64) ** 2).sum(1)
        wanted = (x / (bias + alpha / size * total) ** beta).astype(dtype)
        # attributes are float32
        check_node("LRN", [x], {"size": size, **given}, opset=13, expected=[wanted], tol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_lp_normalization(p: int, axis: int) -> None:
    check_node("LpNormalization", [numbers(4, 5, 6)], {"p": p, "axis": axis}, oracle="onnxruntime")


def test_lp_normalization_of_zeros() -> None:
    x = np.zeros((2, 5), np.float32)
    x[0] = 1
    check_node("LpNormalization", [x], expected=[np.array([[5**-0.5] * 5, [0] * 5], np.float32)])


@pytest.mark.parametrize("axes", [None, [0, 2, 3], [2, 3], [1], [0, 1, 2, 3], [-1], [0, 3]])
def test_mean_variance_normalization(axes: list[int] | None) -> None:
    x = numbers(3, 4, 5, 6)
    check_node("MeanVarianceNormalization", [x], {} if axes is None else {"axes": axes}, opset=13)
