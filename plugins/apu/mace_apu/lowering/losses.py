"""Losses: the numbers at the target classes, weighted and joined."""

from __future__ import annotations

import numpy as np

from mace_apu.description import Operand
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.logarithm import Numbers
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.types import FLOATS
from mace_apu.neuron.constants import OperandCode, Operation
from mace_core.tensor import DType

_CLASSES = 1
"""The axis of the classes."""


def _loss(context: NodeContext) -> None:
    """NegativeLogLikelihoodLoss, and SoftmaxCrossEntropyLoss, which takes the LogSoftmax first."""
    numbers, shape = Numbers(context), context.shape()
    x = context.x(0)
    if x.code not in FLOATS or len(shape) > 4 or x.shape != shape or context.dtype(1) not in (DType.INT32, DType.INT64):
        raise DeclinedError(f"{context.node.op_type} is offered for real numbers of up to four dimensions only")
    if context.node.op_type == "SoftmaxCrossEntropyLoss":
        x = numbers.log_softmax(x, [_CLASSES])
        if context.node.output(1) is not None:
            logarithms = context.new_result(index=1)
            context.lowering.reshape(x, logarithms)
            context.finish(logarithms, index=1)
    hot = _targets(context, shape)
    zero = numbers.full(x, 0.0)
    picked = numbers.select(hot, x, zero)
    weights = None
    if context.has(2):
        along = context.reshaped(context.x(2), (shape[1], *((1,) * (len(shape) - 2))))
        everywhere = numbers.join(Operation.MUL, numbers.full(x, 1.0), along)
        weights = numbers.select(hot, everywhere, zero)
        picked = numbers.join(Operation.MUL, picked, weights)
    picked = context.compute(Operation.NEG, [picked])
    reduction = context.attr("reduction", "mean")
    every = list(range(len(shape)))
    result = context.new_result()
    if reduction in ("none", b"none"):
        made = numbers.reduce(Operation.REDUCE_SUM, picked, [_CLASSES])
    elif reduction in ("sum", b"sum"):
        made = numbers.reduce(Operation.REDUCE_SUM, picked, every)
    else:  # means of both, so that no sum is larger than what is divided
        if weights is None:
            weights = numbers.select(hot, numbers.full(x, 1.0), zero)
        parts = (numbers.reduce(Operation.REDUCE_SUM, each, [_CLASSES]) for each in (picked, weights))
        made = numbers.join(Operation.DIV, *(numbers.mean(each, every) for each in parts))
    context.finish(context.reshaped(made, result.shape))


def _targets(context: NodeContext, shape: tuple[int, ...]) -> Operand:
    """True at the class that each place belongs to; nowhere where its target is to be ignored."""
    target = context.shape(1)
    places = context.temporary((target[0], 1, *target[1:]), context.x(1), "targets")
    context.lowering.reshape(context.x(1), places)
    along = (1, shape[1], *((1,) * (len(shape) - 2)))
    classes = np.arange(shape[1], dtype=np.int32)
    ignored = context.attr("ignore_index")
    if ignored is not None:
        classes = np.where(classes == int(ignored), np.int32(-1 - abs(int(ignored))), classes).astype(np.int32)
    hot = Operand(f"{context.node.name}.hot", OperandCode.TENSOR_BOOL8, shape)
    context.lowering.add(Operation.EQUAL, [places, context.constant(classes.reshape(along), "classes")], [hot])
    return hot


LOWERINGS.add({"NegativeLogLikelihoodLoss": _loss, "SoftmaxCrossEntropyLoss": _loss})
