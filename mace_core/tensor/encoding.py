"""Affine quantization encodings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_core.tensor.dtype import DType


@dataclass(frozen=True, eq=False)
class QuantEncoding:
    """How integers stand for reals: ``real = (q - zero_point) * scale``.

    Attributes:
        dtype: the stored integer type.
        scale: float32 array; shape () per tensor, (C,) per axis, block-shaped for blocked encodings.
        zero_point: array of ``dtype`` and of the same shape as ``scale``.
        axis: the channel axis, counted from the front, or None per tensor.
        block_size: elements along ``axis`` that share a scale, or 0 when not blocked.
    """

    dtype: DType
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None = None
    block_size: int = 0
