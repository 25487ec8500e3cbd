"""Gemm and MatMul: transposition, broadcasting, constants on either side, element types, fusion, instruction sets."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from harness import FEATURES, check_node, check_nodes, rejection
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

Array = np.ndarray[Any, Any]
STACKS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (4, 5)),
    ((17, 33), (33, 100)),
    ((1, 64), (64, 64)),
    ((2, 3, 5, 7), (7, 9)),
    ((2, 3, 5, 7), (3, 7, 9)),
    ((2, 1, 5, 7), (1, 3, 7, 33)),
    ((5, 4), (1, 1, 4, 2)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 3)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
]


def random(seed: int, shape: tuple[int, ...], dtype: str = "float32") -> Array:
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 9, shape).astype(dtype)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("constants", [(), ("x0",), ("x1",)])
@pytest.mark.parametrize(("left", "right"), STACKS)
def test_matmul(
    left: tuple[int, ...], right: tuple[int, ...], constants: tuple[str, ...], features: str | None
) -> None:
    check_node("MatMul", [random(0, left), random(1, right)], constants=constants, features=features)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64", "uint32", "uint64"])
@pytest.mark.parametrize(("left", "right"), STACKS[::3])
def test_matmul_of_other_types(left: tuple[int, ...], right: tuple[int, ...], dtype: str) -> None:
    check_node("MatMul", [random(0, left, dtype), random(1, right, dtype)])


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("addend", [None, (), (1,), (37,), (11, 37), (11, 1), (1, 37)])
def test_gemm(addend: tuple[int, ...] | None, features: str | None) -> None:
    for trans_a, trans_b, constant_right, constant_addend in itertools.product((0, 1), repeat=4):
        a = random(0, (19, 11) if trans_a else (11, 19))
        b = random(1, (37, 19) if trans_b else (19, 37))
        inputs = [a, b] + ([] if addend is None else [random(2, addend)])
        constants = ("x1",) * constant_right + ("x2",) * (constant_addend and addend is not None)
        for factors in ({}, {"alpha": 0.5, "beta": 2.0}):
            attributes = {"transA": trans_a, "transB": trans_b, **factors}
            check_node("Gemm", inputs, attributes, constants=constants, features=features)


def test_gemm_with_beta_zero_ignores_its_addend() -> None:
    a, b = random(0, (3, 4)), random(1, (4, 5))
    check_node("Gemm", [a, b, np.full(5, np.nan, np.float32)], {"beta": 0.0}, expected=[a @ b])


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64", "uint32", "uint64"])
def test_gemm_of_other_types(dtype: str) -> None:
    inputs = [random(0, (7, 5), dtype), random(1, (9, 7), dtype), random(2, (9,), dtype)]
    factors = {"alpha": 0.3, "beta": 0.7} if dtype == "float64" else {}
    check_node("Gemm", inputs, {"transA": 1, "transB": 1, **factors})


def test_gemm_of_integers_with_factors_is_declined() -> None:
    a = np.ones((2, 2), np.int32)
    assert "alpha or beta" in rejection("Gemm", [a, a], [a], {"alpha": 0.5})


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("columns", [64, 100])
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_bias_and_activation_are_part_of_the_product(activation: str, columns: int, features: str | None) -> None:
    given_ = {"x": random(0, (2, 9, 31)), "w": random(1, (31, columns)), "b": random(2, (columns,))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node(activation, ["s"], ["y"]),
    ]
    ran = check_nodes(nodes, given_, ["y"], constants=("w", "b"), features=features)
    assert not any(step in ("Add", activation) for step in ran.steps)


@pytest.mark.parametrize("features", FEATURES)
def test_residual_with_columns_left_over(features: str | None) -> None:
    given_ = {"x": random(0, (9, 31)), "w": random(1, (31, 31))}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "x"], ["y"])]
    ran = check_nodes(nodes, given_, ["y"], constants=("w",), features=features)
    assert "Add" not in ran.steps


@settings(max_examples=40)
@given(
    rows=st.integers(1, 70),
    steps=st.integers(1, 70),
    columns=st.integers(1, 200),
    constant=st.booleans(),
    threads=st.integers(1, 2),
    features=st.sampled_from(FEATURES),
)
def test_any_size(rows: int, steps: int, columns: int, constant: bool, threads: int, features: str | None) -> None:
    inputs = [random(0, (rows, steps)), random(1, (steps, columns))]
    check_node("MatMul", inputs, constants=("x1",) if constant else (), threads=threads, features=features)


@pytest.mark.parametrize("features", FEATURES)
def test_products_share_the_packed_form_of_a_weight_only_where_it_is_the_same(features: str | None) -> None:
    """A square weight is read as it is, and transposed; two that read it alike share one packed copy."""
    feeds = {"x": random(0, (11, 24)), "w": random(1, (24, 24))}
    orders = itertools.permutations(
        [
            helper.make_node("MatMul", ["x", "w"], ["as it is"]),
            helper.make_node("Gemm", ["x", "w"], ["transposed"], transB=1),
            helper.make_node("Gemm", ["x", "w"], ["as it is, too"]),
        ]
    )
    for nodes in orders:
        outputs = [name for node in nodes for name in node.output]
        found = check_nodes(nodes, feeds, outputs, constants=["w"], features=features).outputs
        np.testing.assert_allclose(found["transposed"], feeds["x"] @ feeds["w"].T, atol=1e-4)
