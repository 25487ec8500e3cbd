"""LiteRT's functions of 16 bits: a table of 513 places, and lines between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.arithmetic.rounding import half_away

Function: TypeAlias = "Callable[[npt.NDArray[Any]], npt.NDArray[Any]]"
"""Of real numbers: float64 in; float64 out, or float32 where the function itself is computed in it."""

LOWEST, HIGHEST = -32768, 32767
_STEPS = 512


def places(
    function: Function,
    input_scale: float,
    output_scale: float,
    *,
    input_zero: int = 0,
    kind: Any = np.float32,
) -> npt.NDArray[np.int16]:
    """The table that LiteRT prepares for a function (``LUTPopulate``).

    Each place is moved by half of the error that a line makes between it and the next.

    Args:
        function: the function.
        input_scale, output_scale: of the quantized numbers.
        input_zero: the zero point of the input.
        kind: the type that LiteRT prepares the table in, numpy's.

    Returns:
        (513,) numbers.
    """
    low, high = kind(input_scale) * kind(LOWEST - input_zero), kind(input_scale) * kind(HIGHEST - input_zero)
    step = kind((high - low) / kind(_STEPS))
    inverse = kind(65536) / (kind(output_scale) * kind(HIGHEST) - kind(output_scale) * kind(LOWEST))
    number = np.arange(_STEPS + 1).astype(kind)
    at: npt.NDArray[Any] = low + number[:-1] * step
    after: npt.NDArray[Any] = low + number[1:] * step

    def of(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(function(x.astype(np.float64)).astype(kind) * inverse)

    with np.errstate(over="ignore", invalid="ignore"):
        sample = half_away(of(at))
        between = half_away((of(after) + sample) / kind(2))
        bias = half_away((between - half_away(of(at + step / kind(2)))) / kind(2))
        found = np.clip(np.append(sample - bias, half_away(of(np.array([high], kind)))), LOWEST, HIGHEST)
    return np.asarray(np.nan_to_num(found, nan=0), np.int16)  # infinity less infinity becomes 0 in the kernels


def between_places(codes: npt.ArrayLike, table: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """What LiteRT reads out of a table of 513 places for numbers of 16 bits."""
    codes = np.asarray(codes, np.int64)
    index, offset = 256 + (codes >> 7), codes & 0x7F
    slope = (table[index + 1].astype(np.int64) - table[index]).astype(np.int16)  # wraps in the kernels, too
    return np.asarray(table[index] + ((slope.astype(np.int64) * offset + 64) >> 7), np.int16)
