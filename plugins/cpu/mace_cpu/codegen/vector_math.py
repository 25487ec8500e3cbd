"""Exponentials, logarithms and the activations made of them, on float32 scalars or vectors of any lane count.

All functions take an ``llvmlite.ir`` builder and a value and return a value of the same type.  NaN stays NaN.  Stated
errors are the largest found over all float32 inputs, in units in the last place of the correct result; the tests
measure them.  Where the machine has no fused multiply-add the errors may be one unit larger.
"""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.codegen.vector_basic import (
    absolute,
    at_least,
    at_most,
    bits_of,
    constant,
    copy_sign,
    fma,
    int_type_of,
    polynomial,
)

_LOG2_E = 1.44269504088896341
_LN2_HIGH = 0.693359375  # few bits, so that multiples are exact
_LN2_LOW = -2.12194440e-4
_ROUND_MAGIC = 12582912.0  # 1.5 * 2**23: adding it rounds to an integer, held in the low bits


def exp(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``e**x``; subnormal results are right, too.

    Cody and Waite's reduction by multiples of ln 2, then the polynomial of Cephes' ``expf``.
    """
    x = at_most(builder, at_least(builder, x, constant(x.type, -110.0)), constant(x.type, 110.0))
    power, reduced = _reduce_by_ln2(builder, x)
    return _times_power_of_two(builder, _exp_reduced(builder, reduced), power)


def _reduce_by_ln2(builder: ir.IRBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The integer n nearest to x / ln 2, and x - n ln 2.  A NaN gives some n and NaN."""
    type_ = x.type
    shifted = fma(builder, x, constant(type_, _LOG2_E), constant(type_, _ROUND_MAGIC))
    power = builder.sub(bits_of(builder, shifted), constant(int_type_of(type_), 0x4B400000))
    rounded = builder.fsub(shifted, constant(type_, _ROUND_MAGIC))
    reduced = fma(builder, rounded, constant(type_, -_LN2_HIGH), x)
    return power, fma(builder, rounded, constant(type_, -_LN2_LOW), reduced)


def _exp_reduced(builder: ir.IRBuilder, r: ir.Value) -> ir.Value:
    """``e**r`` for |r| <= ln 2 / 2."""
    tail = polynomial(
        builder,
        r,
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
    )
    return builder.fadd(fma(builder, builder.fmul(r, r), tail, r), constant(r.type, 1.0))


def _times_power_of_two(builder: ir.IRBuilder, x: ir.Value, power: ir.Value) -> ir.Value:
    """``x * 2**power`` for |power| < 252, in two factors so that results may be subnormal or infinite."""
    half = builder.ashr(power, constant(power.type, 1))
    rest = builder.sub(power, half)
    return builder.fmul(builder.fmul(x, _power_of_two(builder, half, x.type)), _power_of_two(builder, rest, x.type))


def _power_of_two(builder: ir.IRBuilder, power: ir.Value, type_: ir.Type) -> ir.Value:
    """``2**power`` for -127 < power < 128, by setting the exponent field."""
    field = builder.shl(builder.add(power, constant(power.type, 127)), constant(power.type, 23))
    return builder.bitcast(field, type_)


def sigmoid(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``1 / (1 + e**-x)``."""
    decay = exp(builder, builder.fneg(x))
    return builder.fdiv(constant(x.type, 1.0), builder.fadd(constant(x.type, 1.0), decay))


def tanh(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent: Cephes' ``tanhf``, an odd polynomial below 0.625 and ``1 - 2 / (e**2x + 1)`` above."""
    type_ = x.type
    one = constant(type_, 1.0)
    size = absolute(builder, x)
    growth = exp(builder, builder.fadd(size, size))
    large = builder.fsub(one, builder.fdiv(constant(type_, 2.0), builder.fadd(growth, one)))
    square = builder.fmul(x, x)
    bend = polynomial(
        builder,
        square,
        (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1),
    )
    small = fma(builder, builder.fmul(bend, square), x, x)
    is_small = builder.fcmp_ordered("<", size, constant(type_, 0.625))
    return builder.select(is_small, small, copy_sign(builder, large, x))


def relu(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``max(x, 0)``."""
    return at_least(builder, x, constant(x.type, 0.0))


def clip(builder: ir.IRBuilder, x: ir.Value, low: float | None, high: float | None) -> ir.Value:
    """``min(max(x, low), high)``; a bound that is None is not applied."""
    if low is not None:
        x = at_least(builder, x, constant(x.type, low))
    if high is not None:
        x = at_most(builder, x, constant(x.type, high))
    return x


def leaky_relu(builder: ir.IRBuilder, x: ir.Value, alpha: float) -> ir.Value:
    """``x`` where positive, ``alpha * x`` elsewhere."""
    scaled = builder.fmul(x, constant(x.type, alpha))
    return builder.select(builder.fcmp_ordered("<", x, constant(x.type, 0.0)), scaled, x)


def hard_sigmoid(builder: ir.IRBuilder, x: ir.Value, alpha: float = 0.2, beta: float = 0.5) -> ir.Value:
    """``alpha * x + beta`` held within 0 and 1."""
    return clip(builder, fma(builder, x, constant(x.type, alpha), constant(x.type, beta)), 0.0, 1.0)


def hard_swish(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x * hard_sigmoid(x, 1 / 6, 0.5)``."""
    return builder.fmul(x, hard_sigmoid(builder, x, 1.0 / 6.0, 0.5))


def silu(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x * sigmoid(x)``, also called Swish."""
    return builder.fmul(x, sigmoid(builder, x))


def gated_hard_sigmoid(builder: ir.IRBuilder, x: ir.Value, alpha: float, beta: float) -> ir.Value:
    """``x * hard_sigmoid(x, alpha, beta)``."""
    return builder.fmul(x, hard_sigmoid(builder, x, alpha, beta))
