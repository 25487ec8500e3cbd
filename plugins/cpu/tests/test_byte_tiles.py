"""Convolutions and products of bytes on tile registers (AMX): exact, and taken where that is faster.

Here the registers are emulated, which shows everything but the instructions; where the processor has them, the same
cases run on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import check_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mace_cpu.shared.precision import choose_byte_tiles, choose_instructions
from mace_cpu.shared.quads import QuadUnit
from test_byte_conv import check_conv, given_inputs
from test_byte_products import BYTES, exact, requantized, whole

from mace_core.errors import UsageError
from mace_core.native.target import host_target

Array = npt.NDArray[Any]
UNITS = {QuadUnit.AMX: "host+int8-amx", QuadUnit.AMX_EMULATED: "avx512vnni+int8-amx-emulated"}


@pytest.fixture(params=UNITS, ids=lambda unit: unit.value)
def unit(request: pytest.FixtureRequest) -> QuadUnit:
    found: QuadUnit = request.param
    try:
        target, _ = choose_instructions(UNITS[found], "float32")
        choose_byte_tiles(UNITS[found], target)
    except UsageError as missing:
        pytest.skip(str(missing))
    return found


CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1x1": ((1, 64, 9, 9), (96, 64, 1, 1), {}),
    "1x1, strided, two images": ((2, 128, 9, 12), (48, 128, 1, 1), {"strides": [2, 2]}),
    "3x3 with borders": ((1, 64, 10, 11), (64, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, strided, channels that fill no vector": (
        (1, 64, 13, 9),
        (37, 64, 3, 3),
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    ),
    "3x3, dilated, borders of one side": ((1, 64, 9, 17), (32, 64, 3, 3), {"pads": [2, 0, 0, 2], "dilations": [2, 2]}),
    "kernel rows that fill registers together": ((1, 16, 9, 20), (32, 16, 3, 4), {"pads": [1, 1, 1, 2]}),
    "groups": ((1, 128, 8, 8), (64, 64, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "one axis": ((1, 64, 40), (80, 64, 5), {"pads": [2, 2]}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("x_type", ["uint8", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_exact(case: str, x_type: str, threads: int, unit: QuadUnit) -> None:
    x_shape, w_shape, attributes = CASES[case]
    inputs = given_inputs(np.random.default_rng(3), x_shape, w_shape, (x_type, "int8", "uint8"))
    ran = check_conv(inputs, attributes, features=UNITS[unit], threads=threads)
    assert [name for name in ran.kernels if f"_{unit.value}_" in name], ran.kernels


@pytest.mark.parametrize("channels", [48, 63, 65])
def test_rows_that_are_not_full_are_left_to_vectors(channels: int, unit: QuadUnit) -> None:
    inputs = given_inputs(np.random.default_rng(4), (1, channels, 9, 9), (64, channels, 1, 1))
    ran = check_conv(inputs, {}, features=UNITS[unit])
    assert not [name for name in ran.kernels if f"_{unit.value}_" in name]


def test_extreme_numbers(unit: QuadUnit) -> None:
    inputs = given_inputs(np.random.default_rng(5), (1, 64, 8, 8), (32, 64, 3, 3))
    inputs["x"][...] = 255
    inputs["w"][...] = np.where(np.arange(32) % 2, 127, -128).reshape(-1, 1, 1, 1)
    check_conv(inputs, {"pads": [1, 1, 1, 1]}, features=UNITS[unit])


def check_product(
    unit: QuadUnit, a: Array, b: Array, a_zero: Array | None, b_zero: Array | None, *, known: bool, threads: int = 1
) -> bool:
    """Compare a MatMulInteger with the exact sums; whether tile registers were used for it."""
    inputs = {"a": a, "b": b, "az": a_zero, "bz": b_zero}
    constants = [name for name in ("b", "bz") if known and inputs[name] is not None]
    ran = check_node(
        "MatMulInteger",
        inputs,
        constants=constants,
        expected=[exact(a, b, a_zero, b_zero)],
        features=UNITS[unit],
        threads=threads,
    )
    return any(f"_{unit.value}_" in name for name in ran.kernels)


@pytest.mark.parametrize("known", [True, False], ids=["weights", "activations"])
@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
def test_products_are_exact(left: str, right: str, known: bool, unit: QuadUnit) -> None:
    rng = np.random.default_rng(6)
    for m, k, n in ((32, 64, 64), (40, 130, 70), (16, 63, 16), (7, 257, 33), (128, 32, 96)):
        a, b = whole(rng, left, (m, k)), whole(rng, right, (k, n))
        a_zero = np.array(np.iinfo(left).max, left)
        assert check_product(unit, a, b, a_zero, whole(rng, right, (n,)), known=known, threads=2), (m, k, n)
        assert check_product(unit, a, b, None, None, known=known), (m, k, n)


@given(
    batches=st.sampled_from([((), ()), ((3,), ()), ((2,), (2,)), ((2, 1), (3,)), ((), (2,))]),
    m=st.integers(1, 70),
    k=st.integers(1, 200),
    n=st.integers(1, 80),
    left=st.sampled_from(BYTES),
    right=st.sampled_from(BYTES),
    known=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stacks_of_products_are_exact(
    batches: tuple[tuple[int, ...], tuple[int, ...]],
    m: int,
    k: int,
    n: int,
    left: str,
    right: str,
    known: bool,
    seed: int,
    unit: QuadUnit,
) -> None:
    rng = np.random.default_rng(seed)
    a, b = whole(rng, left, (*batches[0], m, k)), whole(rng, right, (*batches[1], k, n))
    check_product(unit, a, b, whole(rng, left, ()), whole(rng, right, ()), known=known, threads=2)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize(("left", "right"), [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")])
def test_requantized_products_are_those_of_onnxruntime(left: str, right: str, per_column: bool, unit: QuadUnit) -> None:
    for m, k, n in ((48, 128, 96), (33, 70, 40)):
        ran = requantized(m, k, n, left, right, left, per_column, features=UNITS[unit], threads=2)
        assert any(f"_{unit.value}_" in name for name in ran.kernels), ran.kernels


def test_a_row_is_left_to_vectors(unit: QuadUnit) -> None:
    rng = np.random.default_rng(7)
    a, b = whole(rng, "uint8", (1, 128)), whole(rng, "int8", (128, 256))
    assert not check_product(unit, a, b, None, None, known=True)


def test_vectors_can_be_asked_for() -> None:
    assert choose_byte_tiles("host+int8-vectors", host_target(None)) is None


def test_an_unknown_unit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"none of \+int8-vectors, \+int8-amx"):
        choose_byte_tiles("host+int8-tensor", host_target(None))


def test_a_unit_that_the_instruction_set_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="does not have"):
        choose_byte_tiles("avx2+int8-amx", host_target("avx2"))
