"""Fourier transforms and mel filters."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.operators.checks import expect_one, expect_rank, require
from mace_core.operators.context import NodeContext, ShapeMismatchError
from mace_core.operators.registry import agreement, shape_function, shapes_from_contents
from mace_core.tensor import TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


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


shapes_from_contents("BlackmanWindow", "HammingWindow", "HannWindow", inputs=(0,))
shapes_from_contents("MelWeightMatrix", inputs=(0, 1))
shapes_from_contents("DFT", inputs=(1, 2))


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("MelWeightMatrix")
def check_mel_weights(ctx: NodeContext) -> None:
    for index in range(ctx.input_count):
        expect_one(ctx, index, f"input {index}")


@agreement("DFT")
def check_fourier(ctx: NodeContext) -> None:
    shape = ctx.shape(0)
    require(
        len(shape) >= 2 and shape[-1] in (1, 2),
        f"the last axis of {list(shape)} must hold 1 (real) or 2 (complex) parts",
    )
    expect_one(ctx, 1, "the length")
    expect_one(ctx, 2, "the axis")
    axis = ctx.attr("axis", 1) if ctx.opset < 20 else -2
    if ctx.has(2):
        known = ctx.content(2)
        axis = axis if known is None else int(known.reshape(-1)[0])
    require(
        -len(shape) <= axis < len(shape) and axis % len(shape) != len(shape) - 1,
        f"axis {axis} must name an axis of {list(shape)} before the last",
    )


@agreement("STFT")
def check_short_time_fourier(ctx: NodeContext) -> None:
    signal = ctx.shape(0)
    require(
        len(signal) == 2 or (len(signal) == 3 and signal[2] in (1, 2)),
        f"the signal must be (batch, samples, 1 or 2), not {list(signal)}",
    )
    expect_one(ctx, 1, "the step")
    expect_one(ctx, 3, "the length of frames")
    if ctx.has(2):
        window = expect_rank(ctx, 2, 1, "the window")
        length = ctx.content(3) if ctx.has(3) else None
        require(
            length is None or int(length.reshape(-1)[0]) >= window[0],
            f"a window of {window[0]} does not fit frames of {None if length is None else int(length.reshape(-1)[0])}",
        )
