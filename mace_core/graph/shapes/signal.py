"""Spectral operators."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import TensorType, ValueType


@shape_function("STFT")
def short_time_fourier(ctx: NodeContext) -> Sequence[ValueType]:
    """Signal (batch, samples, 1 or 2) -> (batch, frames, bins, 2)."""
    signal = ctx.shape(0)
    if len(signal) not in (2, 3):
        raise ShapeMismatchError("the signal must be (batch, samples, 1 or 2)")
    ctx.require_contents(1, 3)
    step = ctx.ints(1)[0]
    if ctx.has(3):
        length = ctx.ints(3)[0]
    elif ctx.has(2):
        length = ctx.shape(2)[0]
    else:
        raise ShapeMismatchError("either a window or a frame length is required")
    if step < 1 or not 0 < length <= signal[1]:
        raise ShapeMismatchError(f"frames of {length} every {step} do not fit {signal[1]} samples")
    bins = length // 2 + 1 if ctx.attr("onesided", 1) else length
    return [TensorType(ctx.dtype(0), (signal[0], (signal[1] - length) // step + 1, bins, 2))]
