"""Polynomials with integer coefficients, the normal form of sizes.

A polynomial maps monomials to coefficients other than 0; a monomial is the sorted tuple of its atoms' numbers, one
entry for each power.  Two sizes that are equal for every shape because of how they are computed have one form, so that
most questions about them have an answer that holds always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

Monomial: TypeAlias = "tuple[int, ...]"
Polynomial: TypeAlias = "Mapping[Monomial, int]"
Key: TypeAlias = "tuple[tuple[Monomial, int], ...]"
Interval: TypeAlias = "tuple[float, float]"

ONE: Monomial = ()
ZERO: Polynomial = MappingProxyType({})


def constant(value: int) -> Polynomial:
    return {ONE: value} if value else {}


def atom(number: int) -> Polynomial:
    return {(number,): 1}


def as_constant(p: Polynomial) -> int | None:
    """The number, if it is one."""
    if not p:
        return 0
    return p[ONE] if len(p) == 1 and ONE in p else None


def key_of(p: Polynomial) -> Key:
    """A hashable form; equal for equal polynomials."""
    return tuple(sorted(p.items()))


def add(p: Polynomial, q: Polynomial, factor: int = 1) -> Polynomial:
    """``p + factor * q``."""
    result = dict(p)
    for monomial, coefficient in q.items():
        total = result.get(monomial, 0) + factor * coefficient
        if total:
            result[monomial] = total
        else:
            result.pop(monomial, None)
    return result


def scale(p: Polynomial, factor: int) -> Polynomial:
    return {monomial: factor * coefficient for monomial, coefficient in p.items()} if factor else {}


def multiply(p: Polynomial, q: Polynomial) -> Polynomial:
    result: dict[Monomial, int] = {}
    for first, a in p.items():
        for second, b in q.items():
            monomial = tuple(sorted(first + second))
            total = result.get(monomial, 0) + a * b
            if total:
                result[monomial] = total
            else:
                result.pop(monomial, None)
    return result


def divide_exactly(p: Polynomial, q: Polynomial) -> Polynomial | None:
    """``p / q`` where that is a polynomial with integer coefficients, else None: long division by the leading term."""
    remainder, quotient = dict(p), dict[Monomial, int]()
    lead = _leading(q)
    while remainder:
        top = _leading(remainder)
        factor = _divide_monomial(top, lead)
        if factor is None or remainder[top] % q[lead]:
            return None
        coefficient = remainder[top] // q[lead]
        quotient[factor] = coefficient
        remainder = dict(add(remainder, multiply({factor: coefficient}, q), -1))
    return quotient


def _leading(p: Polynomial) -> Monomial:
    return max(p, key=lambda monomial: (len(monomial), monomial))


def _divide_monomial(monomial: Monomial, by: Monomial) -> Monomial | None:
    rest = list(monomial)
    for factor in by:
        if factor not in rest:
            return None
        rest.remove(factor)
    return tuple(rest)


def common_factor(p: Polynomial) -> Monomial:
    """The largest monomial that divides every term."""
    shared: list[int] | None = None
    for monomial in p:
        if shared is None:
            shared = list(monomial)
            continue
        rest, kept = list(monomial), []
        for factor in shared:
            if factor in rest:
                rest.remove(factor)
                kept.append(factor)
        shared = kept
    return tuple(shared or ())


def without_content(p: Polynomial) -> Polynomial:
    """``p`` divided by the greatest common divisor of its coefficients: of the same sign everywhere."""
    divisor = math.gcd(*p.values())
    return {monomial: coefficient // divisor for monomial, coefficient in p.items()} if divisor > 1 else p


def evaluate(p: Polynomial, value: Callable[[int], int]) -> int:
    """The value where atoms have the values that ``value`` gives."""
    return sum(coefficient * math.prod(value(number) for number in monomial) for monomial, coefficient in p.items())


def interval(p: Polynomial, bounds: Callable[[int], Interval]) -> Interval:
    """An interval that holds every value where atoms lie within ``bounds``."""
    low: float = 0  # whole numbers are exact, infinities are floats
    high: float = 0
    for monomial, coefficient in p.items():
        term: Interval = (1, 1)
        for number in monomial:
            term = interval_of_product(term, bounds(number))
        term = interval_of_product(term, (coefficient, coefficient))
        low += term[0]
        high += term[1]
    return low, high


def interval_of_product(a: Interval, b: Interval) -> Interval:
    """Where products of numbers within two intervals lie."""
    products = [_product(x, y) for x in a for y in b]
    return min(products), max(products)


def _product(x: float, y: float) -> float:
    return 0 if x == 0 or y == 0 else x * y  # infinity times nothing is nothing here
