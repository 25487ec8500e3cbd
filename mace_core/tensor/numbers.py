"""Plain Python numbers and texts as arrays of an element type, which must hold them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.tensor.dtype import DType


def array_of(values: Any, dtype: DType) -> npt.NDArray[Any]:
    """``values`` as an array of an element type: floats are rounded to it, all else has to be in it as it is.

    Args:
        values: a number or a text, or sequences of them, as deep as the array is to have dimensions.

    Raises:
        ValueError: if some value is of another kind, or not in the range of the type: 16000.5 is no integer, 300 no
            byte, and 1e39 no float32.
    """
    items = np.array(values, dtype=object)
    for item in items.flat:
        if not _is_of_kind(item, dtype):
            raise ValueError(f"{item!r} is no {dtype.label}")
    try:
        found = _converted(items, dtype)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    for item, stored in zip(items.flat, found.flat, strict=True):
        if not _is_held(item, stored, dtype):
            raise ValueError(f"{item!r} is no {dtype.label}")
    return found


def _is_of_kind(item: Any, dtype: DType) -> bool:
    if dtype is DType.STRING:
        return isinstance(item, str)
    if dtype is DType.BOOL:
        return isinstance(item, int | float | np.bool_ | np.number) and item in (0, 1)
    if isinstance(item, complex | np.complexfloating):
        return not dtype.is_float and not dtype.is_integer
    return isinstance(item, int | float | np.bool_ | np.number)


def _converted(items: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    if dtype is DType.STRING:
        return items
    with np.errstate(all="ignore"):  # what overflows is found afterwards
        if dtype.is_float:
            return np.asarray(items.astype(np.float64).astype(dtype.numpy))
        if dtype.is_integer:  # some kinds wrap around, and others raise
            return np.asarray(items.astype(np.float64 if _has_floats(items) else object).astype(dtype.numpy))
        return np.asarray(items.astype(dtype.numpy))


def _has_floats(items: npt.NDArray[Any]) -> bool:
    return any(isinstance(item, float) for item in items.flat)


def _is_held(item: Any, stored: Any, dtype: DType) -> bool:
    if dtype is DType.STRING or dtype is DType.BOOL:
        return True  # its kind tells
    if dtype.is_integer:
        return bool(int(stored) == item)
    if dtype.is_float:
        given, kept = float(item), float(stored)
        if not math.isfinite(given):
            return given == kept or (math.isnan(given) and math.isnan(kept))
        return math.isfinite(kept) and not (dtype.is_packed and abs(given) > _largest(dtype))
    return bool(np.isfinite(stored) or not np.isfinite(complex(item)))


def _largest(dtype: DType) -> float:
    """The largest number of a type that has no infinity: what is more would become it."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)
