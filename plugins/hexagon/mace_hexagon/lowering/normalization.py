"""Softmax and the normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.graph import node_encoding
from mace_core.tensor import DType
from mace_hexagon.description import QTensor
from mace_hexagon.lowering.context import NHWC, DeclinedError, NodeContext, Order
from mace_hexagon.lowering.elementwise import LEAST_EXPONENT
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS


def _softmax(context: NodeContext) -> None:
    rank = len(context.shape())
    old = context.lowering.view.opset() < 13
    axis = int(context.attr("axis", 1 if old else -1)) % rank
    if old and axis != rank - 1:
        raise DeclinedError("Softmax over several axes (before opset 13) is not offered")
    if context.is_quantized and not _is_of_probabilities(context):
        raise DeclinedError("a quantized Softmax is offered with results in steps of 1/256 from 0 on only")
    order = context.order()
    if order[-1] != axis:
        order = (*(other for other in range(rank) if other != axis), axis)
    x = context.x(0, order)
    if (
        context.node.op_type == "Softmax"
        and not context.is_quantized
        and context.lowering.infinities.reach(context.operand(0))
    ):
        _masked_softmax(context, x, order)
        return
    if context.node.op_type == "LogSoftmax" and not context.is_quantized:
        _log_softmax(context, x, order)
        return
    context.emit(context.node.op_type, [x], order, axis=np.uint32(rank - 1))


def _log_softmax(context: NodeContext, x: QTensor, order: Order) -> None:
    """Spelled out: the library's own is wrong where elements are far apart."""
    chain, rows = Chain(context), (*x.shape[:-1], 1)
    along: dict[str, Any] = {"axes": np.array([len(x.shape) - 1], np.uint32), "keep_dims": np.bool_(True)}
    below = chain.op("ElementWiseSubtract", x, chain.shaped("ReduceMax", (x,), rows, x.data_type, **along))
    kept = chain.op("ElementWiseMaximum", below, chain.number(LEAST_EXPONENT, below))
    total = chain.shaped("ReduceSum", (chain.op("ElementWiseExp", kept),), rows, x.data_type, **along)
    context.emit("ElementWiseSubtract", [below, chain.op("ElementWiseLog", total)], order)


MASKED = -32000.0
"""What is lower counts as minus infinity, which the HTP does not have: -65504 stands for it, and a score is added."""


def _masked_softmax(context: NodeContext, x: QTensor, order: Order) -> None:
    """Zero where a whole row is masked: ONNX's Attention asks for that, and the HTP has no NaN."""
    chain = Chain(context)
    last = len(x.shape) - 1
    likely = chain.op("Softmax", x, axis=np.uint32(last))
    rows = (*x.shape[:-1], 1)
    highest = chain.shaped("ReduceMax", (x,), rows, x.data_type, axes=np.array([last], np.uint32),
                           keep_dims=np.bool_(True))  # fmt: skip
    some = chain.test("ElementWiseGreater", highest, chain.number(MASKED, highest))
    context.emit("ElementWiseSelect", [some, likely, chain.number(0.0, likely)], order)


def _is_of_probabilities(context: NodeContext) -> bool:
    """Whether the result is encoded as the library fixes it: 256 steps from 0 to 1, and no activation behind."""
    cluster = context.cluster
    if cluster is None or cluster.activation is not None or context.node.op_type != "Softmax":
        return False
    quantizer = cluster.quantizers[0]
    found = node_encoding(context.lowering.view, quantizer)
    if found is None or found.scale.size != 1 or found.dtype not in (DType.UINT8, DType.INT8):
        return False
    lowest = 0 if found.dtype is DType.UINT8 else -128
    return bool(np.isclose(found.scale, 1 / 256, rtol=1e-3).all() and (found.zero_point == lowest).all())


def _layer_norm(context: NodeContext) -> None:
    rank = len(context.shape())
    if int(context.attr("axis", -1)) % rank != rank - 1:
        raise DeclinedError("LayerNormalization is offered over the last axis only")
    if sum(output is not None for output in context.node.outputs) != 1:
        raise DeclinedError("LayerNormalization with mean and deviation as results is not offered")
    operands = [context.x(index) for index in range(3) if context.has(index)]
    epsilon = np.float32(context.attr("epsilon", 1e-5))
    context.emit("LayerNorm", operands, epsilon=epsilon, axes=np.array([rank - 1], np.uint32))


def _batch_norm(context: NodeContext) -> None:
    held = [context.array(index) for index in range(1, 5)]
    inference = sum(output is not None for output in context.node.outputs) == 1
    if any(array is None for array in held) and inference and not int(context.attr("training_mode", 0)):
        _batch_norm_computed(context)
        return
    if any(array is None for array in held) or context.is_quantized or int(context.attr("training_mode", 0)):
        raise DeclinedError("BatchNormalization is offered for inference with constant parameters")
    if sum(output is not None for output in context.node.outputs) != 1:
        raise DeclinedError("BatchNormalization with running statistics as results is not offered")
    scale, shift, mean, variance = (np.asarray(array, np.float64).reshape(-1) for array in held)
    gain = scale / np.sqrt(variance + float(context.attr("epsilon", 1e-5)))
    rank, numpy = len(context.shape()), context.dtype().numpy
    order: Order = (0, *range(2, rank), 1) if rank > 1 else (0,)
    weights = context.constant(gain.astype(numpy), "gain")
    bias = context.constant((shift - mean * gain).astype(numpy), "bias")
    context.emit("Batchnorm", [context.x(0, order), weights, bias], order)


def _batch_norm_computed(context: NodeContext) -> None:
    """With parameters computed at run time."""
    if context.is_quantized or context.lowering.view.opset() < 9:
        raise DeclinedError("BatchNormalization with computed parameters is offered for real numbers only")
    chain, x = Chain(context), context.x(0)
    along = (1, -1, *([1] * (len(x.shape) - 2))) if len(x.shape) > 1 else (-1,)
    scale, shift, mean, variance = (
        context.reshaped(tensor, tuple(tensor.shape[0] if size < 0 else size for size in along))
        for tensor in (context.x(index) for index in range(1, 5))
    )
    padded = chain.op("ElementWiseAdd", variance, chain.number(float(context.attr("epsilon", 1e-5)), variance))
    gain = chain.op("ElementWiseDivide", scale, chain.op("ElementWiseSquareRoot", padded))
    scaled = chain.op("ElementWiseMultiply", chain.op("ElementWiseSubtract", x, mean), gain)
    context.emit("ElementWiseAdd", [scaled, shift])


def _instance_norm(context: NodeContext) -> None:
    if len(context.shape()) != 4:
        raise DeclinedError("InstanceNormalization is offered for four dimensions only")
    operands = [context.x(0, NHWC), context.x(1), context.x(2)]
    context.emit("InstanceNorm", operands, NHWC, epsilon=np.float32(context.attr("epsilon", 1e-5)))


LOWERINGS.add(
    {
        "Softmax": _softmax,
        "LogSoftmax": _softmax,
        "LayerNormalization": _layer_norm,
        "BatchNormalization": _batch_norm,
        "InstanceNormalization": _instance_norm,
    }
)
