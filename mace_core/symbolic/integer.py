"""Integers that are expressions over the symbols of a trace."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from mace_core.symbolic import polynomial as poly
from mace_core.symbolic.kinds import N, Symbolic, is_for_people, is_symbolic
from mace_core.symbolic.polynomial import Monomial, Polynomial
from mace_core.symbolic.trace import LARGEST_SIZE, SMALLEST_SIZE, Trace


class SymbolicInt(Symbolic):
    """A size that depends on the symbols of a trace.

    It stands where integers stand: arithmetic gives further expressions; a comparison is answered for the shapes at
    hand and becomes a guard, unless its answer is the same for all.  Whatever needs the number itself (``range``,
    numpy, the inside of C code) gets that of the shapes at hand through ``__index__``, and the guard that it is this
    number: what is computed from it is right, and serves no other.  So code that knows nothing of symbols may be handed
    them.

    ``isinstance(size, int)`` holds, as it does for what stands in for an object in tests.  It is no subclass: code in C
    would take the number of one without asking.  It has no hash, because a table that outlives the trace must not hold
    it: tables are asked with numbers.
    """

    __slots__ = ("expression", "trace")
    __array_ufunc__ = None  # arithmetic with numpy's scalars is done here
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, trace: Trace, expression: Polynomial) -> None:
        self.trace = trace
        self.expression = expression

    @property
    def __class__(self) -> Any:
        return int

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise TypeError("the class of a size cannot be set")

    @property
    def hint(self) -> int:
        """The value for the shapes that the trace was made with."""
        return self.trace.value(self.expression)

    @property
    def settled(self) -> int:
        """The number, where the guards so far leave only one; else the size."""
        low, high = self.trace.interval(self.expression)
        return int(low) if low == high else cast("int", self)

    def is_same(self, other: int) -> bool:
        """Whether it is known to be equal to another size."""
        return self.trace.known(poly.add(self.expression, polynomial_of(other), -1), "==") is True

    # --- arithmetic -----------------------------------------------------------------------------------------------

    def __add__(self, other: object) -> Any:
        return self._with(other, operator.add, self.trace.sum)

    def __radd__(self, other: object) -> Any:
        return self._with(other, operator.add, self.trace.sum)

    def __sub__(self, other: object) -> Any:
        return self._with(other, operator.sub, lambda p, q: self.trace.sum(p, q, -1))

    def __rsub__(self, other: object) -> Any:
        return self._with(other, lambda x, y: y - x, lambda p, q: poly.add(q, p, -1))

    def __mul__(self, other: object) -> Any:
        return self._with(other, operator.mul, self.trace.product)

    def __rmul__(self, other: object) -> Any:
        return self._with(other, operator.mul, self.trace.product)

    def _with(
        self,
        other: object,
        apply: Callable[[Any, Any], Any],
        combine: Callable[[Polynomial, Polynomial], Polynomial],
    ) -> Any:
        """The result for a size, for a number that is none, or for each element of an array."""
        operand = _operand(other)
        if operand is not None:
            return as_size(self.trace, combine(self.expression, operand))
        if isinstance(other, np.ndarray):
            return np.frompyfunc(lambda item: apply(self, item), 1, 1)(other.astype(object))
        if isinstance(other, float | np.floating):
            return apply(SymbolicReal(self.trace, self.expression), float(other))
        return NotImplemented

    def __neg__(self) -> Any:
        return as_size(self.trace, poly.scale(self.expression, -1))

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __pow__(self, power: int) -> Any:
        if power < 0:
            return self.__index__() ** power
        result: Any = 1
        for _ in range(power):
            result = result * self
        return result

    def __floordiv__(self, other: object) -> Any:
        return self._with(other, operator.floordiv, self.trace.floor_division)

    def __rfloordiv__(self, other: object) -> Any:
        return self._with(other, lambda x, y: y // x, lambda p, q: self.trace.floor_division(q, p))

    def __mod__(self, other: object) -> Any:
        quotient = self // other
        return NotImplemented if quotient is NotImplemented else self - quotient * other

    def __rmod__(self, other: Any) -> Any:
        return other - (other // self) * self

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        quotient = self // other
        return quotient, self - quotient * other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        quotient = other // self
        return quotient, other - quotient * self

    def __lshift__(self, bits: int) -> Any:
        return self * (1 << bits)

    def __rshift__(self, bits: int) -> Any:
        return self // (1 << bits)

    def __and__(self, other: int) -> int:
        return self.__index__() & other

    def __or__(self, other: int) -> int:
        return self.__index__() | other

    def __xor__(self, other: int) -> int:
        return self.__index__() ^ other

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    # --- decisions ------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        q = _operand(other)
        if q is None:
            return self.__index__() == other if isinstance(other, float | np.floating) else False
        return self.trace.decide(poly.add(self.expression, q, -1), "==")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        q = _operand(other)
        return self.__index__() < other if q is None else self.trace.decide(poly.add(self.expression, q, -1), "<")

    def __gt__(self, other: Any) -> bool:
        q = _operand(other)
        return self.__index__() > other if q is None else self.trace.decide(poly.add(q, self.expression, -1), "<")

    def __le__(self, other: Any) -> bool:
        return not self > other

    def __ge__(self, other: Any) -> bool:
        return not self < other

    def __bool__(self) -> bool:
        return not self.trace.decide(self.expression, "==")

    # --- the number itself ----------------------------------------------------------------------------------------

    def __index__(self) -> int:
        value = self.hint
        self.trace.decide(poly.add(self.expression, poly.constant(value), -1), "==")
        return value

    __int__ = __trunc__ = __floor__ = __ceil__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, SymbolicInt) or is_symbolic(other):
            return self.__index__() / other
        return SymbolicReal(self.trace, self.expression) / float(other)

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.__index__()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__index__(), name)

    def __format__(self, form: str) -> str:
        """As text that may become part of a name: of the number itself, while it matters; see `writing_for_people`."""
        if is_for_people() or not self.trace.is_open:
            return format(str(self), form)
        return format(self.__index__(), form)

    def __repr__(self) -> str:
        return self.trace.text(self.expression)

    __str__ = __repr__


def as_size(trace: Trace, expression: Polynomial) -> int:
    """The size with this value: a plain integer where it does not depend on symbols."""
    found = poly.as_constant(expression)
    return cast("int", SymbolicInt(trace, expression)) if found is None else found


def new_symbol(trace: Trace, name: str, hint: int, low: int = SMALLEST_SIZE, high: int = LARGEST_SIZE) -> int:
    """A size that is not decided, between two bounds, which are guards.

    Args:
        trace: without expressions so far.
        name: what people call it.
        hint: its value for the shapes at hand.
        low, high: both included.

    Raises:
        ValueError: if the hint is not between the bounds, or expressions have been made already.
    """
    return as_size(trace, trace.symbol(name, hint, low, high))


class SymbolicReal(Symbolic):
    """A number that is a size times another one: how much work something is, mostly.

    As a number, it is that of the shapes at hand, with the guards that every size in it is what it is now; `hint` gives
    it without them, and `whole` what an estimate is needed for.
    """

    __slots__ = ("terms", "trace")
    __array_ufunc__ = None

    def __init__(self, trace: Trace, terms: Mapping[Monomial, float]) -> None:
        self.trace = trace
        self.terms = terms

    @property
    def hint(self) -> float:
        """The value for the shapes that the trace was made with."""
        atoms = self.trace.atoms
        return sum(c * math.prod(atoms[number].hint for number in m) for m, c in self.terms.items())

    def __add__(self, other: object) -> Any:
        return self._sum(other, 1)

    __radd__ = __add__

    def __sub__(self, other: object) -> Any:
        return self._sum(other, -1)

    def __rsub__(self, other: Any) -> Any:
        return self * -1 + other

    def __mul__(self, other: object) -> Any:
        terms = _real_terms(other)
        if terms is None:
            return NotImplemented
        product: dict[Monomial, float] = {}
        for first, a in self.terms.items():
            for second, b in terms.items():
                monomial = tuple(sorted(first + second))
                product[monomial] = product.get(monomial, 0.0) + a * b
        return SymbolicReal(self.trace, product)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return SymbolicReal(self.trace, {m: c / float(other) for m, c in self.terms.items()})

    def __rtruediv__(self, other: Any) -> float:
        return cast("float", other / float(self))

    def __float__(self) -> float:
        for monomial in self.terms:
            for number in monomial:
                expression = poly.add(poly.atom(number), poly.constant(self.trace.atoms[number].hint), -1)
                self.trace.decide(expression, "==")
        return self.hint

    def __int__(self) -> int:
        return int(float(self))

    __trunc__ = __int__

    def __lt__(self, other: Any) -> bool:
        return bool(float(self) < other)

    def __le__(self, other: Any) -> bool:
        return bool(float(self) <= other)

    def __gt__(self, other: Any) -> bool:
        return bool(float(self) > other)

    def __ge__(self, other: Any) -> bool:
        return bool(float(self) >= other)

    def _sum(self, other: object, factor: int) -> Any:
        terms = _real_terms(other)
        if terms is None:
            return NotImplemented
        total = dict(self.terms)
        for monomial, coefficient in terms.items():
            total[monomial] = total.get(monomial, 0.0) + factor * coefficient
        return SymbolicReal(self.trace, total)


def _real_terms(other: object) -> Mapping[Monomial, float] | None:
    if isinstance(other, SymbolicReal):
        return other.terms
    if isinstance(other, float | np.floating):
        return {poly.ONE: float(other)}
    return _operand(other)


_FRACTION_BITS = 20


def whole(estimate: float, per: float) -> int:
    """About ``estimate / per``, which are not negative, rounded down, as a size: into how many parts work is split."""
    if isinstance(estimate, SymbolicReal):
        terms = estimate.terms
    elif is_symbolic(estimate):
        terms = cast("Mapping[Monomial, float]", cast("SymbolicInt", estimate).expression)
    else:
        return int(estimate / per)
    trace = cast("SymbolicReal | SymbolicInt", estimate).trace
    scaled = {m: math.ceil(c * (1 << _FRACTION_BITS) / per) for m, c in terms.items()}
    scaled = {m: c for m, c in scaled.items() if c}
    quotient = trace.floor_division(scaled, poly.constant(1 << _FRACTION_BITS))
    return as_size(trace, trace.extreme("max", quotient, poly.ZERO))


def _operand(other: object) -> Polynomial | None:
    kind = type(other)
    if kind is SymbolicInt:
        return cast("SymbolicInt", other).expression
    if kind is int or kind is bool:
        return poly.constant(int(cast("int", other)))
    if isinstance(other, np.integer | np.bool_):
        return poly.constant(int(other))
    return None


def polynomial_of(size: int) -> Polynomial:
    """A size, symbolic or not, as a polynomial."""
    found = _operand(size)
    if found is None:
        raise TypeError(f"{size!r} is not a size")
    return found


def divisor(size: int) -> int:
    """A number that divides the size, whatever the symbols are: of a number, that itself."""
    return math.gcd(*polynomial_of(size).values())


def minimum(first: N, second: N) -> N:
    """The smaller one, as an expression; of an estimate the whole part; of a quotient, the one that is smaller now."""
    return cast("N", _extreme("min", first, second))


def maximum(first: N, second: N) -> N:
    """The larger one, as an expression; of an estimate the whole part; of a quotient, the one that is larger now."""
    return cast("N", _extreme("max", first, second))


def ceiling(size: int, divisor: int) -> int:
    """``size / divisor``, rounded up."""
    return -(-size // divisor)


def _extreme(operation: Any, first: Any, second: Any) -> Any:
    if all(not is_symbolic(one) or isinstance(one, SymbolicInt | SymbolicReal) for one in (first, second)):
        return _expressed_extreme(operation, first, second)
    return min(first, second) if operation == "min" else max(first, second)


def _expressed_extreme(operation: Any, first: Any, second: Any) -> Any:
    for one in (first, second):
        if is_symbolic(one):
            trace = cast("SymbolicInt", one).trace
            found = trace.extreme(operation, polynomial_of(_size(first)), polynomial_of(_size(second)))
            return as_size(trace, found)
    return min(first, second) if operation == "min" else max(first, second)


def _size(number: float) -> int:
    return whole(number, 1) if isinstance(number, SymbolicReal | float) else number
