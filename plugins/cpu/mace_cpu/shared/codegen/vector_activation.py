"""Activation functions on float32 or float64 scalars and vectors: ``f(builder, x, *parameters) -> value``.

Parameters are plain numbers that become constants of the generated code.  NaN stays NaN.
"""

from __future__ import annotations

import math

from llvmlite import ir

from mace_cpu.shared.codegen.vector_basic import absolute, at_least, at_most, constant, fma
from mace_cpu.shared.codegen.vector_math import erf, exp, expm1, log1p, one_plus_erf, sigmoid, tanh

__all__ = ["erf", "sigmoid", "tanh"]  # activations too, found by their names as those below are


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


def prelu(builder: ir.IRBuilder, x: ir.Value, slope: ir.Value) -> ir.Value:
    """``x`` where not negative, ``slope * x`` elsewhere."""
    negative = builder.fcmp_ordered("<", x, constant(x.type, 0.0))
    return builder.select(negative, builder.fmul(x, slope), x)


def leaky_relu(builder: ir.IRBuilder, x: ir.Value, alpha: float) -> ir.Value:
    """``x`` where not negative, ``alpha * x`` elsewhere."""
    return prelu(builder, x, constant(x.type, alpha))


def thresholded_relu(builder: ir.IRBuilder, x: ir.Value, alpha: float) -> ir.Value:
    """``x`` above ``alpha``, 0 elsewhere."""
    low = builder.fcmp_ordered("<=", x, constant(x.type, alpha))
    return builder.select(low, constant(x.type, 0.0), x)


def elu(builder: ir.IRBuilder, x: ir.Value, alpha: float) -> ir.Value:
    """``x`` where not negative, ``alpha * (e**x - 1)`` elsewhere."""
    return _elu(builder, x, expm1(builder, x), alpha)


def selu(builder: ir.IRBuilder, x: ir.Value, alpha: float, gamma: float) -> ir.Value:
    """``gamma * elu(x, alpha)``."""
    return builder.fmul(elu(builder, x, alpha), constant(x.type, gamma))


def celu(builder: ir.IRBuilder, x: ir.Value, alpha: float) -> ir.Value:
    """``x`` where not negative, ``alpha * (e**(x / alpha) - 1)`` elsewhere."""
    return _elu(builder, x, expm1(builder, builder.fdiv(x, constant(x.type, alpha))), alpha)


def _elu(builder: ir.IRBuilder, x: ir.Value, growth: ir.Value, alpha: float) -> ir.Value:
    negative = builder.fcmp_ordered("<", x, constant(x.type, 0.0))
    return builder.select(negative, builder.fmul(growth, constant(x.type, alpha)), x)


def hard_sigmoid(builder: ir.IRBuilder, x: ir.Value, alpha: float, beta: float) -> ir.Value:
    """``alpha * x + beta`` held within 0 and 1."""
    return clip(builder, fma(builder, x, constant(x.type, alpha), constant(x.type, beta)), 0.0, 1.0)


def gated_hard_sigmoid(builder: ir.IRBuilder, x: ir.Value, alpha: float, beta: float) -> ir.Value:
    """``x * hard_sigmoid(x, alpha, beta)``."""
    return builder.fmul(x, hard_sigmoid(builder, x, alpha, beta))


def hard_swish(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x * hard_sigmoid(x, 1 / 6, 0.5)``."""
    return gated_hard_sigmoid(builder, x, 1.0 / 6.0, 0.5)


def silu(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x * sigmoid(x)``."""
    return builder.fmul(x, sigmoid(builder, x))


def swish(builder: ir.IRBuilder, x: ir.Value, alpha: float) -> ir.Value:
    """``x * sigmoid(alpha * x)``."""
    return builder.fmul(x, sigmoid(builder, builder.fmul(x, constant(x.type, alpha))))


def softplus(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``log(1 + e**x)``, written so that neither end overflows or cancels."""
    decay = exp(builder, builder.fneg(absolute(builder, x)))
    return builder.fadd(relu(builder, x), log1p(builder, decay))


def softsign(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x / (1 + |x|)``."""
    return builder.fdiv(x, builder.fadd(constant(x.type, 1.0), absolute(builder, x)))


def mish(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x * tanh(softplus(x))``, as ``x * (e**2 + 2e) / (e**2 + 2e + 2)`` with ``e = e**x``: no cancellation."""
    two = constant(x.type, 2.0)
    growth = exp(builder, at_most(builder, x, constant(x.type, 40.0)))
    grown = builder.fmul(growth, builder.fadd(growth, two))
    return builder.fmul(x, builder.fdiv(grown, builder.fadd(grown, two)))


def gelu(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x / 2 * (1 + erf(x / sqrt 2))``."""
    gate = one_plus_erf(builder, builder.fmul(x, constant(x.type, math.sqrt(0.5))))
    return builder.fmul(builder.fmul(x, constant(x.type, 0.5)), gate)


def gelu_tanh(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``x / 2 * (1 + tanh(u))`` with ``u = sqrt(2 / pi) (x + 0.044715 x**3)``, as ``x * sigmoid(2 u)``."""
    twice = 2.0 * math.sqrt(2.0 / math.pi)
    square = builder.fmul(x, x)
    stretch = fma(builder, square, constant(x.type, 0.044715 * twice), constant(x.type, twice))
    return builder.fmul(x, sigmoid(builder, builder.fmul(x, stretch)))


def shrink(builder: ir.IRBuilder, x: ir.Value, bias: float, lambd: float) -> ir.Value:
    """``x + bias`` below ``-lambd``, ``x - bias`` above ``lambd``, 0 between."""
    low = builder.fcmp_ordered("<", x, constant(x.type, -lambd))
    high = builder.fcmp_ordered(">", x, constant(x.type, lambd))
    upper = builder.select(high, builder.fsub(x, constant(x.type, bias)), constant(x.type, 0.0))
    return builder.select(low, builder.fadd(x, constant(x.type, bias)), upper)


def divide_by(builder: ir.IRBuilder, x: ir.Value, divisor: float) -> ir.Value:
    """``x / divisor``."""
    return builder.fdiv(x, constant(x.type, divisor))


def add_number(builder: ir.IRBuilder, x: ir.Value, number: float) -> ir.Value:
    """``x + number``."""
    return builder.fadd(x, constant(x.type, number))


def mul_number(builder: ir.IRBuilder, x: ir.Value, number: float) -> ir.Value:
    """``x * number``."""
    return builder.fmul(x, constant(x.type, number))
