"""Mathematics of float64 for targets whose C library cannot be called, or lacks a function: compiled with numba.

On 32-bit ARM, systems disagree on how floats are passed, so a library calls nothing that takes one; and C libraries
other than GNU's have no ``roundeven``.  The functions here are built for the target and hidden in the library.

Errors are a few units in the last place of float64, so that float32 is rounded right but for rare cases: `sin` and its
kin up to 1e6 or so, beyond which no C program should ask.  Series and identities are those of Abramowitz and Stegun,
chapters 4 and 7; reduction is that of Cody and Waite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mace_core.native.numba_prelude import as_float, helper

_INTEGERS_FROM = 4503599627370496.0  # 2**52: larger numbers are whole
_LN2, _LN2_HIGH, _LN2_LOW = math.log(2.0), 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LOG2_E, _LOG10_E = 1.4426950408889634, 0.4342944819032518
_HALF_PI_1, _HALF_PI_2, _HALF_PI_3 = 1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21
_TWO_PI, _HALF_PI, _QUARTER_PI = 2 * math.pi, math.pi / 2, math.pi / 4
_ROOT_OF_PI = 1.7724538509055160273
_INFINITY = np.inf
_NAN = np.nan


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typing_context: Any, value: Any) -> Any:
    """The bits of a float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _sqrt(typing_context: Any, value: Any) -> Any:
    """The instruction: a call of the C library's function, which looks at errors, is what is not wanted."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.DoubleType()
        root = builder.module.declare_intrinsic("llvm.sqrt", (double,))
        return builder.call(root, arguments)

    return types.float64(types.float64), generate


@helper
def _with_sign_of(magnitude: Any, sign: Any) -> Any:
    return -magnitude if _bits(sign) < 0 else magnitude


@helper
def _scaled(x: Any, k: Any) -> Any:
    """``x * 2**k``, in two steps so that neither factor overflows."""
    half = k // 2
    return x * as_float((half + 1023) << 52) * as_float((k - half + 1023) << 52)


@helper
def rint(x: Any) -> Any:
    size = abs(x)
    if not size < _INTEGERS_FROM:
        return x
    return _with_sign_of((size + _INTEGERS_FROM) - _INTEGERS_FROM, x)


@helper
def floor(x: Any) -> Any:
    near = rint(x)
    return near - 1.0 if near > x else near


@helper
def ceil(x: Any) -> Any:
    near = rint(x)
    return _with_sign_of(abs(near + 1.0), x) if near < x else near


@helper
def trunc(x: Any) -> Any:
    return _with_sign_of(floor(abs(x)), x)


@helper
def round_(x: Any) -> Any:
    size = abs(x)
    if not size < _INTEGERS_FROM:
        return x
    whole = floor(size)
    return _with_sign_of(whole + 1.0 if size - whole >= 0.5 else whole, x)


@helper
def _exp_series(r: Any) -> Any:
    """``exp(r) - 1`` for small ``r``."""
    total = 0.0
    for n in range(17, 0, -1):
        total = r / n * (1.0 + total)
    return total


@helper
def exp(x: Any) -> Any:
    if x != x:
        return x
    if x > 709.782712893384:
        return _INFINITY
    if x < -745.2:
        return 0.0
    k = rint(x * _LOG2_E)
    return _scaled(1.0 + _exp_series(x - k * _LN2_HIGH - k * _LN2_LOW), int(k))


@helper
def exp2(x: Any) -> Any:
    if x != x:
        return x
    if x >= 1024.0:
        return _INFINITY
    if x < -1076.0:
        return 0.0
    k = rint(x)
    return _scaled(1.0 + _exp_series((x - k) * _LN2), int(k))


@helper
def expm1(x: Any) -> Any:
    return x if x == 0.0 else _exp_series(x) if abs(x) < 0.4 else exp(x) - 1.0


@helper
def _log_of_mantissa(m: Any) -> Any:
    """Of a number between the square roots of 1/2 and 2."""
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    total = 0.0
    for n in range(27, 2, -2):
        total = z * (1.0 / n + total)
    return 2.0 * s * (1.0 + total)


@helper
def _exponent(x: Any) -> Any:
    """So that ``x / 2**k`` of a normal number lies between the square roots of 1/2 and 2."""
    k = (_bits(x) >> 52) - 1023
    mantissa = as_float((_bits(x) & 0xFFFFFFFFFFFFF) | (1023 << 52))
    return k + 1 if mantissa > 1.4142135623730951 else k


@helper
def log(x: Any) -> Any:
    if x != x or x < 0.0:
        return _NAN
    if x == 0.0:
        return -_INFINITY
    if x == _INFINITY:
        return x
    more = 0
    if x < 2.3e-308:
        x, more = x * 18014398509481984.0, -54
    k = _exponent(x)
    power = float(k + more)
    return power * _LN2_HIGH + (_log_of_mantissa(_scaled(x, -k)) + power * _LN2_LOW)


@helper
def log2(x: Any) -> Any:
    if not 2.3e-308 < x < _INFINITY:
        return log(x) * _LOG2_E
    k = _exponent(x)
    return k + _log_of_mantissa(_scaled(x, -k)) * _LOG2_E


@helper
def log10(x: Any) -> Any:
    return log(x) * _LOG10_E


@helper
def log1p(x: Any) -> Any:
    if abs(x) < 1e-5:
        return x - x * x * (0.5 - x / 3.0) if x != 0.0 else x
    u = 1.0 + x
    return log(u) if u == _INFINITY or u <= 0.0 else log(u) * (x / (u - 1.0))


@helper
def pow_(x: Any, y: Any) -> Any:
    if y == 0.0 or x == 1.0:
        return 1.0
    if x != x or y != y:
        return _NAN
    is_whole = abs(y) >= _INTEGERS_FROM or floor(y) == y
    is_odd = is_whole and abs(y) < 2 * _INTEGERS_FROM and abs(y) - 2.0 * floor(abs(y) / 2.0) == 1.0
    size = abs(x)
    if x < 0.0 and not is_whole and size != _INFINITY:
        return _NAN
    if size == 1.0:
        answer = 1.0
    elif size == 0.0 or size == _INFINITY:
        answer = 0.0 if (size == 0.0) == (y > 0.0) else _INFINITY
    elif abs(y) == _INFINITY:
        answer = _INFINITY if (size > 1.0) == (y > 0.0) else 0.0
    elif is_whole and abs(y) <= 64.0:
        answer, base, left = 1.0, size, int(abs(y))
        while left > 0:
            if left & 1:
                answer *= base
            base *= base
            left >>= 1
        if y < 0.0:
            answer = 1.0 / answer
    else:
        answer = exp(y * log(size))
    return -answer if is_odd and _bits(x) < 0 else answer


@helper
def fmod(x: Any, y: Any) -> Any:
    """Exact: what is subtracted is the divisor times a power of two, at most the rest and more than half of it."""
    if x != x or y != y or abs(x) == _INFINITY or y == 0.0:
        return _NAN
    rest, divisor = abs(x), abs(y)
    part = divisor
    while part <= 0.5 * rest:
        part += part
    while part >= divisor and rest >= divisor:
        if rest >= part:
            rest -= part
        part *= 0.5
    return _with_sign_of(rest, x)


@helper
def _reduced(x: Any) -> Any:
    """The rest of ``x`` by half of pi, and which quarter it is of."""
    if abs(x) > 1e7:
        x = fmod(x, _TWO_PI)
    n = rint(x / _HALF_PI)
    return ((x - n * _HALF_PI_1) - n * _HALF_PI_2) - n * _HALF_PI_3, int(n) & 3


@helper
def _sin_series(y: Any) -> Any:
    total = 0.0
    for n in range(18, 0, -2):
        total = -y * y / (n * (n + 1)) * (1.0 + total)
    return y * (1.0 + total)


@helper
def _cos_series(y: Any) -> Any:
    total = 0.0
    for n in range(17, 0, -2):
        total = -y * y / (n * (n + 1)) * (1.0 + total)
    return 1.0 + total


@helper
def sin(x: Any) -> Any:
    if x != x or abs(x) == _INFINITY:
        return _NAN
    if x == 0.0:
        return x
    y, quarter = _reduced(x)
    value = _cos_series(y) if quarter & 1 else _sin_series(y)
    return -value if quarter & 2 else value


@helper
def cos(x: Any) -> Any:
    if x != x or abs(x) == _INFINITY:
        return _NAN
    y, quarter = _reduced(x)
    value = _sin_series(y) if quarter & 1 else _cos_series(y)
    return -value if (quarter + 1) & 2 else value


@helper
def tan(x: Any) -> Any:
    return x if x == 0.0 else sin(x) / cos(x)


@helper
def atan(x: Any) -> Any:
    if x != x or x == 0.0:
        return x
    a, first, factor = abs(x), 0.0, 1.0
    if a > 1.0:
        a, first, factor = 1.0 / a, _HALF_PI, -1.0
    if a > 0.4142135623730951:
        a, first = (a - 1.0) / (a + 1.0), first + factor * _QUARTER_PI
    z, total = a * a, 0.0
    for n in range(49, 2, -2):
        total = -z * (1.0 / n + total)
    return _with_sign_of(first + factor * a * (1.0 + total), x)


@helper
def atan2(y: Any, x: Any) -> Any:
    if x != x or y != y:
        return _NAN
    if y == 0.0:
        return _with_sign_of(math.pi, y) if _bits(x) < 0 else y
    if x == 0.0:
        return _with_sign_of(_HALF_PI, y)
    if abs(x) == _INFINITY and abs(y) == _INFINITY:
        return _with_sign_of(3 * _QUARTER_PI if x < 0.0 else _QUARTER_PI, y)
    angle = atan(abs(y) / abs(x))
    return _with_sign_of(math.pi - angle if x < 0.0 else angle, y)


@helper
def asin(x: Any) -> Any:
    return x if x == 0.0 else _NAN if not abs(x) <= 1.0 else atan2(x, _sqrt((1.0 - x) * (1.0 + x)))


@helper
def acos(x: Any) -> Any:
    return _NAN if not abs(x) <= 1.0 else 2.0 * atan2(_sqrt(1.0 - x), _sqrt(1.0 + x))


@helper
def sinh(x: Any) -> Any:
    if x == 0.0 or x != x:
        return x
    size = abs(x)
    if size > 709.0:
        half = exp(0.5 * size)
        return _with_sign_of(0.5 * half * half, x)
    t = expm1(size)
    return _with_sign_of(0.5 * (t + t / (t + 1.0)), x)


@helper
def cosh(x: Any) -> Any:
    size = abs(x)
    if size > 709.0:
        half = exp(0.5 * size)
        return 0.5 * half * half
    t = exp(size)
    return 0.5 * t + 0.5 / t


@helper
def tanh(x: Any) -> Any:
    if x == 0.0 or x != x:
        return x
    if abs(x) > 22.0:
        return _with_sign_of(1.0, x)
    t = expm1(2.0 * abs(x))
    return _with_sign_of(t / (t + 2.0), x)


@helper
def asinh(x: Any) -> Any:
    if x == 0.0 or x != x:
        return x
    a = abs(x)
    if a > 1e150:
        return _with_sign_of(log(a) + _LN2, x)
    return _with_sign_of(log1p(a + a * a / (1.0 + _sqrt(a * a + 1.0))), x)


@helper
def acosh(x: Any) -> Any:
    if not x >= 1.0:
        return _NAN
    t = x - 1.0
    return log(x) + _LN2 if x > 1e150 else log1p(t + _sqrt(2.0 * t + t * t))


@helper
def atanh(x: Any) -> Any:
    return x if x == 0.0 else _with_sign_of(0.5 * log1p(2.0 * abs(x) / (1.0 - abs(x))), x)


@helper
def _erf_series(x: Any) -> Any:
    """Of terms of one sign (7.1.6)."""
    term = total = x
    n = 1
    while term > total * 1e-17:
        term *= 2.0 * x * x / (2 * n + 1)
        total += term
        n += 1
    return 2.0 / _ROOT_OF_PI * exp(-x * x) * total


@helper
def _erfc_fraction(x: Any) -> Any:
    """A continued fraction (7.1.14)."""
    below = x
    for n in range(120, 0, -1):
        below = x + 0.5 * n / below
    return exp(-x * x) / (_ROOT_OF_PI * below)


@helper
def erf(x: Any) -> Any:
    if x != x or x == 0.0:
        return x
    size = abs(x)
    return _with_sign_of(1.0 if size > 6.0 else 1.0 - _erfc_fraction(size) if size > 2.5 else _erf_series(size), x)


@helper
def erfc(x: Any) -> Any:
    if x != x:
        return x
    if x > 28.0:
        return 0.0
    return _erfc_fraction(x) if x > 2.0 else 1.0 - erf(x)


@helper
def cbrt(x: Any) -> Any:
    size = abs(x)
    if x == 0.0 or not size < _INFINITY:
        return x
    root = exp(log(size) / 3.0)
    return _with_sign_of(root - (root - size / (root * root)) / 3.0, x)


@helper
def fmax(x: Any, y: Any) -> Any:
    return y if x != x or x < y else x


@helper
def fmin(x: Any, y: Any) -> Any:
    return y if x != x or x > y else x


FUNCTIONS: dict[str, tuple[Any, int]] = {
    "acos": (acos, 1), "acosh": (acosh, 1), "asin": (asin, 1), "asinh": (asinh, 1), "atan": (atan, 1),
    "atan2": (atan2, 2), "atanh": (atanh, 1), "cbrt": (cbrt, 1), "ceil": (ceil, 1), "cos": (cos, 1), "cosh": (cosh, 1),
    "erf": (erf, 1), "erfc": (erfc, 1), "exp": (exp, 1), "exp2": (exp2, 1), "expm1": (expm1, 1), "floor": (floor, 1),
    "fmax": (fmax, 2), "fmin": (fmin, 2), "fmod": (fmod, 2), "log": (log, 1), "log10": (log10, 1), "log1p": (log1p, 1),
    "log2": (log2, 1), "nearbyint": (rint, 1), "pow": (pow_, 2), "rint": (rint, 1), "round": (round_, 1),
    "roundeven": (rint, 1), "sin": (sin, 1), "sinh": (sinh, 1), "tan": (tan, 1), "tanh": (tanh, 1), "trunc": (trunc, 1),
}  # fmt: skip
"""By the name in C, of float64, with the number of arguments; the name with an ``f`` is that of float32."""
