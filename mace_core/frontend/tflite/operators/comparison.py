"""Comparisons of two tensors, broadcast against each other."""

from __future__ import annotations

import numpy as np

from mace_core.frontend.tflite.arithmetic.rounding import Integers, multiplied, multiplier_of
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.graph import Value
from mace_core.tensor import DType

_COMPARISONS = {
    "EQUAL": "Equal",
    "NOT_EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
}
_LEFT_SHIFT = 8
"""Quantized numbers are compared in steps of 1 / 256, whatever their scales."""


@converter(*_COMPARISONS)
def comparison(op: Operation) -> None:
    """Of quantized numbers as LiteRT compares them: as whole numbers of 256ths; 16 bits in order as they are stored."""
    kind = op.file.builtin
    found = op.emit(_COMPARISONS[kind], _sides(op))
    op.keep(op.emit("Not", [found]) if kind == "NOT_EQUAL" else found)


def _sides(op: Operation) -> list[Value]:
    if not (op.is_quantized(op.tensor(0)) and op.is_quantized(op.tensor(1))):
        return [op.real(0), op.real(1)]
    if op.dtype(0) is DType.INT16 and "EQUAL" not in (op.file.builtin, op.file.builtin.removeprefix("NOT_")):
        return [op.stored(0), op.stored(1)]
    scales = [float(op.tensor(index).quantization.scale.max(initial=1)) for index in (0, 1)]  # type: ignore[union-attr]
    if op.is_alike(op.tensor(0), op.tensor(1)) and scales[0] * (1 << _LEFT_SHIFT) >= 1:  # no two become one
        return [op.stored(0), op.stored(1)]
    tables = [_in_steps(op, index) for index in (0, 1)]
    if any(table is None for table in tables):
        return [op.real(0), op.real(1)]
    return [
        op.emit("Gather", [op.number(table, np.int32), op.cast(op.stored(index), DType.INT32)], {"axis": 0})
        for index, table in enumerate(tables)
        if table is not None
    ]


def _in_steps(op: Operation, index: int) -> Integers | None:
    """All numbers of an input in 256ths, negative ones behind the others; None where LiteRT's shifts would wrap."""
    quantization, dtype = op.tensor(index).quantization, op.dtype(index)
    if quantization is None or quantization.scale.size != 1 or dtype not in (DType.INT8, DType.UINT8, DType.INT16):
        return None
    scale = float(quantization.scale[0])
    if not 0 < scale < 1:
        return None
    info = np.iinfo(dtype.numpy)
    codes = np.concatenate([np.arange(0, info.max + 1), np.arange(info.min, 0)])
    return multiplied((codes - int(quantization.zero_point[0])) << _LEFT_SHIFT, multiplier_of(scale))
