"""Constant operands of products: filters and biases, real or quantized."""

from __future__ import annotations

import numpy as np

from mace_apu.description import Operand
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import Order
from mace_apu.lowering.values import Array, per_channel, scale_and_zero
from mace_apu.neuron.constants import OperandCode
from mace_core.tensor import QuantEncoding

HALF_RANGE = 128
"""What int8 and uint8 codes of the same number differ by."""

_INT32 = np.iinfo(np.int32)


def filters(context: NodeContext, x: Operand, shape: tuple[int, ...], order: Order, channel: int) -> Operand:
    """Operand 1 seen as ``shape`` with its axes in ``order``, for products with ``x``.

    Args:
        context: of the node.
        x: the other factor.
        shape: of as many elements as the operand; axes of length 1 may be put in.
        order: of the axes of ``shape``.
        channel: the axis of ``shape`` that scales per channel may belong to.

    Raises:
        DeclinedError: if they are not constant or quantized in a way that Neuron does not take.
    """
    encoding, stored = context.encoding(1), context.lowering.view.constant(context.stored(1))
    name = context.operand(1).name
    if encoding is None or stored is None:
        array = context.array(1)
        if array is None or context.is_quantized:
            raise DeclinedError(f"the weights '{name}' are not constant, or not quantized as their operand is")
        return context.constant(np.transpose(array.reshape(shape), order), "weights")
    codes = stored.numpy()
    if codes.dtype not in (np.int8, np.uint8):
        raise DeclinedError(f"the weights '{name}' are {codes.dtype}; Neuron takes 8 bits")
    codes = np.transpose(codes.reshape(shape), order)
    if encoding.axis is None or encoding.scale.size == 1:
        return _per_tensor(codes, name, encoding, x.code)
    if encoding.axis != channel:
        raise DeclinedError(f"the weights '{name}' are quantized along axis {encoding.axis}, not per output channel")
    return _symmetric(codes, name, encoding, order.index(channel))


def bias(context: NodeContext, x: Operand, weights: Operand, count: int) -> Operand:
    """Operand 2, or zeros where it is left out: real numbers, or int32 in units of the products.

    Raises:
        DeclinedError: if it is quantized and not constant.
    """
    given = context.has(2)
    if not context.is_quantized:
        if not given:
            return context.constant(np.zeros(count, context.dtype().numpy), "bias")
        array = context.array(2)
        return context.constant(array.reshape(count), "bias") if array is not None else context.x(2)
    reals = _reals(context) if given else np.zeros(count)
    scales = weights.channels.scales if weights.channels is not None else np.float32(weights.scale)
    products = np.float32(x.scale) * np.asarray(scales, np.float32)
    codes = np.rint(reals.reshape(count) / products.astype(np.float64))
    if not ((codes >= _INT32.min) & (codes <= _INT32.max)).all():
        raise DeclinedError(f"the bias of {context.node.op_type} is beyond 32 bits in units of the products")
    scale = 0.0 if weights.channels is not None else float(products)
    return Operand(f"{context.node.name}.bias", OperandCode.TENSOR_INT32, (count,), scale, data=codes.astype(np.int32))


def _reals(context: NodeContext) -> Array:
    """The bias in real numbers, in float64."""
    encoding, stored = context.encoding(2), context.lowering.view.constant(context.stored(2))
    if encoding is not None and stored is not None:
        codes, zero = stored.numpy().astype(np.float64), encoding.zero_point.astype(np.float64)
        found: Array = (codes - zero.reshape(-1)) * encoding.scale.astype(np.float64).reshape(-1)
        return found
    array = context.array(2)
    if array is None:
        raise DeclinedError(f"the bias '{context.operand(2).name}' is not constant")
    return array.astype(np.float64)


def _per_tensor(codes: Array, name: str, encoding: QuantEncoding, like: OperandCode) -> Operand:
    """Codes in the type of the other factor: int8 and uint8 stand for the same numbers, 128 apart."""
    scale, zero = scale_and_zero(encoding)
    wanted = np.dtype(np.uint8 if like is OperandCode.TENSOR_QUANT8_ASYMM else np.int8)
    if codes.dtype != wanted:
        shift = HALF_RANGE if wanted == np.uint8 else -HALF_RANGE
        codes, zero = (codes.astype(np.int16) + shift).astype(wanted), zero + shift
    data = np.ascontiguousarray(codes)
    return Operand(name, like, data.shape, scale, zero, data=data)


def _symmetric(codes: Array, name: str, encoding: QuantEncoding, axis: int) -> Operand:
    if not ((encoding.scale > 0) & np.isfinite(encoding.scale)).all():
        raise DeclinedError(f"the weights '{name}' have scales that are not positive, which Neuron does not take")
    middle = HALF_RANGE if codes.dtype == np.uint8 else 0
    if (encoding.zero_point != middle).any():
        raise DeclinedError(f"the weights '{name}' are quantized per channel with zero points; Neuron takes symmetric "
                            "ones: quantize them symmetrically")  # fmt: skip
    signed = (codes.astype(np.int16) - middle).astype(np.int8)
    return per_channel(signed, name, encoding.scale, axis)
