"""Cast and CastLike."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from harness import FEATURES, check_node

from mace_core.tensor import DType

Array = npt.NDArray[Any]
TYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)


def of_type(values: Any, dtype: str) -> Array:
    return np.asarray(values).astype(DType.from_label(dtype).numpy)


def code(dtype: str) -> int:
    return DType.from_label(dtype).value


@pytest.mark.parametrize("target", TYPES)
@pytest.mark.parametrize("source", TYPES)
def test_every_pair_of_types(source: str, target: str) -> None:
    values = (
        [0, 1, 2, 3, 5, 100, 77] if source.startswith("u") or target.startswith("u") else [0, 1, -1, 2, -5, 100, -77]
    )
    if "float" in source:
        values = [*values, *(0.5 + v if v >= 0 else v - 0.25 for v in values)]
    x = of_type(np.resize(np.array(values), 75), source)
    check_node("Cast", [x], {"to": code(target)}, expected=[x.astype(DType.from_label(target).numpy)], tol=0)


@pytest.mark.parametrize("source", ["int8", "int32", "int64"])
@pytest.mark.parametrize("target", ["int8", "uint8", "uint16", "int32", "uint32", "uint64"])
def test_integers_wrap(source: str, target: str) -> None:
    info = np.iinfo(source)
    x = np.array([info.min, info.max, -1, -2, 0, 77] * 9, source)
    check_node("Cast", [x], {"to": code(target)}, expected=[x.astype(target)])


@pytest.mark.parametrize("target", ["uint8", "int8", "uint16", "uint32", "uint64"])
def test_negative_floats_to_narrow_integers_wrap(target: str) -> None:
    x = np.array([-1.0, -2.7, -100.0, 200.0], np.float32)
    wanted = np.trunc(x).astype(np.int64).astype(target)
    check_node("Cast", [x], {"to": code(target)}, expected=[wanted])


def test_floats_out_of_range_do_not_trap() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)
    top, bottom = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    check_node("Cast", [x], {"to": code("int64")}, expected=[np.array([0, top, bottom, top])])


def test_anything_but_zero_is_true() -> None:
    x = np.array([0.0, -0.0, 1e-45, np.nan, np.inf, -3.0], np.float32)
    check_node("Cast", [x], {"to": code("bool")}, expected=[np.array([False, False, True, True, True, True])])


@pytest.mark.parametrize("features", FEATURES)
def test_every_half_is_exact_as_float(features: str | None) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = x[~np.isnan(x)]
    check_node("Cast", [x], {"to": code("float32")}, expected=[x.astype(np.float32)], tol=0, features=features)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_narrowing_rounds_to_nearest_even(target: str, features: str | None) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 20_000, dtype=np.uint32)
    every = np.concatenate([bits.view(np.float32), np.linspace(-2e-4, 2e-4, 20_001, dtype=np.float32)])
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = halves[np.isfinite(halves)] * np.float32(1 + 2**-11)
    x = np.concatenate([every, ties, np.array([65504, 65519, 65520, 65536, 1e-8, np.inf, -np.inf], np.float32)])
    x = x[~np.isnan(x)]
    kind = np.float16 if target == "float16" else ml_dtypes.bfloat16
    with np.errstate(over="ignore"):
        wanted = x.astype(kind)
    check_node("Cast", [x], {"to": code(target)}, expected=[wanted], tol=0, features=features)


def test_nan_survives_narrowing() -> None:
    x = np.array([np.nan, -np.nan, 1.0], np.float32)
    for target in ("float16", "bfloat16"):
        kind = DType.from_label(target).numpy
        check_node("Cast", [x], {"to": code(target)}, expected=[x.astype(kind)])


def test_cast_like() -> None:
    x = np.array([1.5, -2.5, 0.0], np.float32)
    check_node("CastLike", [x, np.zeros(3, np.int32)])
    check_node("CastLike", [x, np.zeros((), bool)])


def test_cast_to_the_same_type_shares_the_buffer() -> None:
    ran = check_node("Cast", [np.ones(5, np.float32)], {"to": code("float32")})
    assert ran.steps == ("Copy",)
