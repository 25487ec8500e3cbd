"""Products of quantized numbers whose results are floats, since something else is done to them before rounding."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.chain_variant import BINARY, SINGLE
from mace_cpu.quantized.rewriting.graph import Rewriting
from mace_cpu.quantized.rewriting.results import Wanted
from mace_cpu.quantized.rewriting.rules import EXPENSIVE, RULES

MOST_BETWEEN = 12
"""Nodes that are followed back from a float to the product it comes from."""


def follows_product(rewriting: Rewriting, real: Value) -> bool:
    """Whether ``real`` comes from a product of bytes with results of floats by elementwise operators."""
    value: Value | None = real
    for _ in range(MOST_BETWEEN):
        node = None if value is None else rewriting.producers.get(value)
        if node is None or node.domain:
            return False
        if node.op_type in EXPENSIVE:
            return all(node.input(index) in rewriting.quantized for index in (0, 1))
        if node.op_type not in BINARY | SINGLE:
            return False
        inputs = (one for one in node.inputs if one is not None and rewriting.real(one) is None)
        value = next((one for one in inputs if one not in rewriting.quantized), None)
    return False


def with_products(rewriting: Rewriting, nodes: Sequence[Node]) -> list[Node]:
    """``nodes``, with products of floats that stand for bytes computed from the bytes."""
    found: list[Node] = []
    for node in nodes:
        made = _product(rewriting, node)
        found.append(node if made is None else made)
    return found if found == list(nodes) else _dequantized_early(found)


def _product(rewriting: Rewriting, node: Node) -> Node | None:
    """``node`` as a product of bytes with a result of float32; None, and a reason noted, where it cannot be."""
    real = node.output(0)
    if node.domain or node.op_type not in EXPENSIVE or real is None or rewriting.dtype(real) is not DType.FLOAT32:
        return None
    if node.input(0) not in rewriting.quantized or node.input(1) not in rewriting.quantized:
        return None
    reason = RULES[node.op_type](rewriting, node, Wanted.in_float(real))
    if isinstance(reason, str):
        rewriting.refused[node] = reason
        return None
    return rewriting.nodes.pop()


def _dequantized_early(nodes: Sequence[Node]) -> list[Node]:
    """The same with each DequantizeLinear right behind what it reads: whoever adds its result to sums knows it then."""
    made = {value for node in nodes for value in node.outputs}

    def moves(node: Node) -> bool:
        is_plain = node.op_type == "DequantizeLinear" and not node.domain
        return is_plain and not any(value in made for value in node.inputs[1:] if value is not None)

    waiting: dict[Value | None, list[Node]] = {}
    for node in filter(moves, nodes):
        waiting.setdefault(node.input(0), []).append(node)
    found = [node for value, early in waiting.items() if value not in made for node in early]
    for node in nodes:
        if not moves(node):
            found.append(node)
            for value in node.outputs:
                found += waiting.get(value, [])
    return found
