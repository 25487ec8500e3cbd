"""Operators of op packages: a node whose domain is a package's name becomes QNN's node of that package, as it is.

What a package has, and with which types, QNN tells when it is asked about the node.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mace_core.graph import Value
from mace_core.tensor import DType
from mace_hexagon.description import Encoding, QOp, QTensor, fixed_type, to_encoding
from mace_hexagon.lowering.context import DeclinedError, Lower, NodeContext

_QUANTIZED = frozenset({DType.UINT8, DType.INT8, DType.UINT16, DType.INT16})
_AS_THEY_ARE = Encoding(np.ones(1, np.float32), np.zeros(1, np.int32))


class Table(Protocol):
    """Finds the translation of an operator."""

    def find(self, domain: str, op_type: str) -> Lower | None:
        """The translation; None if there is none."""


class WithOpPackages:
    """A table in which other domains than ONNX's are names of op packages."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, domain: str, op_type: str) -> Lower | None:
        """See `Table.find`."""
        return self._table.find(domain, op_type) or (lower_packaged if domain else None)


def lower_packaged(ctx: NodeContext) -> None:
    """The node with the tensors of its operands and results in the order of their dimensions in the model."""
    node, lowering = ctx.node, ctx.lowering
    if node.attributes:
        raise DeclinedError(
            f"{node.qualified_op} has attributes, which are not handed to op packages; make them constant inputs"
        )
    inputs = [_operand(ctx, index) for index in range(len(node.inputs))]
    results = [ctx.result(index) for index in range(len(node.outputs))]
    outputs = [lowering.new_tensor(value, encoding=_encoding(ctx, value)) for value in results]
    lowering.append(QOp(node.op_type, lowering.unique(node.name), inputs, outputs, {}, node.source, node.domain))
    for value, tensor in zip(results, outputs, strict=True):
        lowering.define(value, tensor)


def _operand(ctx: NodeContext, index: int) -> QTensor:
    value = ctx.operand(index)
    stored = ctx.lowering.view.constant(value)
    if stored is None:
        _encoding(ctx, value)
        return ctx.lowering.tensor(value)
    if stored.dtype not in _QUANTIZED:
        return ctx.lowering.constant(stored.numpy(), value.name)
    found = ctx.lowering.view.encoding(value)
    encoding = _AS_THEY_ARE if found is None else to_encoding(found)
    return ctx.lowering.constant(stored.numpy(), value.name, encoding, fixed_type(stored.dtype))


def _encoding(ctx: NodeContext, value: Value) -> Encoding | None:
    """The encoding of a computed value; None for real numbers and wide integers."""
    dtype = ctx.lowering.dtype(value)
    if dtype not in _QUANTIZED:
        return None
    found = ctx.lowering.view.encoding(value)
    encoding = None if found is None else to_encoding(found)
    if encoding is None or encoding.axis is not None:
        raise DeclinedError(
            f"'{value.name}' is {dtype.label} without an encoding for the whole tensor, which op packages need; put a "
            "QuantizeLinear before it or a DequantizeLinear behind it"
        )
    return encoding
