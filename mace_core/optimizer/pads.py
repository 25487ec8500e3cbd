"""Zeros that a Pad puts around what only a convolution reads: the convolution pads by itself."""

from __future__ import annotations

from typing import ClassVar

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.optimizer.infra import GraphPass, PassContext, remove_nodes


class FoldPads(GraphPass):
    """Adds the paddings of a Pad with zeros, along spatial axes, to those of the Conv that alone reads it."""

    name: ClassVar[str] = "fold pads"

    def run(self, graph: Graph, context: PassContext) -> int:
        users = graph.users()
        gone: set[Node] = set()
        outputs = set(graph.outputs)
        for node in graph.nodes:
            if node.op_type != "Pad" or node.domain:
                continue
            result = node.output(0)
            readers = users.get(result, []) if result is not None else []
            if result is None or result in outputs or len(readers) != 1 or not _pads_itself(readers[0], result):
                continue
            added = _spatial_zeros(node)
            if added is None:
                continue
            conv = readers[0]
            own = conv.attr("pads") or (0,) * len(added)
            if len(own) != len(added):
                continue
            conv.attributes["pads"] = Attribute(
                AttributeKind.INTS, tuple(int(a) + b for a, b in zip(own, added, strict=True))
            )
            conv.inputs[0] = node.input(0)
            gone.add(node)
        remove_nodes(graph, gone)
        return len(gone)


def _pads_itself(node: Node, value: Value) -> bool:
    """Whether ``node`` is a Conv of ``value`` with explicit paddings."""
    if node.op_type != "Conv" or node.domain or node.attr("auto_pad", "NOTSET") != "NOTSET":
        return False
    return node.input(0) is value and all(other is not value for other in node.inputs[1:])


def _spatial_zeros(node: Node) -> tuple[int, ...] | None:
    """The paddings of spatial axes, as Conv gives them; None where something else is padded, or with something else."""
    if node.attr("mode", "constant") != "constant" or node.input(0) is None or node.input(3) is not None:
        return None
    if "pads" in node.attributes:  # before opset 11
        pads, filler = [int(pad) for pad in node.attr("pads")], float(node.attr("value", 0.0))
    else:
        given, value = node.input(1), node.input(2)
        if given is None or given.constant is None or (value is not None and value.constant is None):
            return None
        pads = [int(pad) for pad in given.constant.numpy().reshape(-1)]
        filler = 0.0
        if value is not None and value.constant is not None:
            content = value.constant.numpy().reshape(-1)
            filler = float(content[0]) if content.size else 0.0
    rank = len(pads) // 2
    begins, ends = pads[:rank], pads[rank:]
    if filler != 0 or rank < 3 or len(ends) != rank or any((*begins[:2], *ends[:2])) or min(pads) < 0:
        return None
    return (*begins[2:], *ends[2:])
