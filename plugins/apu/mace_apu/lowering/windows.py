"""Sliding windows in the form that Neuron takes; over one dimension they are windows over pictures of one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mace_apu.description import Operand, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import NHWC, NLC
from mace_core.graph import sliding_window, transposed_window
from mace_core.graph.windows import Window as CoreWindow

PICTURE_RANK = 4
ROW_RANK = 3


@dataclass(frozen=True, slots=True)
class Window:
    """A window over height and width.

    Attributes:
        pads: (before, after) of each.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    def pad_operands(self) -> list[Operand]:
        """Left, right, top, bottom."""
        (top, bottom), (left, right) = self.pads
        return [_named(left, "left"), _named(right, "right"), _named(top, "top"), _named(bottom, "bottom")]

    def stride_operands(self) -> list[Operand]:
        """Along the width, along the height."""
        return [_named(self.strides[1], "stride_width"), _named(self.strides[0], "stride_height")]

    def dilation_operands(self) -> list[Operand]:
        """Along the width, along the height."""
        return [_named(self.dilations[1], "dilation_width"), _named(self.dilations[0], "dilation_height")]

    def kernel_operands(self) -> list[Operand]:
        """Width, height."""
        return [_named(self.kernel[1], "width"), _named(self.kernel[0], "height")]


def resolve_window(context: NodeContext, kernel: Sequence[int]) -> Window:
    """The window of a convolution or pooling node.

    Raises:
        DeclinedError: for a negative padding, or dimensions that Neuron has no windows over.
    """
    spatial = spatial_sizes(context)
    try:
        return _from_core(sliding_window(context.node, spatial, kernel))
    except ValueError as error:
        raise DeclinedError(str(error)) from None


def resolve_transposed_window(context: NodeContext, kernel: Sequence[int]) -> Window:
    """The window of a ConvTranspose node; what is added to the result's end counts as less padding there.

    Raises:
        DeclinedError: for padding that Neuron cannot say.
    """
    spatial, results = spatial_sizes(context), context.out_shape()[2:]
    try:
        found = _from_core(transposed_window(context.node, spatial, results, kernel), check=False)
    except ValueError as error:
        raise DeclinedError(str(error)) from None
    sizes = (1,) * (2 - len(spatial)) + tuple(spatial)
    wanted = (1,) * (2 - len(results)) + tuple(results)
    pads = tuple(
        (before, (size - 1) * stride + (kernel - 1) * dilation + 1 - before - result)
        for (before, _), size, stride, kernel, dilation, result in zip(
            found.pads, sizes, found.strides, found.kernel, found.dilations, wanted, strict=True
        )
    )
    _require_pads(pads)
    return Window(found.kernel, found.strides, found.dilations, pads)


def spatial_sizes(context: NodeContext) -> tuple[int, ...]:
    """Sizes of the axes behind batch and channels, one or two."""
    shape = context.shape(0)
    if len(shape) not in (ROW_RANK, PICTURE_RANK):
        raise DeclinedError(f"{context.node.op_type} over {max(len(shape) - 2, 0)} dimensions is not offered, only "
                            "over one or two")  # fmt: skip
    return shape[2:]


def picture(context: NodeContext) -> Operand:
    """Operand 0 with channels last, as a picture of one row if it has one spatial dimension."""
    if len(context.shape(0)) == PICTURE_RANK:
        return context.x(0, NHWC)
    rows = context.x(0, NLC)
    batch, length, channels = rows.shape
    return context.reshaped(rows, (batch, 1, length, channels))


def new_picture(context: NodeContext) -> Operand:
    """The operand that an operation over pictures is to write; hand it to `finish_picture` then."""
    if len(context.out_shape()) == PICTURE_RANK:
        return context.new_result(NHWC)
    batch, channels, length = context.out_shape()
    return context.temporary((batch, 1, length, channels), context.new_result(NLC), "row")


def finish_picture(context: NodeContext, made: Operand) -> None:
    """``made`` holds the result."""
    if len(context.out_shape()) == PICTURE_RANK:
        context.finish(made, NHWC)
        return
    batch, _, length, channels = made.shape
    context.finish(context.reshaped(made, (batch, length, channels)), NLC)


def _from_core(found: CoreWindow, *, check: bool = True) -> Window:
    missing = 2 - len(found.kernel)
    one, none = (1,) * missing, ((0, 0),) * missing
    pads = (*none, *zip(found.begins, found.ends, strict=True))
    if check:
        _require_pads(pads)
    return Window((*one, *found.kernel), (*one, *found.strides), (*one, *found.dilations), pads)


def _require_pads(pads: tuple[tuple[int, int], ...]) -> None:
    if any(pad < 0 for pair in pads for pad in pair):
        raise DeclinedError("negative padding is not offered by Neuron")


def _named(number: int, name: str) -> Operand:
    return scalar_int(int(number), name)
