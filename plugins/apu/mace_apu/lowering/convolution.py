"""Conv and ConvTranspose, in one and two dimensions; a BatchNormalization behind is folded in."""

from __future__ import annotations

import numpy as np

from mace_apu.description import Operand, scalar_bool, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.folding import fold_behind
from mace_apu.lowering.orders import Order
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.types import FLOATS
from mace_apu.lowering.weights import bias, filters
from mace_apu.lowering.windows import (
    PICTURE_RANK,
    Window,
    finish_picture,
    new_picture,
    picture,
    resolve_transposed_window,
    resolve_window,
)
from mace_apu.lowering.winograd import WINOGRAD, Form
from mace_apu.neuron.constants import Fuse, Operation

_OHWI: Order = (0, 2, 3, 1)
_IHWO: Order = (1, 2, 3, 0)


def _conv(context: NodeContext) -> None:
    shape, group = context.shape(1), int(context.attr("group", 1))
    window = resolve_window(context, shape[2:])
    channels, count = context.shape(0)[1], shape[0]
    depthwise = group == channels and group > 1
    dilated = any(dilation != 1 for dilation in window.dilations)
    if group > 1 and not depthwise and dilated:
        raise DeclinedError("a grouped Conv with dilations is not offered by Neuron, unless each channel is a group")
    x = picture(context)
    weights, shift = _parameters(context, x, depthwise)
    nhwc = scalar_bool(False, "nchw")
    common = [x, weights, shift, *window.pad_operands(), *window.stride_operands()]
    fuse = context.fuse()
    result = new_picture(context)
    if depthwise:
        multiplier = scalar_int(count // channels, "multiplier")
        inputs = [*common, multiplier, fuse, nhwc, *window.dilation_operands()]
        context.lowering.add(Operation.DEPTHWISE_CONV_2D, inputs, [result])
    elif group > 1:
        inputs = [*common, scalar_int(group, "groups"), fuse, nhwc]
        context.lowering.add(Operation.GROUPED_CONV_2D, inputs, [result])
    elif not _by_winograd(context, window, [x, weights, shift], fuse, result):
        context.lowering.add(Operation.CONV_2D, [*common, fuse, nhwc, *window.dilation_operands()], [result])
    finish_picture(context, result)


def _by_winograd(context: NodeContext, window: Window, operands: list[Operand], fuse: Operand, result: Operand) -> bool:
    """Whether Winograd's algorithm computes the convolution; the reason is noted where it could."""
    x, weights, _ = operands
    lowering, pads = context.lowering, window.pad_operands()
    eligible = (window.kernel, window.strides, window.dilations) == ((3, 3), (1, 1), (1, 1)) and x.code in FLOATS
    if not eligible or weights.data is None:
        return False
    numbers = (int(pad.data) for pad in pads if pad.data is not None)
    assert fuse.data is not None
    form = Form(x.code, x.shape, result.shape, tuple(numbers), Fuse(int(fuse.data)))
    block, note = lowering.winograd.choose(form)
    if note:
        lowering.note(context.node, note)
    if block:
        call = lowering.add_extension(WINOGRAD, [*operands, *pads, fuse, scalar_int(block, "block")], result)
        lowering.winograd.used(form, block, call)
    return bool(block)


def _parameters(context: NodeContext, x: Operand, depthwise: bool) -> tuple[Operand, Operand]:
    shape = context.shape(1)
    seen = (*shape[:2], *((1,) * (PICTURE_RANK - len(shape))), *shape[2:])
    order = _IHWO if depthwise else _OHWI
    if not context.is_constant(1) and not context.is_quantized:
        weights = _computed(context, order)
        return weights, bias(context, x, weights, shape[0])
    folded = None if context.is_quantized else fold_behind(context)
    if folded is not None:
        array, before = context.array(1), context.array(2)
        assert array is not None
        scaled, shifted = folded.apply(array, before)
        context.fold(folded.node)
        return (
            context.constant(np.transpose(scaled.reshape(seen), order), "weights"),
            context.constant(shifted, "bias"),
        )
    weights = filters(context, x, seen, order, 0)
    return weights, bias(context, x, weights, shape[0])


def _computed(context: NodeContext, order: Order) -> Operand:
    """Weights that the network computes, in an order of four axes; over one dimension, the height is 1."""
    shape = context.shape(1)
    if len(shape) == PICTURE_RANK:
        return context.x(1, order)
    along = tuple(min(axis, PICTURE_RANK - 2) for axis in order if axis != PICTURE_RANK - 2)
    weights = context.x(1, along)
    height = order.index(PICTURE_RANK - 2)
    return context.reshaped(weights, (*weights.shape[:height], 1, *weights.shape[height:]))


def _conv_transpose(context: NodeContext) -> None:
    shape = context.shape(1)
    if int(context.attr("group", 1)) != 1:
        raise DeclinedError("ConvTranspose in groups is not offered by Neuron")
    window: Window = resolve_transposed_window(context, shape[2:])
    if any(dilation != 1 for dilation in window.dilations):
        raise DeclinedError("ConvTranspose with dilations is not offered by Neuron")
    x = picture(context)
    seen = (*shape[:2], *((1,) * (PICTURE_RANK - len(shape))), *shape[2:])
    computed = not context.is_constant(1) and not context.is_quantized
    weights = _computed(context, _IHWO) if computed else filters(context, x, seen, _IHWO, 1)
    shift = bias(context, x, weights, shape[1])
    fuse = context.fuse()
    result = new_picture(context)
    inputs = [x, weights, shift, *window.pad_operands(), *window.stride_operands(), fuse, scalar_bool(False, "nchw")]
    context.lowering.add(Operation.TRANSPOSE_CONV_2D, inputs, [result])
    finish_picture(context, result)


LOWERINGS.add({"Conv": _conv, "ConvTranspose": _conv_transpose})
