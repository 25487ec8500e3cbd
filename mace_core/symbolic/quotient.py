"""Floats that shapes are computed with: half of a length, rounded up, as resizing and windows need them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mace_core.symbolic.integer import divisor
from mace_core.symbolic.kinds import Symbolic, is_symbolic

SIGNIFICANT_BITS = {"float32": 24, "float64": 53}
"""Whole numbers of so many bits, and their quotients by powers of two, are exact in these types."""


class InexactError(ArithmeticError):
    """The float that a run computes is not known to be what exact arithmetic says."""


class SymbolicQuotient(Symbolic):
    """A size divided by a number, where a float type holds exactly that, or the float nearest to it.

    Arithmetic that would leave these is refused with `InexactError`: what is computed here is what a run computes, to
    the last bit.  A quotient that had to be rounded can only be rounded to a whole number, up or down, which gives what
    the exact quotient gives: with ``a + b`` below ``2 ** bits``, no ``a / b`` is so near to a whole number that
    rounding reaches it.
    """

    __slots__ = ("bits", "denominator", "numerator")
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, numerator: int, denominator: int, bits: int) -> None:
        """
        Raises:
            InexactError: if the type may round it otherwise than said above.
        """
        shared = _shared_factor(numerator, denominator)
        self.numerator, self.denominator, self.bits = numerator // shared, denominator // shared, bits
        limit = 1 << bits
        if self.is_exact:
            if not -limit <= self.numerator <= limit:
                raise InexactError
        elif not (self.numerator >= 0 and self.numerator + self.denominator < limit):
            raise InexactError

    @property
    def is_exact(self) -> bool:
        """Whether it is the float, and not only near to it."""
        return self.denominator & (self.denominator - 1) == 0

    @property
    def hint(self) -> float:
        numerator: Any = self.numerator
        return float(numerator.hint if is_symbolic(numerator) else numerator) / self.denominator

    def floor(self) -> SymbolicQuotient:
        """Rounded down."""
        return SymbolicQuotient(self.numerator // self.denominator, 1, self.bits)

    def ceil(self) -> SymbolicQuotient:
        """Rounded up."""
        return SymbolicQuotient(-(-self.numerator // self.denominator), 1, self.bits)

    def whole(self) -> int:
        """Rounded towards zero."""
        if self.numerator < 0:
            return -(-self.numerator // self.denominator)
        return self.numerator // self.denominator

    def as_type(self, bits: int) -> SymbolicQuotient:
        """The same number in another float type."""
        if bits != self.bits and not self.is_exact:
            raise InexactError
        return SymbolicQuotient(self.numerator, self.denominator, bits)

    def __add__(self, other: object) -> SymbolicQuotient:
        a, b = self, self._operand(other)
        return self._result(a.numerator * b.denominator + b.numerator * a.denominator, a.denominator * b.denominator)

    __radd__ = __add__

    def __neg__(self) -> SymbolicQuotient:
        return self * -1.0

    def __sub__(self, other: object) -> SymbolicQuotient:
        return self + self._operand(other) * -1.0

    def __rsub__(self, other: object) -> SymbolicQuotient:
        return self * -1.0 + other

    def __mul__(self, other: object) -> SymbolicQuotient:
        a, b = self, self._operand(other)
        return self._result(a.numerator * b.numerator, a.denominator * b.denominator)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> SymbolicQuotient:
        a, b = self, self._operand(other)
        if is_symbolic(b.numerator) or b.numerator <= 0:
            raise InexactError
        return self._result(a.numerator * b.denominator, a.denominator * b.numerator, may_round=True)

    def __rtruediv__(self, other: object) -> SymbolicQuotient:
        raise InexactError

    def __eq__(self, other: object) -> bool:
        return self._compared(other, lambda a, b: a == b)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: object) -> bool:
        return self._compared(other, lambda a, b: a < b)

    def __gt__(self, other: object) -> bool:
        return self._compared(other, lambda a, b: a > b)

    def __le__(self, other: object) -> bool:
        return not self > other

    def __ge__(self, other: object) -> bool:
        return not self < other

    def __float__(self) -> float:
        """The number itself, with the guard that it is this number."""
        return int(self.numerator) / self.denominator

    def _result(self, numerator: int, denominator: int, *, may_round: bool = False) -> SymbolicQuotient:
        found = SymbolicQuotient(numerator, denominator, self.bits)
        if not found.is_exact and not may_round:
            raise InexactError
        return found

    def _operand(self, other: object) -> SymbolicQuotient:
        """Another number of the same type; both have to be exact, since one more rounding is not what was proved."""
        if isinstance(other, float | np.floating):
            ratio = float(other).as_integer_ratio() if np.isfinite(other) else None
            other = None if ratio is None else SymbolicQuotient(*ratio, self.bits)
        if not isinstance(other, SymbolicQuotient) or not (self.is_exact and other.is_exact):
            raise InexactError
        return other

    def _compared(self, other: object, compare: Callable[[int, int], bool]) -> bool:
        a, b = self, self._operand(other)
        return compare(a.numerator * b.denominator, b.numerator * a.denominator)


def _shared_factor(numerator: int, denominator: int) -> int:
    """A number that divides both, whatever the symbols are."""
    return math.gcd(divisor(numerator), denominator)
