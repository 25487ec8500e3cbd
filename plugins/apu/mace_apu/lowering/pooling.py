"""Pooling, over one dimension and two."""

from __future__ import annotations

import numpy as np

from mace_apu.description import Operand, scalar_bool
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.movement import pad_operand
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.windows import (
    Window,
    finish_picture,
    new_picture,
    picture,
    resolve_window,
    spatial_sizes,
)
from mace_apu.neuron.constants import Operation

_OPERATIONS = {
    "MaxPool": Operation.MAX_POOL_2D,
    "AveragePool": Operation.AVERAGE_POOL_2D,
    "GlobalMaxPool": Operation.MAX_POOL_2D,
    "GlobalAveragePool": Operation.AVERAGE_POOL_2D,
}


def _pool(context: NodeContext) -> None:
    window = resolve_window(context, context.attr("kernel_shape"))
    if any(dilation != 1 for dilation in window.dilations):
        raise DeclinedError(f"{context.node.op_type} with dilations is not offered by Neuron")
    if context.node.output(1) is not None:
        raise DeclinedError("MaxPool with indices is not offered by Neuron")
    counts_pads = context.node.op_type == "AveragePool" and bool(context.attr("count_include_pad", 0))
    x = picture(context)
    context.require_same_encoding(x)
    if context.attr("ceil_mode", 0):
        if counts_pads:
            raise DeclinedError("AveragePool that counts padding and rounds up is not offered by Neuron")
        window = _rounded_up(window, x.shape[1:3], context.out_shape()[2:])
    if counts_pads and any(pad for pair in window.pads for pad in pair):
        x = pad_operand(context, x, ((0, 0), *window.pads, (0, 0)), 0.0)
        window = Window(window.kernel, window.strides, window.dilations, ((0, 0), (0, 0)))
    if any(pad >= size for pair, size in zip(window.pads, window.kernel, strict=True) for pad in pair):
        raise DeclinedError(f"{context.node.op_type} with padding as wide as its window is not offered by Neuron")
    _emit(context, x, window)


def _global_pool(context: NodeContext) -> None:
    spatial_sizes(context)
    x = picture(context)
    context.require_same_encoding(x)
    _emit(context, x, Window(x.shape[1:3], x.shape[1:3], (1, 1), ((0, 0), (0, 0))))


def _emit(context: NodeContext, x: Operand, window: Window) -> None:
    common = [x, *window.pad_operands(), *window.stride_operands(), *window.kernel_operands()]
    fuse = context.fuse()
    result = new_picture(context)
    context.lowering.add(_OPERATIONS[context.node.op_type], [*common, fuse, scalar_bool(False, "nchw")], [result])
    finish_picture(context, result)


def _rounded_up(window: Window, sizes: tuple[int, ...], out: tuple[int, ...]) -> Window:
    """The same window with as much padding behind as the last position needs."""
    counts = (*np.ones(2 - len(out), int).tolist(), *out)
    pads = tuple(
        (before, max((count - 1) * stride + kernel - size - before, 0))
        for (before, _), count, stride, kernel, size in zip(
            window.pads, counts, window.strides, window.kernel, sizes, strict=True
        )
    )
    return Window(window.kernel, window.strides, window.dilations, pads)


LOWERINGS.add(
    {
        "MaxPool": _pool,
        "AveragePool": _pool,
        "GlobalAveragePool": _global_pool,
        "GlobalMaxPool": _global_pool,
    }
)
