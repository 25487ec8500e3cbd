"""Conversions between element types."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_cpu.elementwise.lower import EVERYTHING
from mace_cpu.elementwise.lower_chain import Chain, elementwise
from mace_cpu.shared.checks import NARROW, all_concrete, dtype_in
from mace_cpu.shared.nodes import need

CONVERTIBLE = EVERYTHING | NARROW
ROUND_MODES = ("up", "down", "nearest")


def convertible(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for value in (node.inputs[0], node.outputs[0]):
        reason = reason or dtype_in(view, value, CONVERTIBLE)
    if reason is None and node.attr("round_mode", "up") not in ROUND_MODES:
        return f"there is no round mode '{node.attr('round_mode')}'"
    return reason


@elementwise("Cast", "CastLike", check=convertible)
def cast(chain: Chain, node: Node) -> int:
    dtype = chain.program.facts.dtype(need(node.outputs[0]))
    if dtype not in NARROW:
        return chain.cast(chain.read(node.inputs[0]), dtype.label)
    options = int(node.attr("saturate", 1)), str(node.attr("round_mode", "up"))
    return chain.cast(chain.read(node.inputs[0]), dtype.label, *options)
