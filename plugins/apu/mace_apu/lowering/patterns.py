"""Operators that exporters spell out: found again and lowered as one."""

from __future__ import annotations

import math
from typing import TypeAlias

from mace_apu.lowering.context import Lower, NodeContext
from mace_apu.neuron.constants import Operation
from mace_core.graph import GraphView, Node, Value, patterns
from mace_core.graph.patterns import TOLERANCE, PatternFinder, match_hard_swish

Pattern: TypeAlias = patterns.Pattern[Lower]


def find_patterns(view: GraphView) -> dict[Node, Pattern]:
    """All patterns of a view by their last node; no node is in two."""
    return patterns.find_patterns(view, (_hard_swish, _hard_sigmoid_product))


def _hard_swish(finder: PatternFinder, node: Node) -> Pattern | None:
    found = match_hard_swish(finder, node)
    return None if found is None else Pattern(found[0], _emit_hard_swish(found[1]))


def _hard_sigmoid_product(finder: PatternFinder, node: Node) -> Pattern | None:
    """``x * HardSigmoid(x)`` with a slope of 1/6 and an offset of 1/2."""
    parts = finder.split(node, "HardSigmoid") if node.op_type == "Mul" else None
    if parts is None:
        return None
    gate, x = parts
    slope, offset = float(gate.attr("alpha", 0.2)), float(gate.attr("beta", 0.5))
    if gate.input(0) is not x or not math.isclose(slope, 1 / 6, rel_tol=TOLERANCE) or offset != 0.5:
        return None
    return Pattern((gate, node), _emit_hard_swish(x))


def _emit_hard_swish(x: Value) -> Lower:
    def lower(context: NodeContext) -> None:
        order = context.lowering.order_of(x)
        context.emit(Operation.HARD_SWISH, [context.lowering.tensor(x, order)], order)

    return lower
