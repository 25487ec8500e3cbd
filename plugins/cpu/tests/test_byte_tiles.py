"""Convolutions of bytes on tile registers (AMX): exact, and taken where rows of a register are full.

Here the registers are emulated, which shows everything but the instructions; where the processor has them, the same
cases run on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mace_cpu.shared.precision import choose_byte_tiles, choose_instructions
from mace_cpu.shared.quads import QuadUnit
from test_byte_conv import check_conv, given_inputs

from mace_core.errors import UsageError
from mace_core.native.target import host_target

UNITS = {QuadUnit.AMX: "host+int8-amx", QuadUnit.AMX_EMULATED: "avx512+int8-amx-emulated"}


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


def test_vectors_can_be_asked_for() -> None:
    assert choose_byte_tiles("host+int8-vectors", host_target(None)) is None


def test_an_unknown_unit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"none of \+int8-vectors, \+int8-amx"):
        choose_byte_tiles("host+int8-tensor", host_target(None))


def test_a_unit_that_the_instruction_set_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="does not have"):
        choose_byte_tiles("avx2+int8-amx", host_target("avx2"))
