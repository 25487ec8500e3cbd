"""Normalisations with what is added before."""

from __future__ import annotations

from mace_core.graph import Node
from mace_core.scheduler.contrib.registry import body, given, made
from mace_core.scheduler.rewriting import BodyBuilder


@body("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_norm(b: BodyBuilder, node: Node) -> bool:
    """Inputs: data, skip, scale, (shift,) bias; the sum that is normalised is the fourth output."""
    simple = node.op_type == "SkipSimplifiedLayerNormalization"
    if node.output(1) is not None or node.output(2) is not None:
        return False
    bias, total = node.input(3 if simple else 4), node.output(3)
    summed = b.op("Add", [given(node, 0), given(node, 1)], into=None if bias is not None else total)
    if bias is not None:
        summed = b.op("Add", [summed, bias], into=total)
    epsilon = {"epsilon": float(node.attr("epsilon", 1e-12)), "axis": -1}
    if simple:
        b.op("SimplifiedLayerNormalization", [summed, given(node, 2)], epsilon, into=made(node))
    else:
        b.op("LayerNormalization", [summed, given(node, 2), node.input(3)], epsilon, into=made(node))
    return True
