"""What a node has to do, from its shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from mace_core.graph import Node, Value
from mace_core.operators.work import node_macs
from mace_core.scheduler.costs.rates import Work, WorkKind
from mace_core.symbolic import hint
from mace_core.tensor import TensorType, ValueType

TypeOf: TypeAlias = "Callable[[Value], ValueType | None]"

_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Size", "Constant"})
"""Operators that need not touch the elements."""

_INTEGER = frozenset({"QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "QGemm"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})


def work_of(node: Node, type_of: TypeOf) -> Work:
    """Multiply-accumulates and bytes of ``node``; sizes that are not known count as nothing, symbolic ones as those of
    the shapes at hand."""

    def concrete(value: Value) -> ValueType | None:
        found = type_of(value)
        if isinstance(found, TensorType) and found.is_concrete:
            return TensorType(found.dtype, tuple(hint(size) for size in found.concrete_shape))
        return found

    macs = node_macs(node, concrete) or 0
    nbytes = 0
    if node.op_type not in _FREE:
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        nbytes = sum(bytes_of(concrete(value)) for value in dict.fromkeys(values))
    return Work(_kind(node, macs, concrete), macs, nbytes)


def bytes_of(found: ValueType | None) -> int:
    """The size of a tensor; 0 where it is not known."""
    if not isinstance(found, TensorType) or not found.is_concrete:
        return 0
    total = 1
    for size in found.concrete_shape:
        total *= hint(size)
    return found.dtype.nbytes(total)


def _kind(node: Node, macs: int, type_of: TypeOf) -> WorkKind:
    if not macs:
        return WorkKind.OTHER
    if node.op_type in _INTEGER:
        return WorkKind.INTEGER
    if node.op_type in _CONVOLUTIONS:
        weight = node.input(1)
        found = None if weight is None else type_of(weight)
        shape = found.concrete_shape if isinstance(found, TensorType) and found.is_concrete else ()
        is_depthwise = node.attr("group", 1) > 1 and len(shape) > 1 and shape[1] == 1
        return WorkKind.DEPTHWISE if is_depthwise else WorkKind.CONVOLUTION
    return WorkKind.MATMUL
