"""Quantization encodings read off the QuantizeLinear / DequantizeLinear nodes around a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_core.graph.graph import Node, Value
from mace_core.tensor import QuantEncoding

if TYPE_CHECKING:
    from mace_core.graph.view import GraphView

_DOMAINS = ("", "com.microsoft")
"""Where QuantizeLinear and DequantizeLinear mean what ONNX specifies."""


def derive_encoding(view: GraphView, value: Value) -> QuantEncoding | None:
    """The encoding of ``value`` from its producer (QuantizeLinear) or a user (DequantizeLinear), or None."""
    if value.producer is not None and _is(value.producer, "QuantizeLinear"):
        return node_encoding(view, value.producer)
    for node in view.users(value):
        if _is(node, "DequantizeLinear") and node.inputs[0] is value:
            return node_encoding(view, node)
    return None


def node_encoding(view: GraphView, node: Node) -> QuantEncoding | None:
    """The encoding that a QuantizeLinear or DequantizeLinear node states for the integers that it writes or reads.

    A scale of one element, whatever its shape, holds for the whole tensor. A missing zero point is 0. A negative axis
    is counted from the front. ``block_size`` is 0 unless the scale has the rank of the tensor, as blocks need it.

    Returns:
        None for any other node, where scale or zero point is not constant, and where the type of the integers, or the
        rank that a negative axis needs, is not known.
    """
    if _is(node, "QuantizeLinear"):
        quantized = node.outputs[0]
    elif _is(node, "DequantizeLinear"):
        quantized = node.inputs[0]
    else:
        return None
    stored = None if quantized is None else view.tensor_type(quantized)
    scale, zero = view.constant(node.input(1)), view.constant(node.input(2))
    if stored is None or scale is None or (node.input(2) is not None and zero is None):
        return None
    scales = np.asarray(scale.numpy(), np.float32)
    zeros = np.zeros(scales.shape, stored.dtype.numpy) if zero is None else zero.numpy()
    if scales.size == 1:
        return QuantEncoding(stored.dtype, scales.reshape(()), zeros.reshape(()))
    rank = None if stored.shape is None else len(stored.shape)
    axis, block = int(node.attr("axis", 1)), int(node.attr("block_size", 0))
    if axis < 0:
        if rank is None:
            return None
        axis += rank
    has_blocks = scales.ndim > 1 if rank is None else scales.ndim == rank
    return QuantEncoding(stored.dtype, scales, zeros, axis, block if has_blocks else 0)


def _is(node: Node, op_type: str) -> bool:
    return node.op_type == op_type and node.domain in _DOMAINS
