"""Quantization encodings read off the QuantizeLinear / DequantizeLinear nodes around a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_core.graph.graph import Node, Value
from mace_core.tensor import QuantEncoding

if TYPE_CHECKING:
    from mace_core.graph.view import GraphView


def derive_encoding(view: GraphView, value: Value) -> QuantEncoding | None:
    """The encoding of ``value`` from its producer (QuantizeLinear) or a user (DequantizeLinear), or None."""
    if value.producer is not None and value.producer.op_type == "QuantizeLinear":
        return _from_node(view, value.producer, value)
    for node in view.users(value):
        if node.op_type == "DequantizeLinear" and node.inputs[0] is value:
            return _from_node(view, node, value)
    return None


def _from_node(view: GraphView, node: Node, quantized: Value) -> QuantEncoding | None:
    stored = view.tensor_type(quantized)
    scale = view.constant(node.input(1))
    zero = view.constant(node.input(2))
    if stored is None or scale is None or (node.input(2) is not None and zero is None):
        return None
    scales = scale.numpy()
    zeros = zero.numpy() if zero is not None else np.zeros(scales.shape, stored.dtype.numpy)
    axis = None if scales.size == 1 and scales.ndim == 0 else int(node.attr("axis", 1))
    return QuantEncoding(stored.dtype, scales, zeros, axis, int(node.attr("block_size", 0)))
