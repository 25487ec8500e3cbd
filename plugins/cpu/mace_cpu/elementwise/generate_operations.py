"""Code for single elementwise operations on values in registers, by name and element type.

``emit(builder, name, arguments, dtype, parameters)``: ``dtype`` is the type of the first argument (of the second for
``select``).  Integer division and its kin never trap: dividing by zero gives 0, the smallest integer over -1 itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from mace_cpu.elementwise.expression import Parameters
from mace_cpu.shared.codegen import vector_activation, vector_basic, vector_math
from mace_cpu.shared.codegen.element_types import bit_width, cast, is_float, is_signed
from mace_cpu.shared.codegen.vector_basic import (
    I1,
    bits_of,
    constant,
    copy_sign,
    intrinsic,
    is_nan,
    scalar_calls,
    shaped_like,
    sign_bit,
)

# names of the C library for what is too rare for a vector form
_LIBRARY = ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")
_ROUNDING = {"floor": "llvm.floor", "ceil": "llvm.ceil", "round": "llvm.roundeven"}
_COMPARE = {"equal": "==", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}
_VECTOR_MATH = ("exp", "log", "sqrt", "erf", "sin", "cos")
_BITS = {"and": "and_", "or": "or_", "xor": "xor"}


def emit(builder: ir.IRBuilder, name: str, x: Sequence[ir.Value], dtype: str, parameters: Parameters) -> ir.Value:
    """The value of one operation.

    Raises:
        ValueError: there is no such operation for this type.
    """
    if name == "cast":
        target, *options = parameters
        return cast(builder, x[0], dtype, str(target), *_cast_options(*options))
    if name == "select":
        return builder.select(x[0], x[1], x[2])
    if name in _BITS:
        return getattr(builder, _BITS[name])(x[0], x[1])
    if name == "not":
        return builder.xor(x[0], constant(x[0].type, 1 if dtype == "bool" else -1))
    if name in _COMPARE:
        return _compare(builder, _COMPARE[name], x[0], x[1], dtype)
    if is_float(dtype):
        return _emit_float(builder, name, x, dtype, parameters)
    found = _INTEGER.get(name)
    if found is None or dtype == "bool":
        raise ValueError(f"there is no elementwise '{name}' for {dtype}")
    return found(builder, x, dtype)


def _cast_options(
    saturate: float | int | str | None = 1, round_mode: float | int | str | None = "up"
) -> tuple[bool, str]:
    return bool(saturate), str(round_mode)


def _compare(builder: ir.IRBuilder, sign: str, x: ir.Value, y: ir.Value, dtype: str) -> ir.Value:
    if is_float(dtype):
        return builder.fcmp_ordered(sign, x, y)
    compare = builder.icmp_signed if is_signed(dtype) else builder.icmp_unsigned
    return compare(sign, x, y)


# --- floats -----------------------------------------------------------------------------------------------------------


def _emit_float(
    builder: ir.IRBuilder, name: str, x: Sequence[ir.Value], dtype: str, parameters: Parameters
) -> ir.Value:
    if name in _FLOAT_BINARY:
        return _FLOAT_BINARY[name](builder, x[0], x[1])
    if name in _FLOAT_UNARY:
        return _FLOAT_UNARY[name](builder, x[0])
    if name in _VECTOR_MATH:
        return getattr(vector_math, name)(builder, x[0])
    if name in _ROUNDING:
        return intrinsic(builder, _ROUNDING[name], x[0])
    if name in _LIBRARY:
        return scalar_calls(builder, name if dtype == "float64" else name + "f", x[0])
    if name == "is_inf":
        return _is_inf(builder, x[0], bool(parameters[0]), bool(parameters[1]))
    return getattr(vector_activation, name)(builder, *x, *parameters)


def _library(name: str) -> Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]:
    def emit_call(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        return scalar_calls(builder, name if vector_math.is_double(x) else name + "f", x, y)

    return emit_call


def _floor_mod(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Remainder with the sign of the divisor, zero too."""
    rest = _library("fmod")(builder, x, y)
    zero = constant(x.type, 0.0)
    differs = builder.xor(builder.fcmp_ordered("<", rest, zero), builder.fcmp_ordered("<", y, zero))
    wrong = builder.and_(differs, builder.fcmp_ordered("!=", rest, zero))
    signed = builder.select(builder.fcmp_ordered("==", rest, zero), copy_sign(builder, zero, y), rest)
    return builder.select(wrong, builder.fadd(rest, y), signed)


def _sign(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    signed_one = copy_sign(builder, constant(x.type, 1.0), x)
    return builder.select(builder.fcmp_unordered("!=", x, constant(x.type, 0.0)), _keep_nan(builder, signed_one, x), x)


def _keep_nan(builder: ir.IRBuilder, result: ir.Value, x: ir.Value) -> ir.Value:
    return builder.select(is_nan(builder, x), x, result)


def _is_inf(builder: ir.IRBuilder, x: ir.Value, negative: bool, positive: bool) -> ir.Value:
    found: ir.Value = constant(shaped_like(x.type, I1), 0)
    for wanted, value in ((negative, float("-inf")), (positive, float("inf"))):
        if wanted:
            found = builder.or_(found, builder.fcmp_ordered("==", x, constant(x.type, value)))
    return found


def _negate(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return builder.bitcast(builder.xor(bits_of(builder, x), sign_bit(x.type)), x.type)


_FLOAT_BINARY: dict[str, Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]] = {
    "add": lambda b, x, y: b.fadd(x, y),
    "sub": lambda b, x, y: b.fsub(x, y),
    "mul": lambda b, x, y: b.fmul(x, y),
    "div": lambda b, x, y: b.fdiv(x, y),
    "min": vector_basic.minimum,
    "max": vector_basic.maximum,
    "clip_low": vector_basic.at_least,
    "clip_high": vector_basic.at_most,
    "fmod": _library("fmod"),
    "mod": _floor_mod,
    "pow": _library("pow"),
}

_FLOAT_UNARY: dict[str, Callable[[ir.IRBuilder, ir.Value], ir.Value]] = {
    "neg": _negate,
    "abs": vector_basic.absolute,
    "sign": _sign,
    "reciprocal": lambda b, x: b.fdiv(constant(x.type, 1.0), x),
    "square": lambda b, x: b.fmul(x, x),
    "cube": lambda b, x: b.fmul(b.fmul(x, x), x),
    "is_nan": is_nan,
}


# --- integers ---------------------------------------------------------------------------------------------------------


def _int_min(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    return builder.select(_compare(builder, "<", x[0], x[1], dtype), x[0], x[1])


def _int_max(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    return builder.select(_compare(builder, ">", x[0], x[1], dtype), x[0], x[1])


def _safe_divisor(builder: ir.IRBuilder, y: ir.Value, dtype: str) -> tuple[ir.Value, ir.Value, ir.Value]:
    """A divisor that cannot trap, and the lanes where the true one is 0 and where it is -1."""
    one = constant(y.type, 1)
    is_zero = builder.icmp_signed("==", y, constant(y.type, 0))
    is_minus_one = builder.icmp_signed("==", y, constant(y.type, -1))
    if not is_signed(dtype):
        is_minus_one = constant(is_zero.type, 0)
    return builder.select(builder.or_(is_zero, is_minus_one), one, y), is_zero, is_minus_one


def _int_div(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    divisor, is_zero, is_minus_one = _safe_divisor(builder, x[1], dtype)
    quotient = builder.sdiv(x[0], divisor) if is_signed(dtype) else builder.udiv(x[0], divisor)
    quotient = builder.select(is_minus_one, builder.neg(x[0]), quotient)
    return builder.select(is_zero, constant(x[0].type, 0), quotient)


def _int_fmod(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    # a divisor of 1 in place of 0 and -1 leaves the remainder 0 that is right for both
    divisor, _, _ = _safe_divisor(builder, x[1], dtype)
    return builder.srem(x[0], divisor) if is_signed(dtype) else builder.urem(x[0], divisor)


def _int_mod(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    rest = _int_fmod(builder, x, dtype)
    if not is_signed(dtype):
        return rest
    zero = constant(rest.type, 0)
    differs = builder.icmp_signed("<", builder.xor(rest, x[1]), zero)
    wrong = builder.and_(differs, builder.icmp_signed("!=", rest, zero))
    return builder.select(wrong, builder.add(rest, x[1]), rest)


def _int_abs(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    if not is_signed(dtype):
        return x[0]
    negative = builder.icmp_signed("<", x[0], constant(x[0].type, 0))
    return builder.select(negative, builder.neg(x[0]), x[0])


def _int_sign(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    type_ = x[0].type
    positive = builder.zext(_compare(builder, ">", x[0], constant(type_, 0), dtype), type_)
    if not is_signed(dtype):
        return positive
    return builder.or_(positive, builder.ashr(x[0], constant(type_, bit_width(dtype) - 1)))


def _shift(left: bool) -> Callable[[ir.IRBuilder, Sequence[ir.Value], str], ir.Value]:
    def emit_shift(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
        width = constant(x[1].type, bit_width(dtype))
        inside = builder.icmp_unsigned("<", x[1], width)
        if not left and is_signed(dtype):  # every further bit is the sign's
            return builder.ashr(x[0], builder.select(inside, x[1], constant(x[1].type, bit_width(dtype) - 1)))
        amount = builder.select(inside, x[1], constant(x[1].type, 0))
        shifted = builder.shl(x[0], amount) if left else builder.lshr(x[0], amount)
        return builder.select(inside, shifted, constant(x[0].type, 0))

    return emit_shift


def _int_pow(builder: ir.IRBuilder, x: Sequence[ir.Value], dtype: str) -> ir.Value:
    """Powers of 64-bit integers by repeated squaring, wrapping; for a negative exponent 1 / power, truncated."""
    base, exponent = x
    type_ = base.type
    one, zero = constant(type_, 1), constant(type_, 0)
    before = builder.block
    again = builder.append_basic_block("power")
    done = builder.append_basic_block("powered")
    builder.branch(again)
    builder.position_at_end(again)
    power, square, left = (builder.phi(type_) for _ in range(3))
    odd = builder.icmp_signed("==", builder.and_(left, one), one)
    multiplied = builder.select(odd, builder.mul(power, square), power)
    squared = builder.mul(square, square)
    rest = builder.lshr(left, one)
    start = builder.icmp_signed("<", exponent, zero)
    more = vector_basic.any_lane(builder, builder.icmp_signed("!=", rest, zero))
    builder.cbranch(more, again, done)
    for phi, first, then in ((power, one, multiplied), (square, base, squared), (left, exponent, rest)):
        phi.add_incoming(first, before)
        phi.add_incoming(then, again)
    builder.position_at_end(done)
    if dtype == "uint64":
        return multiplied
    alternating = builder.select(builder.icmp_signed("==", builder.and_(exponent, one), one), base, one)
    is_unit = builder.icmp_unsigned("<=", builder.add(base, one), constant(type_, 2))
    is_unit = builder.and_(is_unit, builder.icmp_signed("!=", base, zero))
    inverse = builder.select(is_unit, alternating, zero)
    return builder.select(start, inverse, multiplied)


_INTEGER: dict[str, Callable[[ir.IRBuilder, Sequence[ir.Value], str], ir.Value]] = {
    "add": lambda b, x, _: b.add(x[0], x[1]),
    "sub": lambda b, x, _: b.sub(x[0], x[1]),
    "mul": lambda b, x, _: b.mul(x[0], x[1]),
    "div": _int_div,
    "fmod": _int_fmod,
    "mod": _int_mod,
    "min": _int_min,
    "max": _int_max,
    "clip_low": _int_max,
    "clip_high": _int_min,
    "shift_left": _shift(True),
    "shift_right": _shift(False),
    "pow": _int_pow,
    "neg": lambda b, x, _: b.neg(x[0]),
    "abs": _int_abs,
    "sign": _int_sign,
    "square": lambda b, x, _: b.mul(x[0], x[0]),
    "cube": lambda b, x, _: b.mul(b.mul(x[0], x[0]), x[0]),
    "relu": lambda b, x, d: _int_max(b, (x[0], constant(x[0].type, 0)), d),
    "prelu": lambda b, x, d: b.select(_compare(b, "<", x[0], constant(x[0].type, 0), d), b.mul(x[0], x[1]), x[0]),
}
