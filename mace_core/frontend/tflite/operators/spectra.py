"""Fourier transforms, and complex numbers, which are pairs along a last axis."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.types import PARTS


@converter("RFFT2D", options="Rfft2dOptions")
def real_fourier(op: Operation) -> None:
    """Of the last two axes, cropped or filled with zeros to the given lengths: (..., H, W) to (..., H, W / 2 + 1)."""
    rank = op.rank(0)
    x = op.emit("Unsqueeze", [op.stored(0), op.number([-1])])
    lengths = op.sizes(1)
    height, width = (op.emit("Gather", [lengths, op.number(place)]) for place in (0, 1))
    fixed = op.constant(1)
    y = op.emit("DFT", [x, width, op.number(rank - 1)], {"onesided": 1})
    if fixed is None or fixed.reshape(-1)[0] != 1 or op.shape(0)[-2] != 1:
        y = op.emit("DFT", [y, height, op.number(rank - 2)])
    op.keep(y)


@converter("REAL", "IMAG")
def part(op: Operation) -> None:
    _expect_complex(op)
    op.keep(op.emit("Gather", [op.stored(0), op.number(int(op.file.builtin == "IMAG"))], {"axis": -1}))


@converter("COMPLEX_ABS")
def absolute(op: Operation) -> None:
    _expect_complex(op)
    op.keep(op.emit("ReduceL2", [op.stored(0), op.number([-1])], {"keepdims": 0}))


def _expect_complex(op: Operation) -> None:
    if op.dtype(0) not in PARTS:
        raise op.error(f"reads {op.dtype(0).label}, not complex numbers")
