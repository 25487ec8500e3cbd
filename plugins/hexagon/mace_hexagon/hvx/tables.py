"""Tables for Lookup8: all results of a quantized function, computed once on the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mace_core.tensor import QuantEncoding


def lookup_table(
    function: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    operand: QuantEncoding,
    result: QuantEncoding,
) -> npt.NDArray[np.uint8 | np.int8]:
    """What QuantizeLinear(function(DequantizeLinear(x))) is for each x, in ascending order of x.

    Args:
        function: element-wise; it is given the 256 real numbers that ``operand`` can stand for, as float32.
        operand, result: encodings of the same 8-bit type, each for the whole tensor.

    Returns:
        256 numbers of that type.

    Raises:
        ValueError: for other encodings.
    """
    kinds = {np.dtype(encoding.dtype.numpy) for encoding in (operand, result)}
    whole = all(encoding.axis is None and not encoding.block_size for encoding in (operand, result))
    if len(kinds) != 1 or not whole or kinds.isdisjoint({np.dtype(np.uint8), np.dtype(np.int8)}):
        raise ValueError("a table of 256 results needs two encodings of the same 8-bit type, each for a whole tensor")
    (dtype,) = kinds
    zero = operand.zero_point.reshape(()).astype(np.int32)
    limits = np.iinfo(dtype)
    reals = (np.arange(limits.min, limits.max + 1) - zero).astype(np.float32) * np.float32(operand.scale.reshape(()))
    scaled = np.rint(function(reals).astype(np.float32) / np.float32(result.scale.reshape(())))
    shifted = np.nan_to_num(scaled).astype(np.float64) + int(result.zero_point.reshape(()))
    table: npt.NDArray[np.uint8 | np.int8] = np.clip(shifted, limits.min, limits.max).astype(dtype)
    return table
