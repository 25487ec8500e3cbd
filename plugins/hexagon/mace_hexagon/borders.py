"""Numbers that the HTP cannot hold, recognized where they enter or leave a graph."""

from __future__ import annotations

import ctypes as c
from math import prod

import numpy as np
import numpy.typing as npt

from mace_core.errors import OutOfRangeError
from mace_core.provider import BoundTensor
from mace_core.tensor import DType
from mace_hexagon.builder import Port
from mace_hexagon.description import Content
from mace_hexagon.lowering.infinities import BEYOND, LARGEST
from mace_hexagon.lowering.magnitude import LARGEST_INPUT
from mace_hexagon.qnn.types import DataType

_INTEGERS = {DType.FLOAT16: c.c_uint16, DType.FLOAT32: c.c_uint32, DType.INT64: c.c_int64, DType.UINT64: c.c_uint64}
_SIGNLESS = 0x7FFF
_CODE_OF_BEYOND = int(np.float16(BEYOND).view(np.uint16))
_CODE_OF_INFINITY = 0x7C00
_ANY_SCORE_VANISHES = -1e9


def require_input(port: Port, target: BoundTensor) -> None:
    """Look at what enters.

    Raises:
        OutOfRangeError: for NaN, infinities and numbers beyond float16, where they are no masks, and for 64-bit
            integers that do not fit into 32 bits.
    """
    if port.tensor.data_type is DataType.INT_64:
        held = _integers(target)
        if int(held.max()) > LARGEST_INPUT or int(held.min()) < -LARGEST_INPUT:
            raise OutOfRangeError(
                f"input '{port.tensor.name}' holds 64-bit integers from 2**30 on, and the HTP computes with 32 bits"
            )
    elif port.tensor.content is not Content.ANY and not _enters(port, target):
        raise OutOfRangeError(
            f"input '{port.tensor.name}' holds infinities, NaN or numbers beyond {LARGEST:.0f}, which float16 on "
            "the HTP does not have"
        )


def require_output(port: Port, target: BoundTensor) -> None:
    """Look at what leaves.

    Raises:
        OutOfRangeError: for numbers that stand for infinities, NaN, or what is beyond float16.
    """
    if port.tensor.content is not Content.ANY and not _leaves(target):
        raise OutOfRangeError(
            f"result '{port.tensor.name}' left the range of float16, or has infinities or NaN, which the HTP does "
            "not have"
        )


def _enters(port: Port, target: BoundTensor) -> bool:
    if target.dtype is DType.FLOAT16 and int((_integers(target) & _SIGNLESS).max()) < _CODE_OF_INFINITY:
        return True
    held = _reals(target)
    low, high = float(held.min()), float(held.max())
    if port.tensor.content is not Content.MASK:
        return high <= LARGEST and low >= -LARGEST
    return high <= LARGEST and (
        low >= -LARGEST or _leaves_something(held.reshape(-1, target.shape[-1] if target.shape else 1))
    )


def _leaves_something(rows: npt.NDArray[np.floating]) -> bool:
    """Whether each row has something that is not masked, or one finite number that no score changes."""
    highest = rows.max(1)
    masked = rows[~(highest >= -LARGEST)]
    evenly = (masked == masked[:, :1]) & (masked <= _ANY_SCORE_VANISHES) & np.isfinite(masked)
    return bool(evenly.all())


def _leaves(target: BoundTensor) -> bool:
    if target.dtype is DType.FLOAT16:
        return int((_integers(target) & _SIGNLESS).max()) < _CODE_OF_BEYOND
    held = _reals(target)
    return float(held.max()) < BEYOND and float(held.min()) > -BEYOND


def _integers(target: BoundTensor) -> npt.NDArray[np.integer]:
    kind = _INTEGERS[target.dtype] * prod(target.shape)
    return np.ctypeslib.as_array(kind.from_address(target.address))


def _reals(target: BoundTensor) -> npt.NDArray[np.floating]:
    return _integers(target).view(target.dtype.numpy)
