"""Activation functions, Clip, Dropout, Identity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import FEATURES, check_node, check_nodes, rejection
from onnx import helper

Array = npt.NDArray[Any]
EDGES = [0.0, -0.0, 1e-6, -1e-6, 0.3, -0.3, 0.92, -0.93, 3.0, -3.0, 6.0, -6.5, 20.0, -20.0, 90.0, -90.0, 1e-40, np.nan]


def inputs(dtype: str = "float32") -> Array:
    dense = np.random.default_rng(0).uniform(-8, 8, 300)
    return np.concatenate([EDGES, dense]).astype(dtype)


def erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.tolist()])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


CASES: list[tuple[str, dict[str, float | str], Callable[[Array], Array]]] = [
    ("Relu", {}, lambda x: np.maximum(x, 0)),
    ("Sigmoid", {}, sigmoid),
    ("Tanh", {}, np.tanh),
    ("LeakyRelu", {}, lambda x: np.where(x < 0, 0.01 * x, x)),
    ("LeakyRelu", {"alpha": 0.3}, lambda x: np.where(x < 0, 0.3 * x, x)),
    ("ThresholdedRelu", {}, lambda x: np.where(x <= 1, 0, x)),
    ("ThresholdedRelu", {"alpha": -0.5}, lambda x: np.where(x <= -0.5, 0, x)),
    ("Elu", {}, lambda x: np.where(x < 0, np.expm1(x), x)),
    ("Elu", {"alpha": 1.7}, lambda x: np.where(x < 0, 1.7 * np.expm1(x), x)),
    ("Selu", {}, lambda x: 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(x), x)),
    ("Selu", {"alpha": 2.0, "gamma": 3.0}, lambda x: 3 * np.where(x < 0, 2 * np.expm1(x), x)),
    ("Celu", {}, lambda x: np.where(x < 0, np.expm1(x), x)),
    ("Celu", {"alpha": 2.5}, lambda x: np.where(x < 0, 2.5 * np.expm1(x / 2.5), x)),
    ("HardSigmoid", {}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    ("HardSigmoid", {"alpha": 0.4, "beta": 0.1}, lambda x: np.clip(0.4 * x + 0.1, 0, 1)),
    ("HardSwish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    ("Softplus", {}, lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    ("Softsign", {}, lambda x: x / (1 + np.abs(x))),
    ("Mish", {}, lambda x: x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))),
    ("Shrink", {}, lambda x: np.where(np.abs(x) > 0.5, x, 0) + 0 * x),
    ("Shrink", {"bias": 1.5, "lambd": 2.0}, lambda x: np.where(x < -2, x + 1.5, np.where(x > 2, x - 1.5, 0 * x))),
    ("Gelu", {}, lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
    (
        "Gelu",
        {"approximate": "tanh"},
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    ("Swish", {}, lambda x: x * sigmoid(x)),
    ("Swish", {"alpha": 1.4}, lambda x: x * sigmoid(1.4 * x)),
]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(("op", "attributes", "exact"), CASES)
def test_against_exact_values(
    op: str, attributes: dict[str, Any], exact: Callable[[Array], Array], features: str | None
) -> None:
    x = inputs()
    if op == "Shrink":
        x = x[~np.isnan(x)]
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64))
    ran = check_node(op, [x], attributes, 24, expected=[wanted.astype(np.float32)], tol=1e-6, features=features)
    small = np.abs(x) < 1e-3
    # relative accuracy where the result is small, too; Gelu's left tail is only as good as 1e-6 of the largest result
    np.testing.assert_allclose(ran.outputs["y0"][small], wanted[small], rtol=1e-5, atol=1e-44)


@pytest.mark.parametrize(("op", "attributes", "exact"), CASES)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_float_types(op: str, attributes: dict[str, Any], exact: Callable[[Array], Array], dtype: str) -> None:
    x = inputs(dtype)
    x = x[~np.isnan(x)]
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64)).astype(dtype)
    tol = 2e-7 if dtype == "float64" else 2e-3  # attributes are float32
    check_node(op, [x], attributes, 24, expected=[wanted], tol=tol)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_relu_of_integers(dtype: str) -> None:
    check_node("Relu", [np.arange(-40, 40).astype(dtype)])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("slope", [(1,), (5, 1, 1), (7,), (3, 5, 6, 7)])
def test_prelu_slopes(slope: tuple[int, ...], dtype: str) -> None:
    generator = np.random.default_rng(1)
    x = generator.integers(-9, 9, (3, 5, 6, 7)).astype(dtype)
    check_node("PRelu", [x, generator.integers(-3, 4, slope).astype(dtype)], opset=16)


@pytest.mark.parametrize("blocked", [True, False])
def test_prelu_slope_per_channel_in_either_layout(blocked: bool) -> None:
    x = np.random.default_rng(1).normal(size=(2, 19, 4, 5)).astype(np.float32)
    slope = np.linspace(-1, 1, 19, dtype=np.float32).reshape(19, 1, 1)
    check_node("PRelu", [x, slope], constants=["x1"], blocked=["x0"] if blocked else [])


def test_contrib_gelus() -> None:
    x, bias = inputs()[:-1].reshape(1, -1), np.full(317, 0.25, np.float32)
    x = np.resize(x, (3, 317)).astype(np.float32)
    for op, given, attributes in (
        ("Gelu", [x], {}),
        ("BiasGelu", [x, bias], {}),
        ("FastGelu", [x, bias], {}),
        ("FastGelu", [x], {}),
        ("QuickGelu", [x], {"alpha": 1.5}),
        ("QuickGelu", [x], {}),
    ):
        check_node(op, given, attributes, domain="com.microsoft", oracle="onnxruntime", tol=2e-6)


# --- Clip -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("constant", [True, False])
def test_clip_with_bounds_as_inputs(dtype: str, constant: bool) -> None:
    x = np.arange(90).astype(dtype)
    low, high = np.array(20, dtype), np.array(70, dtype)
    for bounds in ([low, high], [low, None], [None, high], [None, None], [high, low]):
        names = [f"x{i + 1}" for i, bound in enumerate(bounds) if bound is not None]
        check_node("Clip", [x, *bounds], opset=13, constants=names if constant else [])


def test_clip_with_bounds_as_attributes() -> None:
    x = inputs()
    check_node("Clip", [x], {"min": -0.5, "max": 2.0}, opset=6, expected=[np.clip(x, -0.5, 2.0)])
    check_node("Clip", [x], {"max": 2.0}, opset=6, expected=[np.minimum(x, 2.0)])


def test_clip_keeps_nan() -> None:
    x = np.array([np.nan, 1.0, -1.0], np.float32)
    check_node("Clip", [x, np.float32(0), np.float32(0.5)])


# --- passing on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int64", "bool", "complex64"])
def test_identity(dtype: str) -> None:
    check_node("Identity", [np.arange(35).reshape(5, 7).astype(dtype)], tol=0)


def test_identity_of_a_constant() -> None:
    check_node("Identity", [np.arange(35, dtype=np.float32)], constants=["x0"])


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_dropout_passes_on_at_inference(opset: int) -> None:
    x = inputs()
    check_node("Dropout", [x], opset=opset, expected=[x])


@pytest.mark.parametrize("opset", [10, 12, 22])
def test_dropout_mask_is_all_true(opset: int) -> None:
    x = inputs().reshape(2, -1)
    check_node("Dropout", [x], opset=opset, outputs=2, expected=[x, np.ones(x.shape, bool)])


def test_dropout_in_training_mode_is_declined() -> None:
    x = inputs()
    given = [x, np.float32(0.5), np.array(True)]
    assert "training" in rejection("Dropout", given, [x], constants=["x2"])
    assert "training_mode" in rejection("Dropout", given, [x])
    assert "training" in rejection("Dropout", [x], [x], opset=6)


def test_dropout_inside_a_chain() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node("Dropout", ["a"], ["b"], name="b"),
        helper.make_node("Neg", ["b"], ["y"], name="y"),
    ]
    assert check_nodes(nodes, {"x": inputs()}, ["y"]).steps == ("Relu+Dropout+Neg",)
