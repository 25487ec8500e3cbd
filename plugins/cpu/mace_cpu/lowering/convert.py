"""Conversions between element types."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_cpu.lowering.checks import all_concrete, dtype_in
from mace_cpu.lowering.elementwise import EVERYTHING
from mace_cpu.lowering.fusion import Fusion, elementwise
from mace_cpu.lowering.nodes import need


def convertible(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for value in (node.inputs[0], node.outputs[0]):
        reason = reason or dtype_in(view, value, EVERYTHING)
    return reason


@elementwise("Cast", "CastLike", check=convertible)
def cast(fusion: Fusion, node: Node) -> int:
    return fusion.cast(fusion.read(node.inputs[0]), fusion.program.dtype(need(node.outputs[0])).label)
