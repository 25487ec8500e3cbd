"""In float16, results that it can hold come out, though squares and exponentials on the way to them are beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from lowering_support import Array, model_of, node

from mace_core.provider import Device
from mace_core.session import Session

rng = np.random.default_rng(0)
WIDE = (1000 * rng.standard_normal((4, 32))).astype(np.float32)
"""Squares of these are beyond 65504, the largest number of float16."""

EXPONENTS = (20 * rng.standard_normal((4, 32))).astype(np.float32)
"""So are exponentials of these."""

ONES, ZEROS = np.ones(32, np.float32), np.zeros(32, np.float32)
AXIS = np.array([1], np.int64)


def run(device: Device, nodes: list[Any], x: Array, constants: Mapping[str, Array], opset: int) -> Array:
    content = model_of(nodes, x.shape, constants, opset=opset)
    with Session(content, devices=[device.qualified_name], strict=True, cache=False) as session:
        found: Array = session.run({"x": x})["y"].copy()
        return found


def softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def log_softmax(x: Array) -> Array:
    below = x - x.max(1, keepdims=True)
    return below - np.log(np.exp(below).sum(1, keepdims=True))


def standardized(x: Array) -> Array:
    return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)


CASES: dict[str, tuple[Any, Array, Mapping[str, Array], int, Any]] = {
    "LayerNormalization": (
        node("LayerNormalization", ["x", "one", "zero"]), WIDE, {"one": ONES, "zero": ZEROS}, 17, standardized
    ),
    "RMSNormalization": (
        node("RMSNormalization", ["x", "one"]), WIDE, {"one": ONES}, 23,
        lambda x: x / np.sqrt(np.square(x).mean(1, keepdims=True)),
    ),
    "MeanVarianceNormalization": (node("MeanVarianceNormalization", ["x"], axes=[1]), WIDE, {}, 17, standardized),
    "GroupNormalization": (
        node("GroupNormalization", ["x", "one", "zero"], num_groups=1), WIDE, {"one": ONES, "zero": ZEROS}, 21,
        standardized,
    ),
    "LpNormalization": (
        node("LpNormalization", ["x"], axis=1, p=2), WIDE, {}, 17,
        lambda x: x / np.sqrt(np.square(x).sum(1, keepdims=True)),
    ),
    "ReduceL2": (
        node("ReduceL2", ["x", "axis"]), WIDE, {"axis": AXIS}, 18,
        lambda x: np.sqrt(np.square(x).sum(1, keepdims=True)),
    ),
    "ReduceLogSumExp": (
        node("ReduceLogSumExp", ["x", "axis"]), EXPONENTS, {"axis": AXIS}, 18,
        lambda x: np.logaddexp.reduce(x, axis=1, keepdims=True),
    ),
    "LogSoftmax": (node("LogSoftmax", ["x"], axis=1), EXPONENTS, {}, 17, log_softmax),
    "Softmax": (node("Softmax", ["x"], axis=1), EXPONENTS, {}, 17, lambda x: np.exp(log_softmax(x))),
    "Softplus": (node("Softplus", ["x"]), EXPONENTS, {}, 17, softplus),
    "Mish": (node("Mish", ["x"]), EXPONENTS, {}, 18, lambda x: x * np.tanh(softplus(x))),
    "BatchNormalization": (
        node("BatchNormalization", ["x", "gain", "zero", "mean", "variance"]),
        (1000 + 0.5 * rng.integers(-8, 9, (4, 32))).astype(np.float32),
        {"gain": ONES, "zero": ZEROS, "mean": 1000 * ONES, "variance": np.full(32, 1e-4, np.float32)}, 17,
        lambda x: (x - 1000) / np.sqrt(1e-4 + 1e-5),
    ),
    "Gemm": (
        node("Gemm", ["x", "weights", "addend"], alpha=1e-3),
        WIDE,
        {"weights": np.full((32, 4), 200, np.float32), "addend": np.eye(4, dtype=np.float32)}, 17,
        lambda x: 1e-3 * (x @ np.full((32, 4), 200.0)) + np.eye(4),
    ),
    "Mean": (node("Mean", ["x", "x", "x"]), 60 * WIDE / np.abs(WIDE).max() * 1000, {}, 17, lambda x: x),
    "Gelu": (
        node("Gelu", ["x"], approximate="tanh"), WIDE, {}, 20,
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "Celu": (node("Celu", ["x"], alpha=0.01), WIDE, {}, 17, lambda x: np.maximum(x, 0) + 0.01 * np.expm1(np.minimum(x, 0) * 100)),  # noqa: E501
    "HardSigmoid": (node("HardSigmoid", ["x"], alpha=20.0), WIDE, {}, 17, lambda x: np.clip(20 * x + 0.5, 0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_can_be_held_comes_out(device: Device, name: str) -> None:
    operator, x, constants, opset, reference = CASES[name]
    x = x.astype(np.float16).astype(np.float32)  # what is fed can be held
    expected = reference(x.astype(np.float64))
    assert np.isfinite(expected.astype(np.float16)).all()
    np.testing.assert_allclose(run(device, [operator], x, constants, opset), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("number", [0.0, 3.0])
@pytest.mark.parametrize("name", ["LayerNormalization", "MeanVarianceNormalization", "GroupNormalization"])
def test_rows_of_one_number_have_no_deviation(device: Device, name: str, number: float) -> None:
    """An epsilon as small as float16 cannot hold does not make 0 / 0 of them."""
    attributes = {} if name == "MeanVarianceNormalization" else {"epsilon": 1e-12}
    operator, _, constants, opset, _ = CASES[name]
    for key, value in attributes.items():
        kept = [each for each in operator.attribute if each.name != key]
        made = node(name, list(operator.input), **{key: value})
        made.attribute.extend(each for each in kept if each.name not in {a.name for a in made.attribute})
        operator = made
    x = np.full((2, 32), number, np.float32)
    np.testing.assert_array_equal(run(device, [operator], x, constants, opset), 0)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_logarithms_over_the_whole_range(device: Device, precision: str) -> None:
    """Neuron has none: they are made of roots and exponentials."""
    info = np.finfo(np.float16 if precision == "float16" else np.float32)
    limits = np.log2([float(info.tiny), float(info.max) * 0.999])
    x = np.exp2(np.linspace(*limits, 501)).astype(np.float32)
    if precision == "float16":
        x = x.astype(np.float16).astype(np.float32)
    x = np.concatenate([x, np.float32([1, 0, np.inf, -1, np.nan])])
    with np.errstate(all="ignore"):
        expected = np.log(x.astype(np.float64))
    options = {"apu": {"precision": precision}}
    content = model_of([node("Log", ["x"])], x.shape)
    with Session(content, devices=[device.qualified_name], strict=True, cache=False, options=options) as session:
        found = session.run({"x": x})["y"]
    tolerance = 4e-3 if precision == "float16" else 1e-6
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
