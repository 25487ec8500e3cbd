"""Zeros that a Pad puts around what only a convolution reads: the convolution pads by itself."""

from __future__ import annotations

from typing import ClassVar

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.graph.windows import spatial_zeros
from mace_core.optimizer.infra import GraphPass, PassContext, remove_nodes
from mace_core.tensor import DType, Tensor


class FoldPads(GraphPass):
    """Adds the paddings of a Pad with zeros, along spatial axes, to those of the Conv that alone reads it."""

    name: ClassVar[str] = "fold pads"

    def run(self, graph: Graph, context: PassContext) -> int:
        readers = _Readers(graph)
        gone: set[Node] = set()
        for node in graph.nodes:
            result = node.output(0)
            added = spatial_zeros(node, _content)
            if added is None or result is None:
                continue
            behind, padded = readers.rounded_again(node, result)
            conv = readers.only(padded)
            if conv is None or not _pads_itself(conv, padded):
                continue
            own = conv.attr("pads") or (0,) * len(added)
            if len(own) != len(added):
                continue
            conv.attributes["pads"] = Attribute(
                AttributeKind.INTS, tuple(int(a) + b for a, b in zip(own, added, strict=True))
            )
            conv.inputs[0] = node.input(0)
            gone |= {node, *behind}
        remove_nodes(graph, gone)
        return len(gone)


class _Readers:
    """Who reads the values of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._users = graph.users()
        self._outputs = set(graph.outputs)

    def only(self, value: Value) -> Node | None:
        """The one node that reads a value; None if more is done with it."""
        found = self._users.get(value, [])
        return found[0] if len(found) == 1 and value not in self._outputs else None

    def rounded_again(self, pad: Node, result: Value) -> tuple[tuple[Node, ...], Value]:
        """What rounds the padded numbers to the steps that they were made of, and its result.

        Numbers that come from a DequantizeLinear, and zeros, are steps: to quantize and dequantize them by the same
        encoding changes nothing.
        """
        source = pad.input(0)
        made = None if source is None else source.producer
        quantize = self.only(result)
        if made is None or made.op_type != "DequantizeLinear" or quantize is None or quantize.output(0) is None:
            return (), result
        stored = quantize.outputs[0]
        dequantize = None if stored is None else self.only(stored)
        if quantize.op_type != "QuantizeLinear" or dequantize is None or dequantize.op_type != "DequantizeLinear":
            return (), result
        same = all(_encoding(made) == _encoding(other) is not None for other in (quantize, dequantize))
        rounded = dequantize.output(0)
        return ((quantize, dequantize), rounded) if same and rounded is not None else ((), result)


def _encoding(node: Node) -> tuple[str, float, int, DType] | None:
    """Domain, scale, zero point and element type of a (De)QuantizeLinear; None unless one constant holds for all."""
    scale, zero = node.input(1), node.input(2)
    if scale is None or scale.constant is None or scale.constant.size != 1 or zero is None or zero.constant is None:
        return None
    number, point = scale.constant.numpy().reshape(-1)[0], zero.constant.numpy().reshape(-1)[0]
    return node.domain, float(number), int(point), zero.constant.dtype


def _pads_itself(node: Node, value: Value) -> bool:
    """Whether ``node`` is a Conv of ``value`` with explicit paddings."""
    if node.op_type != "Conv" or node.domain or node.attr("auto_pad", "NOTSET") != "NOTSET":
        return False
    return node.input(0) is value and all(other is not value for other in node.inputs[1:])


def _content(value: Value | None) -> Tensor | None:
    return None if value is None else value.constant
