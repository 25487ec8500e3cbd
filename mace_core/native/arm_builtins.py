"""What compilers call for integers of 64 bits on 32-bit ARM, which has no instructions for them.

Programs get these functions from their compiler.  A shared library brings them along: the ones of a compiler are marked
as following one convention for floats, and a library with them would be refused by systems with the other.  Floats are
passed in integer registers here on all systems.

Source: ARM's Run-time ABI (IHI 0043), 4.1 and 4.3.
"""

from __future__ import annotations

import re

from mace_core.native.compiler import HAND_MADE

_DIVISION = """
declare i64 @llvm.ctlz.i64(i64, i1)

define {i64, i64} @__aeabi_uldivmod(i64 %n, i64 %d) {
entry:
  %both = or i64 %n, %d
  %high = lshr i64 %both, 32
  %is_small = icmp eq i64 %high, 0
  %n32 = trunc i64 %n to i32
  %d32 = trunc i64 %d to i32
  %is_nothing = icmp eq i64 %d, 0
  %is_less = icmp ult i64 %n, %d
  %is_zero = or i1 %is_nothing, %is_less
  br i1 %is_zero, label %zero, label %whole
zero:
  %z = insertvalue {i64, i64} zeroinitializer, i64 %n, 1
  ret {i64, i64} %z
whole:
  br i1 %is_small, label %small, label %long
small:
  %q32 = udiv i32 %n32, %d32
  %p32 = mul i32 %q32, %d32
  %r32 = sub i32 %n32, %p32
  %qs = zext i32 %q32 to i64
  %rs = zext i32 %r32 to i64
  %s0 = insertvalue {i64, i64} undef, i64 %qs, 0
  %s1 = insertvalue {i64, i64} %s0, i64 %rs, 1
  ret {i64, i64} %s1
long:
  %zn = call i64 @llvm.ctlz.i64(i64 %n, i1 true)
  %zd = call i64 @llvm.ctlz.i64(i64 %d, i1 true)
  %first = sub i64 %zd, %zn
  %aligned = shl i64 %d, %first
  br label %loop
loop:
  %left = phi i64 [%first, %long], [%next, %loop]
  %part = phi i64 [%aligned, %long], [%half, %loop]
  %rest = phi i64 [%n, %long], [%rest2, %loop]
  %quotient = phi i64 [0, %long], [%quotient2, %loop]
  %fits = icmp uge i64 %rest, %part
  %less = sub i64 %rest, %part
  %rest2 = select i1 %fits, i64 %less, i64 %rest
  %double = shl i64 %quotient, 1
  %bit = zext i1 %fits to i64
  %quotient2 = or i64 %double, %bit
  %half = lshr i64 %part, 1
  %next = sub i64 %left, 1
  %is_last = icmp eq i64 %left, 0
  br i1 %is_last, label %end, label %loop
end:
  %e0 = insertvalue {i64, i64} undef, i64 %quotient2, 0
  %e1 = insertvalue {i64, i64} %e0, i64 %rest2, 1
  ret {i64, i64} %e1
}

define {i64, i64} @__aeabi_ldivmod(i64 %n, i64 %d) {
  %sn = ashr i64 %n, 63
  %sd = ashr i64 %d, 63
  %xn = xor i64 %n, %sn
  %xd = xor i64 %d, %sd
  %an = sub i64 %xn, %sn
  %ad = sub i64 %xd, %sd
  %found = call {i64, i64} @__aeabi_uldivmod(i64 %an, i64 %ad)
  %q = extractvalue {i64, i64} %found, 0
  %r = extractvalue {i64, i64} %found, 1
  %sq = xor i64 %sn, %sd
  %xq = xor i64 %q, %sq
  %sgq = sub i64 %xq, %sq
  %xr = xor i64 %r, %sn
  %sgr = sub i64 %xr, %sn
  %m0 = insertvalue {i64, i64} undef, i64 %sgq, 0
  %m1 = insertvalue {i64, i64} %m0, i64 %sgr, 1
  ret {i64, i64} %m1
}
"""

# The high half times 2^32 is exact, and so is the low half: only their sum is rounded.
_TO_DOUBLE = """
define i64 @__aeabi_ul2d(i64 %x) {
  %r = call double @to_double(i64 %x)
  %b = bitcast double %r to i64
  ret i64 %b
}
define i64 @__aeabi_l2d(i64 %x) {
  %s = ashr i64 %x, 63
  %f = xor i64 %x, %s
  %a = sub i64 %f, %s
  %r = call double @to_double(i64 %a)
  %b = bitcast double %r to i64
  %sign = and i64 %x, -9223372036854775808
  %v = or i64 %b, %sign
  ret i64 %v
}
define internal double @to_double(i64 %x) alwaysinline {
  %h64 = lshr i64 %x, 32
  %h32 = trunc i64 %h64 to i32
  %l32 = trunc i64 %x to i32
  %h = uitofp i32 %h32 to double
  %l = uitofp i32 %l32 to double
  %scaled = fmul double %h, 4294967296.0
  %sum = fadd double %scaled, %l
  ret double %sum
}
"""

# Bits that a double has no place for become one bit that says whether there were any, so that it is rounded once.
_TO_FLOAT = """
define i32 @__aeabi_ul2f(i64 %x) {
  %r = call float @to_float(i64 %x)
  %b = bitcast float %r to i32
  ret i32 %b
}
define i32 @__aeabi_l2f(i64 %x) {
  %s = ashr i64 %x, 63
  %f = xor i64 %x, %s
  %a = sub i64 %f, %s
  %r = call float @to_float(i64 %a)
  %b = bitcast float %r to i32
  %s32 = trunc i64 %s to i32
  %sign = and i32 %s32, -2147483648
  %v = or i32 %b, %sign
  ret i32 %v
}
define internal float @to_float(i64 %x) alwaysinline {
  %is_long = icmp ugt i64 %x, 9007199254740991
  %lost = and i64 %x, 2047
  %any = icmp ne i64 %lost, 0
  %kept = and i64 %x, -2048
  %flag = select i1 %any, i64 2048, i64 0
  %sticky = or i64 %kept, %flag
  %y = select i1 %is_long, i64 %sticky, i64 %x
  %d = call double @to_double(i64 %y)
  %r = fptrunc double %d to float
  ret float %r
}
"""

_FROM_FLOATS = """
declare i32 @llvm.fptoui.sat.i32.f64(double)
declare double @llvm.fabs.f64(double)

define internal i64 @from_double(double %x) alwaysinline {
  %a = call double @llvm.fabs.f64(double %x)
  %scaled = fmul double %a, 0x3DF0000000000000
  %h32 = call i32 @llvm.fptoui.sat.i32.f64(double %scaled)
  %hd = uitofp i32 %h32 to double
  %back = fmul double %hd, 4294967296.0
  %rest = fsub double %a, %back
  %l32 = call i32 @llvm.fptoui.sat.i32.f64(double %rest)
  %h = zext i32 %h32 to i64
  %l = zext i32 %l32 to i64
  %up = shl i64 %h, 32
  %v = or i64 %up, %l
  ret i64 %v
}
define i64 @__aeabi_d2ulz(i64 %b) {
  %x = bitcast i64 %b to double
  %v = call i64 @from_double(double %x)
  ret i64 %v
}
define i64 @__aeabi_d2lz(i64 %b) {
  %x = bitcast i64 %b to double
  %v = call i64 @from_double(double %x)
  %s = ashr i64 %b, 63
  %f = xor i64 %v, %s
  %r = sub i64 %f, %s
  ret i64 %r
}
define i64 @__aeabi_f2ulz(i32 %b) {
  %f = bitcast i32 %b to float
  %x = fpext float %f to double
  %v = call i64 @from_double(double %x)
  ret i64 %v
}
define i64 @__aeabi_f2lz(i32 %b) {
  %f = bitcast i32 %b to float
  %x = fpext float %f to double
  %v = call i64 @from_double(double %x)
  %s32 = ashr i32 %b, 31
  %s = sext i32 %s32 to i64
  %g = xor i64 %v, %s
  %r = sub i64 %g, %s
  ret i64 %r
}
"""

_ALL = _DIVISION + _TO_DOUBLE + _TO_FLOAT + _FROM_FLOATS

ARM_BUILTINS = tuple(re.findall(r"define \S.*@(__aeabi_\w+)\(", _ALL))
"""The functions that `arm_builtins_ir` has."""


def arm_builtins_ir() -> str:
    """They all, as LLVM IR that no optimizer may look at: it would find out that a division is one, and call it."""
    return HAND_MADE + _ALL
