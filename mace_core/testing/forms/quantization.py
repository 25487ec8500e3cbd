"""Conversion to and from quantized numbers: types, zero points, scales per tensor and per channel of any axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import Array, form, forms_of, rows, values

CHOICES: dict[str, Any] = {
    "scales": ("tensor", "channel"),
    "axis": (None, 0, 2, -1, -2),
    "zero": ("given", "left out"),
    "dtype": ("int8", "uint8", "int16", "uint16"),
    "shape": ((3, 4, 5), (2, 7, 13), (1, 1, 1)),
    "opset": (21, 13, 10),
}


def _steps(shape: tuple[int, ...], axis: int | None, dtype: str) -> tuple[Array, Array]:
    """Scales and zero points, all of them different, along an axis or one for all."""
    wide = 1e-4 if dtype.endswith("16") else 0.03
    if axis is None:
        return np.array(wide, np.float32), np.array(-5 if dtype.startswith("i") else 9, dtype)
    count = shape[axis]
    zeros = np.arange(count) * 3 - (4 if dtype.startswith("i") else -2)
    return (np.linspace(1, 2, count) * wide).astype(np.float32), zeros.astype(dtype)


@forms_of("QuantizeLinear", "DequantizeLinear")
def conversions(op_type: str) -> Iterator[Case]:
    for row, different in rows(**CHOICES, alone=("dtype", "opset")):
        shape, dtype = row["shape"], row["dtype"]
        if row["scales"] == "tensor" and row["axis"] is not None:
            continue
        if (row["opset"] < 21 and dtype.endswith("16")) or (row["opset"] < 13 and row["scales"] == "channel"):
            continue
        if row["zero"] == "left out" and op_type == "QuantizeLinear":
            dtype = "uint8"  # what is meant then
        axis = None if row["scales"] == "tensor" else 1 if row["axis"] is None else row["axis"]
        scale, zero = _steps(shape, axis, dtype)
        x = values(shape, dtype, 140) if op_type == "DequantizeLinear" else values(shape, "float32", 140, -3.0, 3.0)
        inputs = [x, scale] if row["zero"] == "left out" else [x, scale, zero]
        traits = {name: value for name, value in different.items() if name != "opset"}
        attributes = {"axis": row["axis"] if row["scales"] == "channel" else None}
        yield form(op_type, inputs, traits, constants=[1, 2], attributes=attributes, opset=row["opset"])


@forms_of("QuantizeLinear")
def ties_and_ends(op_type: str) -> Iterator[Case]:
    """Halves go to the even number, and what lies beyond the range to its end."""
    halves = np.arange(-9, 10, dtype=np.float32) / 4
    for dtype, zero in (("int8", 0), ("uint8", 128), ("int8", -128), ("uint8", 255), ("int8", 127)):
        scale = np.array(0.5, np.float32)
        traits = {"values": "halves", "dtype": dtype, "zero": zero}
        yield form(op_type, [halves, scale, np.array(zero, dtype)], traits, constants=[1, 2])
        far = np.array([-1e4, -70, 0, 70, 1e4], np.float32)
        traits = {"values": "beyond the range", "dtype": dtype, "zero": zero}
        yield form(op_type, [far, scale, np.array(zero, dtype)], traits, constants=[1, 2])


@forms_of("DynamicQuantizeLinear")
def dynamic(op_type: str) -> Iterator[Case]:
    for low, high in ((-2.0, 2.0), (0.5, 3.0), (-3.0, -0.5)):
        x = values((3, 17), "float32", 141, low, high)
        yield form(op_type, [x], {"values": [low, high]}, outputs=3)
