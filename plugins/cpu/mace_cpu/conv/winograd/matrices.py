"""The matrices of Winograd's minimal filtering F(m, r): m results of an r-tap filter by m + r - 1 multiplications.

    result = a @ ((g @ taps) * (b @ input))

A. Lavin, S. Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016.  The matrices follow from Toom and
Cook's multiplication of polynomials: evaluate both at m + r - 1 points, multiply, interpolate; transposed, that is a
filter (S. Winograd: Arithmetic Complexity of Computations, SIAM 1980).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

Matrix = tuple[tuple[Fraction, ...], ...]

_POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))
"""Small, and exact in float32; infinity is the last one."""


@dataclass(frozen=True, slots=True)
class Transforms:
    """``a`` is (m, n), ``g`` (n, r) and ``b`` (n, n), with n = m + r - 1."""

    a: Matrix
    g: Matrix
    b: Matrix


@functools.cache
def transforms(results: int, taps: int) -> Transforms:
    """The matrices of F(results, taps).

    Raises:
        ValueError: more points are needed than there are good ones.
    """
    count = results + taps - 1
    points = _POINTS[: count - 1]
    if len(points) < count - 1:
        raise ValueError(f"F({results}, {taps}) takes {count} points; {len(_POINTS) + 1} are known")
    a = tuple((*(p**i for p in points), Fraction(i == results - 1)) for i in range(results))
    g, b = [], []
    for j, p in enumerate(points):
        others = points[:j] + points[j + 1 :]
        scale = Fraction(1)
        for other in others:
            scale *= p - other
        g.append(tuple(p**k / scale for k in range(taps)))
        b.append((*_polynomial(others), Fraction(0)))
    g.append(tuple(Fraction(k == taps - 1) for k in range(taps)))
    b.append(_polynomial(points))
    return Transforms(a, tuple(g), tuple(b))


def _polynomial(roots: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """Coefficients of the polynomial with these roots, constant first, leading coefficient 1."""
    found = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *found]
        scaled = [-root * c for c in found] + [Fraction(0)]
        found = [s + t for s, t in zip(shifted, scaled, strict=True)]
    return tuple(found)
