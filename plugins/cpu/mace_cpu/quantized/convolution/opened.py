"""Convolutions of bytes of which only the run tells the zero point of the input, and a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from mace_core.native.numba_kernel import numba_source
from mace_cpu.quantized.products.emit import KERNELS as PRODUCTS
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.program.program import Program

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """What only the run tells of the input of a convolution.

    Attributes:
        zero: where its zero point lies, a byte.
        dtype: of the input and its zero point.
        scale: where the float32 lies that all scales are multiplied by; None for 1.
    """

    zero: Buf
    dtype: str
    scale: Buf | None


def emit_opened(program: Program, zero: Opened, fixed: Array, each: Array, scales: Array) -> tuple[Buf, Buf]:
    """Emit what sums start from, and what they are multiplied by: (int32, float32), as long as the arrays.

    Args:
        fixed, each: int32; sums start from ``fixed`` plus ``each`` times the zero point.
        scales: float32, the known ones.
    """
    put, starts = program.constants.put, Buf.scratch(4 * fixed.size)
    program.steps.emit(
        numba_source(PRODUCTS, "opened_starts", dtype=zero.dtype),
        {"fixed": put(fixed), "each": put(each), "zero": zero.zero, "starts": starts, "count": fixed.size},
        extent=1,
        work=fixed.size,
        name="ZeroPoints",
    )
    if zero.scale is None:
        return starts, put(scales)
    factors, count = Buf.scratch(4 * scales.size), scales.size
    words: Words = {
        "left": zero.scale,
        "right": put(scales),
        "target": factors,
        "count": count,
        "columns": count,
        "padded": count,
    }
    program.steps.emit(numba_source(PRODUCTS, "factors"), words, extent=1, work=count, name="Scales")
    return starts, factors


def emit_padding(program: Program, zero: Opened, count: int) -> Buf:
    """Emit as many bytes that stand for 0."""
    target = Buf.scratch(count)
    words: Words = {"zero": zero.zero, "target": target, "count": count}
    program.steps.emit(numba_source(PRODUCTS, "opened_padding"), words, extent=1, work=count, name="Padding")
    return target
