"""Exponentials, logarithms, tanh, erf, sine and cosine on float32 scalars or vectors of any lane count.

All functions take an ``llvmlite.ir`` builder and a value and return a value of the same type.  NaN stays NaN.  Stated
errors are the largest found over float32 inputs of all exponents, in units in the last place of the exact result; the
tests measure them.  float64 values are passed lane by lane to the C library.
"""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.vector_basic import (
    F64,
    I1,
    I32,
    absolute,
    any_lane,
    at_least,
    at_most,
    bits_of,
    call,
    constant,
    copy_sign,
    element,
    fma,
    int_type_of,
    intrinsic,
    lanes,
    may_use,
    polynomial,
    scalar_calls,
    shaped_like,
)

_LOG2_E = 1.44269504088896341
_LN2_HIGH = 0.693359375  # few bits, so that multiples are exact
_LN2_LOW = -2.12194440e-4
_ROUND_MAGIC = 12582912.0  # 1.5 * 2**23: adding it rounds to an integer, held in the low bits
_ROUND_MAGIC_BITS = 0x4B400000


def is_double(x: ir.Value) -> bool:
    """Whether a value's lanes are float64."""
    return bool(element(x.type) == F64)


def sqrt(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Square root, correctly rounded."""
    return intrinsic(builder, "llvm.sqrt", x)


# --- exponentials -----------------------------------------------------------------------------------------------------


def exp(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``e**x`` within 1 ulp (2 without fused multiply-add); subnormal results are right, too.

    Cody and Waite's reduction by multiples of ln 2, then the polynomial of Cephes' ``expf``.
    """
    if is_double(x):
        return scalar_calls(builder, "exp", x)
    return _exp_of_at_most_110(builder, at_most(builder, x, constant(x.type, 110.0)))


def _exp_of_at_most_110(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """`exp` of float32 values none of which is above 110."""
    x = at_least(builder, x, constant(x.type, -110.0))
    shifted, rounded, reduced = _reduce_by_ln2(builder, x)
    near_one = builder.fadd(_expm1_reduced(builder, reduced), constant(x.type, 1.0))
    if may_use(builder, "avx512f") and lanes(x.type) == 16:
        return _scalef(builder, near_one, rounded)
    power = builder.sub(bits_of(builder, shifted), constant(int_type_of(x.type), _ROUND_MAGIC_BITS))
    return _times_power_of_two(builder, near_one, power)


def expm1(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``e**x - 1`` within 2 ulp for x <= 1, small results included (the use of ELU and its kin)."""
    if is_double(x):
        return scalar_calls(builder, "expm1", x)
    x = at_most(builder, at_least(builder, x, constant(x.type, -40.0)), constant(x.type, 88.0))
    shifted, _, reduced = _reduce_by_ln2(builder, x)
    scale = _times_rounded_power(builder, constant(x.type, 1.0), shifted)
    return fma(builder, scale, _expm1_reduced(builder, reduced), builder.fsub(scale, constant(x.type, 1.0)))


def exp_of_negative(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``e**x`` for x <= 0 where results below the normal range may become 0 (softmax): cheaper than `exp`."""
    if is_double(x):
        return scalar_calls(builder, "exp", x)
    shifted, _, reduced = _reduce_by_ln2(builder, at_least(builder, x, constant(x.type, -87.3)))
    near_one = builder.fadd(_expm1_reduced(builder, reduced), constant(x.type, 1.0))
    result = _times_rounded_power(builder, near_one, shifted)
    return builder.select(builder.fcmp_ordered("<", x, constant(x.type, -87.3)), constant(x.type, 0.0), result)


def _reduce_by_ln2(builder: ir.IRBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The integer n nearest to x / ln 2 (in the low bits of a float, and as a float), and x - n ln 2.

    A NaN gives some n and NaN.
    """
    type_ = x.type
    shifted = fma(builder, x, constant(type_, _LOG2_E), constant(type_, _ROUND_MAGIC))
    rounded = builder.fsub(shifted, constant(type_, _ROUND_MAGIC))
    reduced = fma(builder, rounded, constant(type_, -_LN2_HIGH), x)
    return shifted, rounded, fma(builder, rounded, constant(type_, -_LN2_LOW), reduced)


def _expm1_reduced(builder: ir.IRBuilder, r: ir.Value) -> ir.Value:
    """``e**r - 1`` for |r| <= ln 2 / 2."""
    tail = polynomial(
        builder,
        r,
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
    )
    return fma(builder, builder.fmul(r, r), tail, r)


def _times_rounded_power(builder: ir.IRBuilder, x: ir.Value, shifted: ir.Value) -> ir.Value:
    """``x * 2**n`` where that is a normal number, by adding to the exponent: n is in the low bits of ``shifted``."""
    kind = int_type_of(x.type)
    field = builder.shl(bits_of(builder, shifted), constant(kind, 23))
    return builder.bitcast(builder.add(bits_of(builder, x), field), x.type)


def _scalef(builder: ir.IRBuilder, x: ir.Value, power: ir.Value) -> ir.Value:
    """``x * 2**power`` for sixteen lanes in one AVX-512 instruction, subnormal and infinite results included."""
    every, current_rounding = ir.Constant(ir.IntType(16), -1), ir.Constant(I32, 4)
    return call(builder, "llvm.x86.avx512.mask.scalef.ps.512", x.type, [x, power, x, every, current_rounding])


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
    """``1 / (1 + e**-x)`` within 3 ulp, tiny results included."""
    one = constant(x.type, 1.0)
    size = builder.fneg(absolute(builder, x))
    decay = exp(builder, size) if is_double(x) else _exp_of_at_most_110(builder, size)
    negative = builder.fcmp_ordered("<", x, constant(x.type, 0.0))
    return quotient(builder, builder.select(negative, decay, one), builder.fadd(one, decay))


def quotient(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """``x / y`` within 2 ulp for a y in [2**-60, 2**60].

    A division of sixteen lanes keeps AVX-512 machines busy for 16 cycles or more; an estimate of 1 / y good to 14 bits
    and one of Newton's steps take 4.
    """
    if not (may_use(builder, "avx512f") and lanes(x.type) == 16 and not is_double(x)):
        return builder.fdiv(x, y)
    every = ir.Constant(ir.IntType(16), -1)
    near = call(builder, "llvm.x86.avx512.rcp14.ps.512", x.type, [y, constant(x.type, 0.0), every])
    missing = fma(builder, builder.fneg(y), near, constant(x.type, 1.0))
    return builder.fmul(x, fma(builder, near, missing, near))


def tanh(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent within 2 ulp.

    Cephes' ``tanhf``: an odd polynomial below 0.625 and ``1 - 2 / (e**2x + 1)`` above.
    """
    if is_double(x):
        return scalar_calls(builder, "tanh", x)
    type_ = x.type
    one = constant(type_, 1.0)
    size = absolute(builder, x)
    doubled = at_most(builder, builder.fadd(size, size), constant(type_, 20.0))
    shifted, _, reduced = _reduce_by_ln2(builder, doubled)
    growth = _times_rounded_power(builder, builder.fadd(_expm1_reduced(builder, reduced), one), shifted)
    large = builder.fsub(one, quotient(builder, constant(type_, 2.0), builder.fadd(growth, one)))
    square = builder.fmul(x, x)
    bend = polynomial(
        builder,
        square,
        (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1),
    )
    small = fma(builder, builder.fmul(bend, square), x, x)
    is_small = builder.fcmp_ordered("<", size, constant(type_, 0.625))
    return copy_sign(builder, builder.select(is_small, small, large), x)


# --- logarithms -------------------------------------------------------------------------------------------------------


def log(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Natural logarithm within 2 ulp; -inf at 0, NaN below.

    Cephes' ``logf``: the exponent times ln 2 plus a polynomial for a mantissa around 1.
    """
    if is_double(x):
        return scalar_calls(builder, "log", x)
    type_, bits_type = x.type, int_type_of(x.type)
    one = constant(type_, 1.0)
    subnormal = builder.fcmp_ordered("<", x, constant(type_, 2.0**-126))
    scaled = builder.select(subnormal, builder.fmul(x, constant(type_, 2.0**23)), x)
    # counting from sqrt(1/2) puts the mantissa into [sqrt(1/2), sqrt(2))
    offset = builder.sub(bits_of(builder, scaled), constant(bits_type, 0x3F3504F3))
    power = builder.ashr(offset, constant(bits_type, 23))
    kept = builder.and_(offset, constant(bits_type, 0x007FFFFF))
    mantissa = builder.bitcast(builder.add(kept, constant(bits_type, 0x3F3504F3)), type_)
    adjust = builder.select(subnormal, constant(type_, -23.0), constant(type_, 0.0))
    exponent = builder.fadd(builder.sitofp(power, type_), adjust)
    m = builder.fsub(mantissa, one)
    square = builder.fmul(m, m)
    bend = polynomial(
        builder,
        m,
        (
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ),
    )
    low = builder.fmul(builder.fmul(m, square), bend)
    low = fma(builder, exponent, constant(type_, _LN2_LOW), low)
    low = fma(builder, square, constant(type_, -0.5), low)
    result = fma(builder, exponent, constant(type_, _LN2_HIGH), builder.fadd(m, low))
    infinity = constant(type_, float("inf"))
    result = builder.select(builder.fcmp_ordered("==", x, infinity), infinity, result)
    result = builder.select(builder.fcmp_ordered("==", x, constant(type_, 0.0)), constant(type_, float("-inf")), result)
    invalid = builder.fcmp_unordered("<", x, constant(type_, 0.0))
    return builder.select(invalid, constant(type_, float("nan")), result)


def log1p(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``log(1 + x)`` within 3 ulp for 0 <= x <= 1: Kahan's correction of what is lost in ``1 + x``."""
    if is_double(x):
        return scalar_calls(builder, "log1p", x)
    one = constant(x.type, 1.0)
    total = builder.fadd(one, x)
    lost = builder.fsub(x, builder.fsub(total, one))
    return builder.fadd(log(builder, total), builder.fdiv(lost, total))


# --- error function ---------------------------------------------------------------------------------------------------

_ERF_SPLIT = 0.92
# minimax fits made for this module: erf(x)/x - 1 in x**2 on [0, 0.92**2], and (-log(erfc(x)) - x) / x on [0.92, 4]
_ERF_NEAR = (
    -0.0005999406370318284,
    0.004994830406612319,
    -0.026767719971932318,
    0.11281845951927873,
    -0.3761249645998142,
    0.12837914996189198,
)
_ERF_FAR = (
    1.1231265556000146e-05,
    -0.0003228034769769128,
    0.003642457589418337,
    -0.02376206010008694,
    0.10623687462752844,
    0.6351513181037557,
    0.12864848985947688,
)


def erf(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Error function within 2 ulp: an odd polynomial near 0, ``1 - e**-p(|x|)`` beyond 0.92."""
    if is_double(x):
        return scalar_calls(builder, "erf", x)
    near, tail = _erf_parts(builder, x)
    far = copy_sign(builder, builder.fsub(constant(x.type, 1.0), tail), x)
    return builder.select(_is_near(builder, x), near, far)


def one_plus_erf(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """``1 + erf(x)`` without cancellation for x down to about -4, where it becomes 0 for float32 purposes."""
    if is_double(x):
        return scalar_calls(builder, "erfc", builder.fneg(x))
    near, tail = _erf_parts(builder, x)
    above = builder.fsub(constant(x.type, 2.0), tail)
    far = builder.select(builder.fcmp_ordered("<", x, constant(x.type, 0.0)), tail, above)
    return builder.select(_is_near(builder, x), builder.fadd(constant(x.type, 1.0), near), far)


def _is_near(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return builder.fcmp_ordered("<", absolute(builder, x), constant(x.type, _ERF_SPLIT))


def _erf_parts(builder: ir.IRBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """``erf(x)`` valid for |x| < 0.92, and ``erfc(|x|)`` valid beyond."""
    near = fma(builder, polynomial(builder, builder.fmul(x, x), _ERF_NEAR), x, x)
    size = at_most(builder, absolute(builder, x), constant(x.type, 9.0))
    decay = fma(builder, polynomial(builder, size, _ERF_FAR), size, size)
    return near, exp_of_negative(builder, builder.fneg(decay))


# --- trigonometry -----------------------------------------------------------------------------------------------------

_PI_HALF_HIGH = 1.57079632673412561417  # 33 bits: multiples by integers below 2**20 are exact in float64
_PI_HALF_LOW = 6.07710050650619224932e-11
_MOST_REDUCED = 1.6e6
_ROUND_MAGIC_DOUBLE = 6755399441055744.0  # 1.5 * 2**52


def sin(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Sine within 2 ulp (see `_trigonometric`)."""
    return _trigonometric(builder, x, "sin")


def cos(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Cosine within 2 ulp (see `_trigonometric`)."""
    return _trigonometric(builder, x, "cos")


def _trigonometric(builder: ir.IRBuilder, x: ir.Value, name: str) -> ir.Value:
    """Reduction by multiples of pi/2 in float64 (constants of fdlibm), then the polynomials of Cephes' ``sinf``.

    Where some lane is beyond 1.6 million, or no number, all lanes go to the C library.
    """
    if is_double(x):
        return scalar_calls(builder, name, x)
    inside = builder.fcmp_ordered("<", absolute(builder, x), constant(x.type, _MOST_REDUCED))
    outside = builder.xor(inside, constant(shaped_like(x.type, I1), 1))
    wide = builder.append_basic_block("wide")
    narrow = builder.append_basic_block("narrow")
    joined = builder.append_basic_block("joined")
    builder.cbranch(any_lane(builder, outside), wide, narrow)
    builder.position_at_end(wide)
    from_library = scalar_calls(builder, name + "f", x)
    builder.branch(joined)
    builder.position_at_end(narrow)
    from_polynomial = _trigonometric_reduced(builder, x, name)
    builder.branch(joined)
    builder.position_at_end(joined)
    result = builder.phi(x.type)
    result.add_incoming(from_library, wide)
    result.add_incoming(from_polynomial, narrow)
    return result


def _trigonometric_reduced(builder: ir.IRBuilder, x: ir.Value, name: str) -> ir.Value:
    type_, bits_type = x.type, int_type_of(x.type)
    double = shaped_like(type_, F64)
    wide = builder.fpext(x, double)
    magic = constant(double, _ROUND_MAGIC_DOUBLE)
    shifted = builder.fadd(builder.fmul(wide, constant(double, 0.63661977236758134)), magic)
    turns = builder.fsub(shifted, magic)
    reduced = builder.fsub(wide, builder.fmul(turns, constant(double, _PI_HALF_HIGH)))
    reduced = builder.fsub(reduced, builder.fmul(turns, constant(double, _PI_HALF_LOW)))
    quadrant = builder.trunc(bits_of(builder, shifted), bits_type)
    if name == "cos":
        quadrant = builder.add(quadrant, constant(bits_type, 1))
    r = builder.fptrunc(reduced, type_)
    square = builder.fmul(r, r)
    sine_bend = polynomial(builder, square, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
    sine = copy_sign(builder, fma(builder, builder.fmul(sine_bend, square), r, r), r)  # keeps -0
    cosine_bend = polynomial(builder, square, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2))
    flat = fma(builder, square, constant(type_, -0.5), constant(type_, 1.0))
    cosine = fma(builder, builder.fmul(square, square), cosine_bend, flat)
    one = constant(bits_type, 1)
    odd = builder.icmp_signed("==", builder.and_(quadrant, one), one)
    chosen = builder.select(odd, cosine, sine)
    flip = builder.shl(builder.and_(quadrant, constant(bits_type, 2)), constant(bits_type, 30))
    return builder.bitcast(builder.xor(bits_of(builder, chosen), flip), type_)
