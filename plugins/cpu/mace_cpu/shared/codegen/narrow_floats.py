"""Floats of eight bits and less: codes to float32 and back, by integer arithmetic on scalars or vectors.

A code is held in an ``i8``, in its lowest bits.  What the formats can hold, and which codes are special, is from the
specification of ONNX (docs/docsgen/source/technical/float8.md and float4.md), rounding to nearest even included.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from mace_cpu.shared.codegen.vector_basic import F32, I8, I32, absolute, bits_of, constant, is_nan, shaped_like

EXPONENT_ONLY = "float8e8m0"
"""Powers of two from 2**-127 on, without sign; 255 is NaN."""


@dataclass(frozen=True, slots=True)
class NarrowFloat:
    """A format with sign, exponent and mantissa.

    Attributes:
        bits: of a code.
        mantissa: bits of it.
        bias: of the exponent.
        largest: the code of the largest finite number.
        nan: the code of NaN; None where there is none.
        beyond: the code of what is too large and not saturated.
        one_zero: there is no negative zero: its code is NaN.
    """

    bits: int
    mantissa: int
    bias: int
    largest: int
    nan: int | None = None
    beyond: int | None = None
    one_zero: bool = False


FORMATS: dict[str, NarrowFloat] = {
    "float8e4m3fn": NarrowFloat(8, 3, 7, 0x7E, 0x7F, 0x7F),
    "float8e4m3fnuz": NarrowFloat(8, 3, 8, 0x7F, 0x80, 0x80, one_zero=True),
    "float8e5m2": NarrowFloat(8, 2, 15, 0x7B, 0x7E, 0x7C),
    "float8e5m2fnuz": NarrowFloat(8, 2, 16, 0x7F, 0x80, 0x80, one_zero=True),
    "float6e2m3": NarrowFloat(6, 3, 1, 0x1F),
    "float6e3m2": NarrowFloat(6, 2, 3, 0x1F),
    "float4e2m1": NarrowFloat(4, 1, 1, 0x7),
}
"""By the label of the element type."""

NAMES = frozenset({*FORMATS, EXPONENT_ONLY})


def decode(builder: ir.IRBuilder, code: ir.Value, name: str) -> ir.Value:
    """The float32 that a code stands for: exact."""
    if name == EXPONENT_ONLY:
        return _decode_exponent(builder, code)
    form = FORMATS[name]
    kind = shaped_like(code.type, I32)
    floats = shaped_like(code.type, F32)
    bits = builder.zext(code, kind)
    size = builder.and_(bits, constant(kind, (1 << (form.bits - 1)) - 1))
    normal = builder.add(builder.shl(size, constant(kind, 23 - form.mantissa)), constant(kind, (127 - form.bias) << 23))
    unit = constant(floats, 2.0 ** (1 - form.bias - form.mantissa))
    subnormal = bits_of(builder, builder.fmul(builder.sitofp(size, floats), unit))
    is_small = builder.icmp_unsigned("<", size, constant(kind, 1 << form.mantissa))
    result = builder.select(is_small, subnormal, normal)
    if form.nan is not None and form.beyond is not None:
        nan = constant(kind, 0x7FC00000)
        if form.one_zero:
            result = builder.select(builder.icmp_unsigned("==", bits, constant(kind, form.nan)), nan, result)
        else:
            if form.beyond != form.nan:
                infinite = builder.icmp_unsigned("==", size, constant(kind, form.beyond))
                result = builder.select(infinite, constant(kind, 0x7F800000), result)
            beyond = builder.icmp_unsigned(
                ">", size, constant(kind, form.nan - 1 if form.beyond == form.nan else form.beyond)
            )
            result = builder.select(beyond, nan, result)
    sign = builder.and_(builder.shl(bits, constant(kind, 32 - form.bits)), constant(kind, -(1 << 31)))
    return builder.bitcast(builder.or_(result, sign), floats)


def encode(builder: ir.IRBuilder, x: ir.Value, name: str, *, saturate: bool = True, round_mode: str = "up") -> ir.Value:
    """The code of the nearest number that the format has, of float32.

    Args:
        saturate: what is too large becomes the largest number, infinity too; else infinity or NaN.  Formats without
            NaN always saturate, and give a zero for NaN.
        round_mode: of float8e8m0: up, down or nearest.
    """
    if name == EXPONENT_ONLY:
        return _encode_exponent(builder, x, saturate, round_mode)
    form = FORMATS[name]
    kind = bits_of(builder, x).type
    bits = bits_of(builder, x)
    size = builder.and_(bits, constant(kind, 0x7FFFFFFF))
    dropped = 23 - form.mantissa
    odd = builder.and_(builder.lshr(size, constant(kind, dropped)), constant(kind, 1))
    rounded = builder.add(builder.add(size, constant(kind, (1 << (dropped - 1)) - 1)), odd)
    normal = builder.sub(
        builder.lshr(rounded, constant(kind, dropped)), constant(kind, (127 - form.bias) << form.mantissa)
    )
    # adding a number whose last place is that of a subnormal rounds to it
    anchor = constant(x.type, 2.0 ** (24 - form.bias - form.mantissa))
    subnormal = builder.sub(bits_of(builder, builder.fadd(absolute(builder, x), anchor)), bits_of(builder, anchor))
    is_small = builder.icmp_unsigned("<", size, constant(kind, (128 - form.bias) << 23))
    found = builder.select(is_small, subnormal, normal)
    too_large = builder.icmp_unsigned(">", found, constant(kind, form.largest))
    keep = saturate or form.beyond is None
    beyond = constant(kind, form.largest if keep or form.beyond is None else form.beyond)
    sign = builder.and_(builder.lshr(bits, constant(kind, 32 - form.bits)), constant(kind, 1 << (form.bits - 1)))
    nan = constant(kind, 0 if form.nan is None else form.nan)
    if form.one_zero:
        found = builder.select(too_large, beyond, found)
        is_zero = builder.icmp_unsigned("==", found, constant(kind, 0))
        found = builder.select(is_zero, found, builder.or_(found, sign))
        found = builder.select(is_nan(builder, x), nan, found)
    else:
        found = builder.select(is_nan(builder, x), nan, builder.select(too_large, beyond, found))
        found = builder.or_(found, sign)
    return builder.trunc(found, shaped_like(x.type, I8))


def _decode_exponent(builder: ir.IRBuilder, code: ir.Value) -> ir.Value:
    kind = shaped_like(code.type, I32)
    bits = builder.zext(code, kind)
    smallest = builder.icmp_unsigned("==", bits, constant(kind, 0))  # 2**-127 is subnormal
    power = builder.select(smallest, constant(kind, 1 << 22), builder.shl(bits, constant(kind, 23)))
    is_special = builder.icmp_unsigned("==", bits, constant(kind, 255))
    return builder.bitcast(builder.select(is_special, constant(kind, 0x7FC00000), power), shaped_like(code.type, F32))


def _encode_exponent(builder: ir.IRBuilder, x: ir.Value, saturate: bool, round_mode: str) -> ir.Value:
    """The exponent of float32, one more where the mantissa asks for it; the sign is dropped."""
    bits = bits_of(builder, x)
    kind = bits.type
    one, zero = constant(kind, 1), constant(kind, 0)
    exponent = builder.and_(builder.lshr(bits, constant(kind, 23)), constant(kind, 255))
    fraction = builder.and_(bits, constant(kind, 0x7FFFFF))
    if round_mode == "up":
        more = builder.icmp_unsigned("!=", fraction, zero)
    elif round_mode == "nearest":
        half = constant(kind, 1 << 22)
        tie = builder.and_(builder.icmp_unsigned("==", fraction, half), builder.icmp_unsigned("!=", exponent, zero))
        more = builder.or_(builder.icmp_unsigned(">", fraction, half), tie)
    elif round_mode == "down":
        more = builder.icmp_unsigned("<", exponent, zero)
    else:
        raise ValueError(f"there is no round mode '{round_mode}'")
    if saturate:
        more = builder.and_(more, builder.icmp_unsigned("<", exponent, constant(kind, 254)))
    raised = builder.add(exponent, builder.select(more, one, zero))
    special = builder.icmp_unsigned("==", exponent, constant(kind, 255))
    found = builder.select(special, constant(kind, 255), raised)
    return builder.trunc(found, shaped_like(x.type, I8))
