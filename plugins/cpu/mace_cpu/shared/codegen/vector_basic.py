"""Small building blocks of generated code: constants, casts and calls on scalars or vectors of any lane count.

Every function takes an ``llvmlite.ir`` builder and values, and works on scalars and vectors alike: the lane count comes
from the values given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llvmlite import ir

F32 = ir.FloatType()
F64 = ir.DoubleType()
I1 = ir.IntType(1)
I8 = ir.IntType(8)
I32 = ir.IntType(32)
I64 = ir.IntType(64)


def lanes(type_: ir.Type) -> int:
    """The lane count of a vector type; 0 for a scalar."""
    return int(type_.count) if isinstance(type_, ir.VectorType) else 0


def element(type_: ir.Type) -> ir.Type:
    """The scalar type of a vector's lanes (or the scalar type itself)."""
    return type_.element if isinstance(type_, ir.VectorType) else type_


def with_lanes(scalar: ir.Type, count: int) -> ir.Type:
    """A vector of ``count`` lanes of ``scalar``, or the scalar itself for 0."""
    return ir.VectorType(scalar, count) if count else scalar


def shaped_like(type_: ir.Type, scalar: ir.Type) -> ir.Type:
    """The type with the lane count of ``type_`` and lanes of ``scalar``."""
    return with_lanes(scalar, lanes(type_))


def constant(type_: ir.Type, value: float | int) -> ir.Constant:
    """A constant of this type, the same in every lane."""
    count = lanes(type_)
    return ir.Constant(type_, [value] * count if count else value)


def splat(builder: ir.IRBuilder, scalar: ir.Value, type_: ir.Type) -> ir.Value:
    """A scalar in every lane of ``type_``; unchanged where ``type_`` is a scalar or ``scalar`` a vector already."""
    count = lanes(type_)
    if not count or isinstance(scalar.type, ir.VectorType):
        return scalar
    undefined = ir.Constant(type_, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, count), [0] * count))


def type_suffix(type_: ir.Type) -> str:
    """How LLVM names a type inside an intrinsic's name: ``v16f32``, ``f64``, ``i1``."""
    scalar = element(type_)
    name = {"float": "f32", "double": "f64"}.get(str(scalar), str(scalar))
    return f"v{lanes(type_)}{name}" if lanes(type_) else name


def call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Value]) -> ir.Value:
    """Call a function by its full name, declaring it in the module at first use."""
    module = builder.module
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return builder.call(function, arguments)


def intrinsic(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic whose result and overload type is that of its first argument (``llvm.fabs``)."""
    type_ = arguments[0].type
    return call(builder, f"{name}.{type_suffix(type_)}", type_, arguments)


def scalar_calls(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    """Call a C function of scalars for every lane (``powf``); the result has the type of the first argument.

    For functions too rare to be worth a vector form.
    """
    type_ = arguments[0].type
    if not lanes(type_):
        return call(builder, name, type_, arguments)
    result = ir.Constant(type_, ir.Undefined)
    for lane in range(lanes(type_)):
        index = ir.Constant(I32, lane)
        one = call(builder, name, element(type_), [builder.extract_element(a, index) for a in arguments])
        result = builder.insert_element(result, one, index)
    return result


def fma(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """``x * y + z``, in one rounding where the machine has such an instruction."""
    return intrinsic(builder, "llvm.fmuladd", x, y, z)


def polynomial(builder: ir.IRBuilder, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
    """Horner's scheme; the highest power's coefficient comes first."""
    result = constant(x.type, coefficients[0])
    for coefficient in coefficients[1:]:
        result = fma(builder, result, x, constant(x.type, coefficient))
    return result


def int_type_of(type_: ir.Type) -> ir.Type:
    """The integer type with as many bits per lane as this float type."""
    return shaped_like(type_, I64 if element(type_) == F64 else I32)


def bits_of(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The bit pattern of a float value as integers."""
    return builder.bitcast(x, int_type_of(x.type))


def sign_bit(type_: ir.Type) -> ir.Constant:
    """The integer mask of the sign bit of a float type."""
    return constant(int_type_of(type_), -(1 << 63) if element(type_) == F64 else -(1 << 31))


def absolute(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``|x|`` of floats."""
    return intrinsic(builder, "llvm.fabs", x)


def copy_sign(builder: ir.IRBuilder, magnitude: ir.Value, sign: ir.Value) -> ir.Value:
    """``magnitude`` with the sign of ``sign``."""
    return intrinsic(builder, "llvm.copysign", magnitude, sign)


def at_least(builder: ir.IRBuilder, x: ir.Value, bound: ir.Value) -> ir.Value:
    """``max(x, bound)`` for a bound that is not NaN: a NaN in ``x`` stays (one instruction on x86)."""
    return builder.select(builder.fcmp_ordered(">", bound, x), bound, x)


def at_most(builder: ir.IRBuilder, x: ir.Value, bound: ir.Value) -> ir.Value:
    """``min(x, bound)`` for a bound that is not NaN: a NaN in ``x`` stays (one instruction on x86)."""
    return builder.select(builder.fcmp_ordered("<", bound, x), bound, x)


def is_nan(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Lanes that are NaN."""
    return builder.fcmp_unordered("uno", x, x)


def maximum(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger of two floats; NaN if either is (as ONNX and numpy have it)."""
    if _has_maximum(builder, x.type):
        return call(builder, f"llvm.maximum.v{lanes(x.type)}f32", x.type, [x, y])
    larger = builder.select(builder.fcmp_ordered(">", x, y), x, y)
    return builder.select(is_nan(builder, x), x, larger)


def minimum(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller of two floats; NaN if either is (as ONNX and numpy have it)."""
    if _has_maximum(builder, x.type):
        return call(builder, f"llvm.minimum.v{lanes(x.type)}f32", x.type, [x, y])
    smaller = builder.select(builder.fcmp_ordered("<", x, y), x, y)
    return builder.select(is_nan(builder, x), x, smaller)


def _has_maximum(builder: ir.IRBuilder, kind: ir.Type) -> bool:
    """Whether one instruction gives the larger of two floats, or NaN, as fmax of aarch64 does."""
    is_arm = may_use(builder, "neon") and may_use(builder, "fp-armv8")
    return is_arm and isinstance(kind, ir.VectorType) and isinstance(kind.element, ir.FloatType)


def allow_features(module: ir.Module, features: Iterable[str]) -> None:
    """Tell the functions of this package which instruction sets (LLVM's names) code in ``module`` may use.

    Without it they stay with what LLVM can generate for every processor.
    """
    module.mace_features = frozenset(features)


def may_use(builder: ir.IRBuilder, feature: str) -> bool:
    """Whether code being generated may use an instruction set (see `allow_features`)."""
    return may_use_module(builder.module, feature)


def may_use_module(module: ir.Module, feature: str) -> bool:
    """As `may_use`, of all code of a module."""
    return feature in getattr(module, "mace_features", ())


def any_lane(builder: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    """Whether some lane of a mask is set, as one ``i1``."""
    count = lanes(mask.type)
    if not count:
        return mask
    together = builder.bitcast(mask, ir.IntType(count))
    return builder.icmp_unsigned("!=", together, ir.Constant(together.type, 0))
