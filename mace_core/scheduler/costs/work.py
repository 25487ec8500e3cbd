"""What a node has to do, from its shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

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


# fmt: off
ELEMENTWISE = frozenset({
    "Abs", "Add", "BatchNormalization", "Cast", "Ceil", "Clip", "DequantizeLinear", "Div", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Pow",
    "PRelu", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign",
    "Sqrt", "Sub", "Swish", "Tanh", "ThresholdedRelu", "Where",
})
# fmt: on
"""Operators that devices compute on the way out of, or into, another one."""


def works_of(nodes: Sequence[Node], type_of: TypeOf) -> list[Work]:
    """The work of each node among the others: who follows whom, and what is computed with integers."""
    around = _Around.of(nodes)
    return [_among(node, work_of(node, type_of), around, type_of) for node in nodes]


class _Around(NamedTuple):
    """Who makes a value and who reads it."""

    producers: Mapping[Value, Node]
    readers: Mapping[Value, Sequence[Node]]

    @staticmethod
    def of(nodes: Iterable[Node]) -> _Around:
        producers: dict[Value, Node] = {}
        readers: dict[Value, list[Node]] = {}
        for node in nodes:
            producers.update({value: node for value in node.outputs if value is not None})
            for value in dict.fromkeys(node.inputs):
                if value is not None:
                    readers.setdefault(value, []).append(node)
        return _Around(producers, readers)

    def made_by(self, value: Value | None, op_type: str) -> Node | None:
        found = None if value is None else self.producers.get(value)
        return found if found is not None and found.op_type == op_type else None

    def stored(self, value: Value) -> Value:
        """What is in memory of a value between a dequantization and a quantization: the integers."""
        dequantize = self.made_by(value, "DequantizeLinear")
        if dequantize is not None and dequantize.inputs[0] is not None:
            return dequantize.inputs[0]
        readers = self.readers.get(value, ())
        if len(readers) == 1 and readers[0].op_type == "QuantizeLinear" and readers[0].outputs[0] is not None:
            return readers[0].outputs[0]
        return value


def _among(node: Node, work: Work, around: _Around, type_of: TypeOf) -> Work:
    kind, nbytes = work.kind, work.nbytes
    is_dequantized = around.made_by(node.input(0), "DequantizeLinear") is not None
    if work.macs and is_dequantized and around.made_by(node.input(1), "DequantizeLinear") is not None:
        kind = WorkKind.INTEGER
    if nbytes and node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
        for value in dict.fromkeys((*node.inputs, *node.outputs)):
            if value is not None and (stored := around.stored(value)) is not value:
                nbytes += bytes_of(_concrete(type_of, stored)) - bytes_of(_concrete(type_of, value))
    return Work(kind, work.macs, max(nbytes, 0), _follows(node, around, type_of))


def _follows(node: Node, around: _Around, type_of: TypeOf) -> bool:
    """Whether it works element by element on what a node before it made for such nodes alone."""
    if node.op_type == "DequantizeLinear":
        readers = [reader for value in node.outputs if value is not None for reader in around.readers.get(value, ())]
        return bool(readers)
    if node.op_type not in ELEMENTWISE or node.outputs[0] is None:
        return False
    size = bytes_of(_concrete(type_of, around.stored(node.outputs[0])))
    for value in node.inputs:
        if value is None or value not in around.producers:
            continue
        is_same_size = bytes_of(_concrete(type_of, around.stored(value))) == size or node.op_type == "QuantizeLinear"
        if is_same_size and all(reader.op_type in ELEMENTWISE for reader in around.readers.get(value, ())):
            return True
    return False


def work_of(node: Node, type_of: TypeOf) -> Work:
    """Multiply-accumulates and bytes of ``node``; sizes that are not known count as nothing, symbolic ones as those of
    the shapes at hand."""

    def concrete(value: Value) -> ValueType | None:
        return _concrete(type_of, value)

    macs = node_macs(node, concrete) or 0
    nbytes = 0
    if node.op_type not in _FREE:
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        nbytes = sum(bytes_of(concrete(value)) for value in dict.fromkeys(values))
    return Work(_kind(node, macs, concrete), macs, nbytes)


def _concrete(type_of: TypeOf, value: Value) -> ValueType | None:
    found = type_of(value)
    if isinstance(found, TensorType) and found.is_concrete:
        return TensorType(found.dtype, tuple(hint(size) for size in found.concrete_shape))
    return found


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
        if is_depthwise:
            return WorkKind.DEPTHWISE
        return WorkKind.POINTWISE if len(shape) > 2 and set(shape[2:]) == {1} else WorkKind.CONVOLUTION
    return WorkKind.MATMUL
