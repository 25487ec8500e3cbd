"""exp, tanh and sigmoid of float32 in a form that LLVM vectorizes; within about two units in the last place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mace_core.native.numba_prelude import helper

LARGEST_EXP = np.float32(88.72283)
SMALLEST_EXP = np.float32(-87.33654)
LOG2_E = np.float32(1.44269504)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
# exp(r) = 1 + r + r^2 * polynomial for |r| <= ln(2) / 2
EXP_TERMS = tuple(
    np.float32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
# tanh(x) = x + x^3 * polynomial(x^2) for |x| < 0.625
TANH_TERMS = tuple(
    np.float32(c) for c in (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
)
ONE, TWO, HALF = np.float32(1.0), np.float32(2.0), np.float32(0.5)
TANH_SWITCH, TANH_SATURATED = np.float32(0.625), np.float32(9.0)


@intrinsic  # type: ignore[untyped-decorator]
def _power_of_two(typing_context: Any, exponent: Any) -> Any:
    """2 ** exponent of an int32 in [-126, 127], as float32: the bits are put together."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        biased = builder.add(arguments[0], ir.Constant(ir.IntType(32), 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(ir.IntType(32), 23)), ir.FloatType())

    return types.float32(types.int32), generate


@helper
def exp32(x: Any) -> Any:
    """e ** x; infinite above about 88.7, 0 below about -87.3, NaN for NaN."""
    clamped = min(max(x, SMALLEST_EXP), LARGEST_EXP)
    n = np.float32(math.floor(clamped * LOG2_E + HALF))
    r = (clamped - n * LN2_HIGH) - n * LN2_LOW
    p = EXP_TERMS[0]
    p = p * r + EXP_TERMS[1]
    p = p * r + EXP_TERMS[2]
    p = p * r + EXP_TERMS[3]
    p = p * r + EXP_TERMS[4]
    p = p * r + EXP_TERMS[5]
    # 2 ** 128 is not a float32: the factor is split in two
    half = np.int32(n) >> np.int32(1)
    value = (p * r * r + r + ONE) * _power_of_two(half) * _power_of_two(np.int32(n) - half)
    value = np.float32(0.0) if x < SMALLEST_EXP else value
    value = np.float32(math.inf) if x > LARGEST_EXP else value
    return value if x == x else x


@helper
def sigmoid32(x: Any) -> Any:
    """1 / (1 + e ** -x)."""
    return ONE / (ONE + exp32(-x))


@helper
def tanh32(x: Any) -> Any:
    """The hyperbolic tangent, accurate near zero too."""
    size = abs(x)
    square = x * x
    p = TANH_TERMS[0]
    p = p * square + TANH_TERMS[1]
    p = p * square + TANH_TERMS[2]
    p = p * square + TANH_TERMS[3]
    p = p * square + TANH_TERMS[4]
    near = x + x * square * p
    limited = min(size, TANH_SATURATED)
    far = ONE - TWO / (exp32(TWO * limited) + ONE)
    far = -far if x < np.float32(0.0) else far
    value = near if size < TANH_SWITCH else far
    return value if x == x else x
