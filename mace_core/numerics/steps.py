"""How many steps of a quantization one value is from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.tensor import DType

ALLOWED_STEPS = 1
"""A number that lies between two steps may be rounded to either: the floats before it depend on the order of sums."""

_INTEGER_BITS = 16
"""Wider integers are sums and indices, not quantized numbers."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The differences of two quantized values of one shape and type.

    Attributes:
        worst: the most steps any element is off.
        off, far: how many elements differ, and how many by more than one step.
        elements: how many there are.
    """

    worst: int
    off: int
    far: int
    elements: int

    @property
    def is_good(self) -> bool:
        """Whether no element is further off than rounding explains."""
        return self.worst <= ALLOWED_STEPS


def has_steps(dtype: DType | None) -> bool:
    """Whether values of this type are quantized numbers: integers of 16 bits or fewer, floats of 8 or fewer."""
    if dtype is None:
        return False
    return (dtype.is_integer and dtype.bits <= _INTEGER_BITS) or (dtype.is_float and dtype.bits <= 8)


def count_steps(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Steps:
    """The differences of two arrays of one shape and of one type that `has_steps`."""
    apart = np.abs(_ordinals(found) - _ordinals(expected))
    return Steps(
        int(apart.max(initial=0)),
        int(np.count_nonzero(apart)),
        int(np.count_nonzero(apart > ALLOWED_STEPS)),
        int(apart.size),
    )


def _ordinals(array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Integers that are one apart for neighbors: the numbers themselves, of floats their bits in the order of size."""
    if not DType.from_numpy(array.dtype).is_float:
        return array.astype(np.int64)
    bits = array.view(np.uint8).astype(np.int64)
    sign = 1 << (DType.from_numpy(array.dtype).bits - 1)
    ordered: npt.NDArray[np.int64] = np.where(bits & sign, -(bits & (sign - 1)), bits & (sign - 1))
    return ordered
