"""Operators that exporters spell out: found again and lowered as one."""

from __future__ import annotations

import math
from typing import TypeAlias

from mace_apu.lowering.context import Lower, NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import MAX_RANK
from mace_apu.neuron.constants import Operation
from mace_core.graph import GraphView, Node, Value, patterns
from mace_core.graph.clusters import only_user
from mace_core.graph.patterns import TOLERANCE, PatternFinder, match_hard_swish

Pattern: TypeAlias = patterns.Pattern[Lower]


def find_patterns(view: GraphView) -> dict[Node, Pattern]:
    """All patterns of a view by their last node; no node is in two."""
    return patterns.find_patterns(view, (_hard_swish, _hard_sigmoid_product, _repeated))


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


def _repeated(finder: PatternFinder, node: Node) -> Pattern | None:
    """A Reshape of what Expand makes of more dimensions than Neuron has, such as the heads of grouped queries."""
    expand = finder.made_by(node.input(0), "Expand") if node.op_type == "Reshape" else None
    x, made = (None, None) if expand is None else (expand.input(0), expand.outputs[0])
    if expand is None or x is None or made is None or only_user(finder.view, made) is not node:
        return None
    source, result = (finder.view.tensor_type(value) for value in (x, made))
    if source is None or result is None or not (source.is_concrete and result.is_concrete):
        return None
    long = sum(size != 1 for size in result.concrete_shape)
    return Pattern((expand, node), _emit_repeated(x, made)) if long > MAX_RANK else None


def _emit_repeated(x: Value, made: Value) -> Lower:
    """Neighboring axes that are repeated alike become one."""

    def lower(context: NodeContext) -> None:
        values = context.lowering
        wanted = values.shape(made)
        own = values.shape(x)
        own = (1,) * (len(wanted) - len(own)) + own
        merged: list[list[int]] = []
        for size, longer in zip(own, wanted, strict=True):
            times = longer // size
            if merged and (merged[-1][1] == times == 1):
                merged[-1][0] *= size
            elif size != 1 or times != 1:
                merged.append([size, times])
        if len(merged) > MAX_RANK:
            raise DeclinedError("Expand to more than four dimensions is not offered by Neuron")
        shape, whole = tuple(size for size, _ in merged), tuple(size * times for size, times in merged)
        source = context.reshaped(values.tensor(x), shape)
        tiled = context.compute(Operation.TILE, [source, context.repeats(shape, whole)], whole)
        result = context.new_result()
        values.reshape(tiled, result)
        context.finish(result)

    return lower


def _emit_hard_swish(x: Value) -> Lower:
    def lower(context: NodeContext) -> None:
        order = context.lowering.order_of(x)
        context.emit(Operation.HARD_SWISH, [context.lowering.tensor(x, order)], order)

    return lower
