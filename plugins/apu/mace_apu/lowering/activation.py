"""Activations that stand alone."""

from __future__ import annotations

import math

import numpy as np

from mace_apu.description import scalar_int
from mace_apu.lowering.activations import activation_bounds, fuse_code
from mace_apu.lowering.broadcasting import broadcast
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.values import scale_and_zero
from mace_apu.neuron.constants import Fuse, OperandCode, Operation
from mace_core.tensor import DType

_FUSED = {Fuse.RELU: Operation.RELU, Fuse.RELU1: Operation.RELU1, Fuse.RELU6: Operation.RELU6}

_RESULTS = {
    "Sigmoid": (1 / 256, 0),
    "Tanh": (1 / 128, 128),
    "Softmax": (1 / 256, 0),
}
"""Scale and zero point (of uint8; of int8 it is 128 less) that the results of an operation must have."""

_PROBABILITY = {"Sigmoid": Operation.LOGISTIC, "Tanh": Operation.TANH}


def _clip(context: NodeContext) -> None:
    _require_float(context)
    bounds = activation_bounds(context.lowering, context.node)
    order, code = context.order(), fuse_code(bounds)
    x = context.x(0, order)
    if code is not Fuse.NONE:
        context.require_same_encoding(x)
        context.emit(_FUSED[code], [x], order)
        return
    if context.is_quantized:
        raise DeclinedError("a quantized Clip is offered from 0, from 0 to 6 and from -1 to 1 only")
    limits = [
        (operation, context.constant(np.array([bound], context.dtype().numpy), "bound"))
        for operation, bound in ((Operation.MAXIMUM, bounds[0]), (Operation.MINIMUM, bounds[1]))
        if math.isfinite(bound)
    ]
    if not limits:
        context.alias(order)
        return
    for operation, limit in limits[:-1]:
        x = context.compute(operation, [x, limit])
    context.emit(limits[-1][0], [x, limits[-1][1]], order)


def _bounded(context: NodeContext) -> None:
    """Sigmoid and Tanh, whose results are quantized in one way only."""
    _require_float(context)
    require_fixed_result(context)
    order = context.order()
    context.emit(_PROBABILITY[context.node.op_type], [context.x(0, order)], order)


def require_fixed_result(context: NodeContext) -> None:
    """In a cluster, the result must be quantized as the operation fixes it.

    Raises:
        DeclinedError: if it is not.
    """
    encoding = context.out_encoding()
    if encoding is None:
        return
    scale, zero = _RESULTS[context.node.op_type]
    found, code = scale_and_zero(encoding)
    if encoding.dtype is DType.INT8:
        zero -= 128
    if not math.isclose(found, scale, rel_tol=1e-6) or code != zero:
        raise DeclinedError(f"a quantized {context.node.op_type} has results of scale {scale} and zero point {zero} "
                            f"in Neuron, here they are {found:g} and {code}")  # fmt: skip


def _hard_swish(context: NodeContext) -> None:
    _require_float(context)
    order = context.order()
    context.emit(Operation.HARD_SWISH, [context.x(0, order)], order)


def _hard_sigmoid(context: NodeContext) -> None:
    """clip(6 * (alpha * x + beta), 0, 6) / 6, which is what Neuron can fuse."""
    _require_float(context)
    if context.is_quantized:
        raise DeclinedError("a quantized HardSigmoid is not offered by Neuron")
    order, dtype = context.order(), context.dtype().numpy
    alpha, beta = float(context.attr("alpha", 0.2)), float(context.attr("beta", 0.5))
    slope, offset, sixth = (
        context.constant(np.array([number], dtype), name)
        for number, name in ((6 * alpha, "slope"), (6 * beta, "offset"), (1 / 6, "sixth"))
    )
    none, six = (scalar_int(int(code), "activation") for code in (Fuse.NONE, Fuse.RELU6))
    scaled = context.compute(Operation.MUL, [context.x(0, order), slope, none])
    cut = context.compute(Operation.ADD, [scaled, offset, six])
    context.emit(Operation.MUL, [cut, sixth, context.fuse()], order)


def _leaky_relu(context: NodeContext) -> None:
    _require_float(context)
    order, slope = context.order(), float(context.attr("alpha", 0.01))
    x = context.x(0, order)
    if not context.is_quantized:
        context.emit(Operation.PRELU, [x, context.constant(np.array([slope], context.dtype().numpy), "slope")], order)
        return
    if slope <= 0:
        raise DeclinedError("a quantized LeakyRelu with a slope that is not positive is not offered")
    held = context.lowering.like(x, f"{context.node.name}.slope", (1,))
    held.scale, held.zero_point = slope, 0  # the code 1 is the slope
    held.data = np.ones(1, np.uint8 if x.code is OperandCode.TENSOR_QUANT8_ASYMM else np.int8)
    context.emit(Operation.PRELU, [x, held], order)


def _prelu(context: NodeContext) -> None:
    slope = context.shape(1)
    if context.lowering.view.opset() < 7 and slope != (1,) and len(slope) < len(context.shape(0)):
        raise DeclinedError("PRelu with a slope per channel as until opset 6 is not offered")
    order, operands = broadcast(context, (0, 1))
    context.emit(Operation.PRELU, operands, order)


def _require_float(context: NodeContext) -> None:
    if context.dtype() not in (DType.FLOAT32, DType.FLOAT16):
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered by Neuron")


LOWERINGS.add(
    {
        "Relu": _clip,
        "Clip": _clip,
        **dict.fromkeys(_PROBABILITY, _bounded),
        "HardSwish": _hard_swish,
        "HardSigmoid": _hard_sigmoid,
        "LeakyRelu": _leaky_relu,
        "PRelu": _prelu,
    }
)
