"""Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source


@draws("DFT")
def fourier(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=schema.FLOATS[:2])
    shape = (source.dim(1, 2), *(source.dim(1, 12) for _ in range(source.dim(1, 2))))
    inverse = source.flag()
    onesided = source.rarely(3)
    parts = (1 if not onesided else 2) if inverse and onesided else (1 if onesided else source.dim(1, 2))
    x = source.floats((*shape, parts), dtype, -2, 2)
    axis = source.integer(1, len(shape) - 1)
    attributes: dict[str, Any] = {}
    if inverse:
        attributes["inverse"] = 1
        onesided = False if opset < 20 else onesided
        if x.shape[-1] == 1 and not onesided:
            x = np.concatenate([x, np.zeros_like(x)], axis=-1)
    if onesided and not inverse:
        attributes["onesided"] = 1
    length = np.array(source.integer(1, 14), np.int64) if source.rarely(3) else None
    if opset < 20:
        attributes["axis"] = axis
        return OpCase(op, opset, (x,) if length is None else (x, length), attributes, tolerance=1e-4)
    given = np.array(axis - x.ndim if source.flag() else axis, np.int64)
    return OpCase(op, opset, (x, length, given), attributes, tolerance=1e-4)


@draws("STFT")
def short_time(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=schema.FLOATS[:2])
    length = source.pick([4, 8, 6])
    samples = length + source.integer(0, 12)
    x = source.floats((source.dim(1, 2), samples, 1), dtype, -2, 2)
    step = np.array(source.dim(1, 4), np.int64)
    window = source.floats((length,), dtype, 0, 1) if source.flag() else None
    frame = np.array(length, np.int64) if window is None or source.flag() else None
    inputs: list[Array | None] = [x, step, window, frame]
    while inputs[-1] is None:
        inputs.pop()
    attributes = {"onesided": int(source.flag())} if source.flag() else {}
    return OpCase(op, opset, tuple(inputs), attributes, tolerance=1e-4)
