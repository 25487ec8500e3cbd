"""Conv and ConvTranspose, in one and two dimensions; a BatchNormalization behind is folded in."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_hexagon.description import QTensor
from mace_hexagon.lowering.context import NHWC, DeclinedError, NodeContext
from mace_hexagon.lowering.folding import Folded, fold_behind
from mace_hexagon.lowering.table import LOWERINGS
from mace_hexagon.lowering.windows import Window, resolve_window


def _conv(context: NodeContext) -> None:
    shape, weight_shape = context.shape(0), context.shape(1)
    rank = len(shape)
    if rank not in (3, 4):
        raise DeclinedError(f"Conv over {rank - 2} dimensions is not offered, only over one or two")
    group, channels = int(context.attr("group", 1)), shape[1]
    window = resolve_window(context, weight_shape[2:], shape[2:])
    depthwise = group == channels and group > 1
    is_constant = context.array(1) is not None and (not context.has(2) or context.array(2) is not None)
    if depthwise and weight_shape[0] != channels and any(each != 1 for each in (*window.strides, *window.dilations)):
        raise DeclinedError("a depthwise Conv of several filters per channel is offered without strides and dilations")
    folded = None
    if rank == 4 and is_constant and not context.is_quantized:
        folded = fold_behind(context.lowering, context.node)
    if rank == 3:
        window = Window((1, *window.kernel), (1, *window.strides), (1, *window.dilations), ((0, 0), *window.pads))
    weights, bias = _parameters(context, window, depthwise, folded)
    parameters: dict[str, Any] = {
        "stride": np.array(window.strides, np.uint32),
        "pad_amount": window.pad_amount(),
        "dilation": np.array(window.dilations, np.uint32),
    }
    if not depthwise and group > 1:
        parameters["group"] = np.uint32(group)
    operation = "DepthWiseConv2d" if depthwise else "Conv2d"
    _spatial(context, operation, weights, bias, parameters, folded)


def _conv_transpose(context: NodeContext) -> None:
    shape, weight_shape = context.shape(0), context.shape(1)
    if len(shape) not in (3, 4):
        raise DeclinedError("ConvTranspose is offered over one or two dimensions only")
    if int(context.attr("group", 1)) != 1:
        raise DeclinedError("ConvTranspose is offered with one group only")
    window = resolve_window(context, weight_shape[2:], shape[2:])
    if context.attr("auto_pad", "NOTSET") not in ("NOTSET", "") or context.attr("output_shape"):
        raise DeclinedError("ConvTranspose is offered with explicit padding only")
    if any(d != 1 for d in window.dilations):
        raise DeclinedError("ConvTranspose with dilations is not offered by QNN")
    beyond = context.attr("output_padding") or (0,) * (len(shape) - 2)
    for pad, stride, kernel, (_, behind) in zip(beyond, window.strides, window.kernel, window.pads, strict=True):
        if pad and (stride > kernel or (stride == kernel and behind < pad)):
            raise DeclinedError("ConvTranspose pads its output wrongly beyond the last element that a stride reaches")
    order = (*range(2, len(shape)), 0, 1)
    if len(shape) == 3:
        if context.is_quantized:
            raise DeclinedError("a quantized ConvTranspose is offered over two dimensions only")
        window = Window((1, *window.kernel), (1, *window.strides), (1, *window.dilations), ((0, 0), *window.pads))
        beyond = (0, *beyond)
        weights = context.reshaped(context.x(1, order), (1, weight_shape[2], *weight_shape[:2]))
    else:
        weights = context.weight(1, order) if context.is_constant(1) else context.x(1, order)
    parameters: dict[str, Any] = {
        "stride": np.array(window.strides, np.uint32),
        "pad_amount": window.pad_amount(),
        "output_padding": np.array(beyond, np.uint32),
    }
    bias = None
    if context.has(2):
        bias = context.weight(2, (0,)) if context.is_constant(2) else context.x(2)
    _spatial(context, "TransposeConv2d", weights, bias, parameters, None)


def _parameters(
    context: NodeContext, window: Window, depthwise: bool, folded: Folded | None
) -> tuple[QTensor, QTensor | None]:
    """Weights in QNN's order (height, width, channels in, channels out), and the bias."""
    shape = context.shape(1)
    spatial = tuple(range(2, len(shape)))
    order = (*spatial, 1, 0)
    laid = (*window.kernel, shape[1], shape[0])
    if folded is not None:
        array = context.array(1)
        assert array is not None
        weights, bias = folded.apply(array, context.array(2))
        laid_weights = np.transpose(weights, order).reshape(laid)
        return context.constant(laid_weights, "weights"), context.constant(bias, "bias")
    if context.is_constant(1):
        held = context.weight(1, order, laid if len(order) != len(laid) else None)
    else:
        held = context.reshaped(context.x(1, order), laid)
    if not context.has(2):
        return held, None
    return held, context.weight(2, (0,)) if context.is_constant(2) else context.x(2)


def _spatial(
    context: NodeContext,
    operation: str,
    weights: QTensor,
    bias: QTensor | None,
    parameters: dict[str, Any],
    folded: Folded | None,
) -> None:
    """Emit, over one dimension as over two with one row."""
    operands = [weights] if bias is None else [weights, bias]
    if len(context.shape(0)) == 4:
        source = context.x(0, NHWC)
        if folded is None:
            context.emit(operation, [source, *operands], NHWC, **parameters)
        else:
            _emit_as(context, folded, operation, [source, *operands], parameters)
        return
    rows = context.x(0, (0, 2, 1))
    batch, length, channels = rows.shape
    source = context.reshaped(rows, (batch, 1, length, channels))
    out_batch, out_channels, out_length = context.out_shape()
    result = context.result_tensor((0, 2, 1))
    image = context.temporary((out_batch, 1, out_length, out_channels), result, "rows")
    context.lowering.add(operation, [source, *operands], [image], **parameters)
    context.lowering.add("Reshape", [image], [result])
    context.finish(result, (0, 2, 1))


def _emit_as(
    context: NodeContext, folded: Folded, operation: str, inputs: list[QTensor], parameters: dict[str, Any]
) -> None:
    """Emit so that the result is that of the folded node, which then needs no translation of its own."""
    value = folded.node.outputs[0]
    assert value is not None
    result = context.lowering.new_tensor(value, NHWC)
    context.lowering.add(operation, inputs, [result], **parameters)
    context.lowering.define(value, result, NHWC)
    context.lowering.mark_folded(folded.node)


LOWERINGS.add({"Conv": _conv, "ConvTranspose": _conv_transpose})
