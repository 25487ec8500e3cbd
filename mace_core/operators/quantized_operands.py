"""Scales and zero points of quantized operands: refused where no number has a meaning with them.

Rules of agreement call these for each operand of an operator, whoever runs it then.  Only constant scales are looked
at: those that are computed are what they are.
"""

from __future__ import annotations

import numpy as np

from mace_core.graph.computed import ComputedTensor
from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext


def expect_operand(ctx: NodeContext, what: str, *, data: int | None, scale: int, zero: int) -> None:
    """Refuse an operand whose scale is no positive finite number, or whose zero point is not of the type of its data.

    Args:
        what: the operand, for messages: "the data".
        data: index of the input that holds it; None for a result, whose zero point says its type.
        scale, zero: indices of inputs; those that are left out are not looked at.
    """
    expect_scale(ctx, scale, f"the scale of {what}")
    if ctx.has(zero):
        expect_zero_point(ctx, zero, f"the zero point of {what}", data=data, most_bits=8)


def expect_result_like_first(ctx: NodeContext, scale: int, zero: int) -> None:
    """`expect_operand` for a result that has the element type of input 0."""
    expect_operand(ctx, "the result", data=None, scale=scale, zero=zero)
    if ctx.has(zero):
        require(
            ctx.dtype(zero) is ctx.dtype(0),
            f"the zero point of the result must be {ctx.dtype(0).label}, as the data, not {ctx.dtype(zero).label}",
        )


def expect_scale(ctx: NodeContext, index: int, what: str, *, may_be_any: bool = False) -> None:
    """Refuse a scale, where given, that is not of a float type, or a constant one that is not positive and finite.

    Args:
        may_be_any: zero and negative ones have a meaning: those of weights in blocks, where onnxruntime's tool lets the
            number of the largest magnitude become the lowest integer, whatever its sign, and a block of zeros has the
            scale 0.
    """
    if not ctx.has(index):
        return
    dtype = ctx.dtype(index)
    require(dtype.is_float, f"{what} must be of a float type, not {dtype.label}")
    value = ctx.node.inputs[index]
    constant = None if value is None else value.constant
    if constant is None or isinstance(constant, ComputedTensor):
        return
    scales = constant.numpy().astype(np.float32)
    wrong = ~np.isfinite(scales)
    if not may_be_any:
        wrong |= scales <= 0
    if wrong.any():
        wanted = "finite" if may_be_any else "a positive finite number"
        require(False, f"{what} must be {wanted}, not {scales[wrong].reshape(-1)[0]:g}")


def expect_zero_point(ctx: NodeContext, index: int, what: str, *, data: int | None, most_bits: int = 16) -> None:
    """Refuse a zero point, where given, of another type than input ``data`` has.

    Args:
        data: None for a result: its zero point may be any integer of ``most_bits`` or fewer, or a float of 8 or fewer.
    """
    if not ctx.has(index):
        return
    zero = ctx.dtype(index)
    if data is not None:
        require(
            zero is ctx.dtype(data), f"{what} must be {ctx.dtype(data).label}, as what it belongs to, not {zero.label}"
        )
    is_stored = zero.bits <= most_bits if zero.is_integer else zero.bits <= 8
    require(is_stored or data is not None, f"{what} is {zero.label}, which stands for no quantized number")
