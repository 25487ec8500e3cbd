"""Why operators that stand between quantized numbers are computed in floats."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.integer_form import INTEGERS
from mace_cpu.quantized.rewriting.graph import Rewriting

BORDER = frozenset({"DequantizeLinear", "QuantizeLinear"})


def reasons(rewriting: Rewriting, nodes: Sequence[Node]) -> dict[str, str]:
    """A remark for every node among ``nodes`` on a way from a DequantizeLinear to a QuantizeLinear, by name."""
    refused = {node.name: reason for node, reason in rewriting.refused.items()}
    return {
        node.name: f"in float: {refused.get(node.name) or _plain_reason(node)}" for node in _between(rewriting, nodes)
    }


def _plain_reason(node: Node) -> str:
    return f"what it makes is not quantized before the next operator ({node.op_type})"


def _between(rewriting: Rewriting, nodes: Sequence[Node]) -> list[Node]:
    """The nodes of floats with quantized numbers somewhere before and somewhere behind them."""
    begun: set[Value] = set()
    for node in nodes:
        is_begin = node.domain == INTEGERS or (
            node.op_type == "DequantizeLinear" and rewriting.view.constant(node.inputs[0]) is None
        )
        is_inside = node.op_type not in BORDER and any(value in begun for value in node.inputs)
        if is_begin or is_inside:
            results = (value for value in node.outputs if value is not None)
            begun.update(value for value in results if rewriting.dtype(value) is DType.FLOAT32)
    ended: set[Value | None] = set()
    found: list[Node] = []
    for node in reversed(nodes):
        if node.op_type == "QuantizeLinear":
            ended.update(node.inputs[:1])
        elif node.op_type not in BORDER and any(value is not None and value in ended for value in node.outputs):
            ended.update(node.inputs)
            if node.domain != INTEGERS and any(value in begun for value in node.inputs):
                found.append(node)
    found.reverse()
    return found
