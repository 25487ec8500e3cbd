"""How element types are held in memory and in registers by elementwise kernels, and the casts between them.

Types are named as ``DType.label`` has them.  In registers a bool is an ``i1``; float16 and bfloat16 are float32 values
that are representable in the narrow type.  Kinds of eight bits and less, which no processor computes with, are bytes:
codes of floats, or integers that fit into fewer bits.
"""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen import narrow_floats
from mace_cpu.shared.codegen.vector_basic import (
    F32,
    F64,
    I1,
    I8,
    I32,
    bits_of,
    call,
    constant,
    element,
    is_nan,
    may_use,
    shaped_like,
    type_suffix,
    with_lanes,
)

NARROW_FLOATS = ("float16", "bfloat16")
CONVERTING = "fp-armv8"
"""The first ARMv8 with 64 bits rounds to float16 and widens it."""

F16 = ir.HalfType()
SHORT_INTEGERS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}
"""Bits that count, of integers held in a byte each."""


def is_float(dtype: str) -> bool:
    return "float" in dtype


def is_signed(dtype: str) -> bool:
    return dtype.startswith("int")


def bit_width(dtype: str) -> int:
    """Bits of one element in the memory of a subgraph."""
    if dtype == "bool" or dtype in SHORT_INTEGERS or dtype in narrow_floats.NAMES:
        return 8
    return int("".join(c for c in dtype.replace("bfloat", "float") if c.isdigit()))


def register_type(dtype: str, count: int) -> ir.Type:
    """The type of ``count`` elements in registers (0: one scalar)."""
    scalar = {"float32": F32, "float16": F32, "bfloat16": F32, "float64": F64, "bool": I1}.get(dtype)
    return with_lanes(ir.IntType(bit_width(dtype)) if scalar is None else scalar, count)


def load(builder: ir.IRBuilder, at: ir.Value, dtype: str, count: int) -> ir.Value:
    """``count`` elements (0: one scalar) from an address."""
    kind = register_type(dtype, count)
    if dtype == "bool":
        raw = builder.load(at, typ=with_lanes(I8, count), align=1)
        return builder.icmp_unsigned("!=", raw, constant(raw.type, 0))
    if dtype in NARROW_FLOATS:
        raw = builder.load(at, typ=with_lanes(ir.IntType(16), count), align=2)
        return of_float16_bits(builder, raw) if dtype == "float16" else _from_bfloat(builder, raw)
    return builder.load(at, typ=kind, align=bit_width(dtype) // 8)


def store(builder: ir.IRBuilder, value: ir.Value, at: ir.Value, dtype: str) -> None:
    """Elements from registers to an address."""
    if dtype == "bool":
        value = builder.zext(value, shaped_like(value.type, I8))
    elif dtype in NARROW_FLOATS:
        value = float16_bits(builder, value) if dtype == "float16" else _to_bfloat(builder, value)
    builder.store(value, at, align=bit_width(dtype) // 8)


def round_to(builder: ir.IRBuilder, value: ir.Value, dtype: str) -> ir.Value:
    """A float32 rounded to what a narrow float can hold; other types as they are."""
    if dtype == "float16":
        return of_float16_bits(builder, float16_bits(builder, value))
    if dtype == "bfloat16":
        return _from_bfloat(builder, _to_bfloat(builder, value))
    return value


def cast(
    builder: ir.IRBuilder, x: ir.Value, source: str, target: str, saturate: bool = True, round_mode: str = "up"
) -> ir.Value:
    """ONNX Cast between numbers and bools.

    Floats beyond the range of the integer type, which ONNX leaves open, wrap for integers below 64 bits (as numpy does
    for moderate values) and saturate otherwise; NaN gives 0.  ``saturate`` and ``round_mode`` are for floats of eight
    bits, see `narrow_floats.encode`.
    """
    if source == target:
        return x
    if source in narrow_floats.NAMES:
        x, source = narrow_floats.decode(builder, x, source), "float32"
    if target in narrow_floats.NAMES:
        wide = cast(builder, x, source, "float32")
        return narrow_floats.encode(builder, wide, target, saturate=saturate, round_mode=round_mode)
    if source in SHORT_INTEGERS:
        source = "int8" if is_signed(source) else "uint8"
    if target in SHORT_INTEGERS:
        byte = cast(builder, x, source, "int8" if is_signed(target) else "uint8")
        spare = constant(byte.type, 8 - SHORT_INTEGERS[target])
        raised = builder.shl(byte, spare)
        return builder.ashr(raised, spare) if is_signed(target) else builder.lshr(raised, spare)
    if source == target:
        return x
    kind = shaped_like(x.type, element(register_type(target, 0)))
    if target == "bool":
        zero = constant(x.type, 0.0 if is_float(source) else 0)
        return builder.fcmp_unordered("!=", x, zero) if is_float(source) else builder.icmp_signed("!=", x, zero)
    if is_float(source) and is_float(target):
        wide = builder.fpext(x, kind) if target == "float64" and source != "float64" else x
        narrow = builder.fptrunc(wide, kind) if source == "float64" and target != "float64" else wide
        return round_to(builder, narrow, target)
    if is_float(source):
        return _float_to_int(builder, x, target, kind)
    if is_float(target):
        to_float = builder.sitofp if is_signed(source) else builder.uitofp
        return round_to(builder, to_float(x, kind), target)
    if element(kind).width < element(x.type).width:
        return builder.trunc(x, kind)
    if element(kind).width == element(x.type).width:
        return x
    return builder.sext(x, kind) if is_signed(source) else builder.zext(x, kind)


def _float_to_int(builder: ir.IRBuilder, x: ir.Value, target: str, kind: ir.Type) -> ir.Value:
    width = bit_width(target)
    if width < 64:
        between = shaped_like(x.type, ir.IntType(64 if target == "uint32" else 32))
        whole = _saturating(builder, "llvm.fptosi.sat", x, between)
        return builder.trunc(whole, kind) if element(between) != element(kind) else whole
    signed = _saturating(builder, "llvm.fptosi.sat", x, kind)
    if target == "int64":
        return signed
    large = builder.fcmp_ordered(">=", x, constant(x.type, 2.0**63))
    return builder.select(large, _saturating(builder, "llvm.fptoui.sat", x, kind), signed)


def _saturating(builder: ir.IRBuilder, name: str, x: ir.Value, kind: ir.Type) -> ir.Value:
    return call(builder, f"{name}.{type_suffix(kind)}.{type_suffix(x.type)}", kind, [x])


# --- narrow floats, mostly by integer arithmetic: not every processor converts them -----------------------------------


def _from_bfloat(builder: ir.IRBuilder, raw: ir.Value) -> ir.Value:
    bits = builder.zext(raw, shaped_like(raw.type, I32))
    return builder.bitcast(builder.shl(bits, constant(bits.type, 16)), shaped_like(raw.type, F32))


def _to_bfloat(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The upper half, rounded to nearest even; NaN stays NaN."""
    bits = bits_of(builder, x)
    odd = builder.and_(builder.lshr(bits, constant(bits.type, 16)), constant(bits.type, 1))
    rounded = builder.add(bits, builder.add(odd, constant(bits.type, 0x7FFF)))
    kept = builder.select(is_nan(builder, x), constant(bits.type, 0x7FC00000), rounded)
    return builder.trunc(builder.lshr(kept, constant(bits.type, 16)), shaped_like(x.type, ir.IntType(16)))


def of_float16_bits(builder: ir.IRBuilder, raw: ir.Value) -> ir.Value:
    """By instruction on 64-bit ARM.  Else exponent and mantissa are moved into place; multiplying by a power of two
    rebiases and makes subnormals normal."""
    if may_use(builder, CONVERTING):
        return builder.fpext(builder.bitcast(raw, shaped_like(raw.type, F16)), shaped_like(raw.type, F32))
    kind, floats = shaped_like(raw.type, I32), shaped_like(raw.type, F32)
    bits = builder.zext(raw, kind)
    sign = builder.shl(builder.and_(bits, constant(kind, 0x8000)), constant(kind, 16))
    rest = builder.shl(builder.and_(bits, constant(kind, 0x7FFF)), constant(kind, 13))
    scaled = bits_of(builder, builder.fmul(builder.bitcast(rest, floats), constant(floats, 2.0**112)))
    special = builder.icmp_unsigned(">=", rest, constant(kind, 0x0F800000))
    infinite = builder.or_(rest, constant(kind, 0x7F800000))
    return builder.bitcast(builder.or_(builder.select(special, infinite, scaled), sign), floats)


def float16_bits(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Rounded to nearest even, by instruction on 64-bit ARM; else subnormal results by adding a number whose last place
    is theirs."""
    if may_use(builder, CONVERTING):
        narrow = builder.fptrunc(x, shaped_like(x.type, F16))
        return builder.bitcast(narrow, shaped_like(x.type, ir.IntType(16)))
    bits = bits_of(builder, x)
    kind = bits.type
    size = builder.and_(bits, constant(kind, 0x7FFFFFFF))
    floats = builder.bitcast(size, x.type)
    odd = builder.and_(builder.lshr(size, constant(kind, 13)), constant(kind, 1))
    rebias = constant(kind, 0xFFF - (112 << 23))
    normal = builder.lshr(builder.add(builder.add(size, rebias), odd), constant(kind, 13))
    shifted = builder.fadd(floats, constant(x.type, 0.5))
    subnormal = builder.sub(bits_of(builder, shifted), constant(kind, 0x3F000000))
    result = builder.select(builder.icmp_unsigned("<", size, constant(kind, 113 << 23)), subnormal, normal)
    overflow = builder.icmp_unsigned(">=", size, constant(kind, 0x47800000))
    result = builder.select(overflow, constant(kind, 0x7C00), result)
    result = builder.select(is_nan(builder, x), constant(kind, 0x7E00), result)
    sign = builder.and_(builder.lshr(bits, constant(kind, 16)), constant(kind, 0x8000))
    return builder.trunc(builder.or_(result, sign), shaped_like(x.type, ir.IntType(16)))
