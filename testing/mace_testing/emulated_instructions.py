"""Instructions of ARMv8.6 that the emulator does not know: products of matrices of bytes, and bfloat16.

Source: Arm Architecture Reference Manual for A-profile, section C7.2.  Sums of bfloat16 are rounded as the processor
does without FEAT_EBF16: to odd.  That differs from sums in float32 in the last bit; here they are sums in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
_REGISTERS = 0x001F03FF  # where the numbers of the three registers are

_BYTES = {0x4E80A400: (np.int8, np.int8), 0x6E80A400: (np.uint8, np.uint8), 0x4E80AC00: (np.uint8, np.int8)}
"""smmla, ummla, usmmla: the types of the operands."""

_BFMMLA, _BFDOT, _BFDOT_LANE = 0x6E40EC00, 0x6E40FC00, 0x4F40F000
_BFCVTN, _BFCVTN2 = 0x0EA16800, 0x4EA16800


def execute(code: int, read: Callable[[int], Bytes], write: Callable[[int, Bytes], None]) -> None:
    """Do what an instruction does to the vector registers.

    Args:
        code: the instruction.
        read, write: the 16 bytes of a register, by number.

    Raises:
        ValueError: it is none of those here.
    """
    result, left, right = code & 31, code >> 5 & 31, code >> 16 & 31
    kind = code & ~_REGISTERS & 0xFFFFFFFF
    if kind in _BYTES:
        first, second = (
            read(register).view(dtype).reshape(2, 8).astype(np.int64)
            for register, dtype in zip((left, right), _BYTES[kind], strict=True)
        )
        total = read(result).view(np.int32).reshape(2, 2).astype(np.int64) + first @ second.T
        write(result, (total & 0xFFFFFFFF).astype(np.uint32).view(np.uint8).reshape(16))
        return
    if kind == _BFMMLA:
        one, other = _widened(read(left)).reshape(2, 4), _widened(read(right)).reshape(2, 4)
        floats = read(result).view(np.float32).reshape(2, 2) + one @ other.T
        write(result, floats.astype(np.float32).reshape(4).view(np.uint8))
        return
    if kind == _BFDOT:
        _dot(result, _widened(read(left)), _widened(read(right)), read, write)
        return
    if code & 0xFFC0F400 == _BFDOT_LANE:
        lane = (code >> 11 & 1) << 1 | code >> 21 & 1
        pair = _widened(read(right)).reshape(4, 2)[lane]
        _dot(result, _widened(read(left)), np.tile(pair, 4), read, write)
        return
    if code & ~0x3FF in (_BFCVTN, _BFCVTN2):
        halves = _narrowed(read(left).view(np.uint32)).view(np.uint8)
        rest = np.zeros(8, np.uint8)
        is_upper = code & ~0x3FF == _BFCVTN2
        write(result, np.concatenate([read(result)[:8], halves] if is_upper else [halves, rest]))
        return
    raise ValueError(f"the emulator does not know the instruction 0x{code:08x}")


def _dot(
    result: int,
    left: npt.NDArray[np.float32],
    right: npt.NDArray[np.float32],
    read: Callable[[int], Bytes],
    write: Callable[[int, Bytes], None],
) -> None:
    products = (left * right).reshape(4, 2)
    write(result, (read(result).view(np.float32) + (products[:, 0] + products[:, 1])).view(np.uint8))


def _widened(register: Bytes) -> npt.NDArray[np.float32]:
    return (register.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _narrowed(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint16]:
    """To nearest, ties to even; NaN stays NaN."""
    wide = words.astype(np.uint64)
    rounded = wide + 0x7FFF + (wide >> 16 & 1)
    is_nan = (words & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, (words | 0x400000) >> 16, rounded >> 16).astype(np.uint16)
