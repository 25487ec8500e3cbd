"""The mathematics that libraries bring along agree with the C library's."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import numpy as np
import pytest

from mace_core.native.kernel import load_kernels
from mace_core.native.mathematics import brought_along
from mace_core.native.named_targets import named_target
from mace_core.native.own_mathematics import FUNCTIONS

C = ctypes.CDLL("libm.so.6")
SPECIAL = (
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    2.5,
    -2.5,
    1e-300,
    5e-324,
    1e300,
    -1e300,
    math.inf,
    -math.inf,
    math.nan,
)
LARGEST_OF_PERIODIC = 1e6
UNITS = {"erfc": 1024, "pow": 16}
"""In the last place, of float64; 8 for others.  What is left of 1 loses places, and logarithms of large powers too."""


def c_function(name: str, count: int) -> Callable[..., float]:
    function = getattr(C, name)
    function.argtypes, function.restype = [ctypes.c_double] * count, ctypes.c_double
    found: Callable[..., float] = function
    return found


@pytest.fixture(scope="module")
def own() -> dict[str, int]:
    """Addresses of the functions, built for this processor."""
    sources = brought_along(FUNCTIONS.keys(), named_target("armeabi-v7a").target)
    assert {source.symbol for source in sources} == set(FUNCTIONS)
    return load_kernels(sources)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_agrees_with_that_of_the_c_library(name: str, own: dict[str, int]) -> None:
    _, count = FUNCTIONS[name]
    ours = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * count)(own[name])
    theirs = c_function(name, count)
    rng = np.random.default_rng(1)
    drawn = np.concatenate([rng.standard_normal(200), rng.uniform(-1, 1, 200), rng.standard_normal(200) * 30])
    if name not in ("sin", "cos", "tan"):
        drawn = np.concatenate([drawn, 10.0 ** rng.uniform(-20, 20, 100)])
    seconds = rng.permutation(drawn) if count == 2 else drawn
    pairs = [*zip(drawn.tolist(), seconds.tolist(), strict=True)]
    pairs += [(a, b) for a in SPECIAL for b in (SPECIAL if count == 2 else (0.0,))]
    for x, y in pairs:
        if name in ("sin", "cos", "tan") and abs(x) > LARGEST_OF_PERIODIC and abs(x) != math.inf:
            continue
        arguments = (x, y)[:count]
        expected, got = theirs(*arguments), ours(*arguments)
        if math.isnan(expected):
            assert math.isnan(got), (arguments, got)
            continue
        if math.isinf(expected) or expected == 0.0:
            # of two zeros C lets fmax and fmin take either
            sign = 0.0 if name in ("fmax", "fmin") else math.copysign(1, got)
            assert (got, sign) == (expected, sign and math.copysign(1, expected)), (arguments, expected, got)
            continue
        units = UNITS.get(name, 8) * (max(1.0, abs(y * math.log(abs(x)))) if name == "pow" and x else 1)
        assert abs(got - expected) <= units * math.ulp(expected), (arguments, expected, got)
