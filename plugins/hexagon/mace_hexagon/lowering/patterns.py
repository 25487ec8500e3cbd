"""Operators that exporters spell out: found again and lowered as one, which is faster and rounds less in float16."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from mace_core.graph import GraphView, Node, patterns
from mace_core.graph.patterns import PatternFinder, match_hard_swish
from mace_hexagon.lowering.context import DeclinedError, Lower, NodeContext

Pattern: TypeAlias = patterns.Pattern[Lower]


def find_patterns(view: GraphView) -> dict[Node, Pattern]:
    """All patterns of a view by their last node; no node is in two."""
    return patterns.find_patterns(view, (_layer_norm, _gelu, _hard_swish, _linear))


def _hard_swish(finder: PatternFinder, node: Node) -> Pattern | None:
    found = match_hard_swish(finder, node)
    if found is None:
        return None
    nodes, x = found

    def lower(context: NodeContext) -> None:
        order = context.lowering.order_of(x)
        context.emit("HardSwish", [context.lowering.tensor(x, order)], order)

    return Pattern(nodes, lower)


def _gelu(finder: PatternFinder, node: Node) -> Pattern | None:
    """``x * (erf(x / sqrt(2)) + 1) * 0.5``, the halving last."""
    if node.op_type != "Mul":
        return None
    product = finder.made_by(finder.with_scalar(node, 0.5), "Mul")
    parts = None if product is None else finder.split(product, "Add")
    if product is None or parts is None:
        return None
    shifted, x = parts
    erf = finder.made_by(finder.with_scalar(shifted, 1.0), "Erf")
    if erf is None:
        return None
    scaled = finder.made_by(erf.input(0), "Div")
    if scaled is None or scaled.input(0) is not x or not finder.is_close(scaled.input(1), math.sqrt(2)):
        return None

    def lower(context: NodeContext) -> None:
        order = context.lowering.order_of(x)
        context.emit("Gelu", [context.lowering.tensor(x, order)], order)

    return Pattern((scaled, erf, shifted, product, node), lower)


def _layer_norm(finder: PatternFinder, node: Node) -> Pattern | None:
    """``(x - mean) / sqrt(mean((x - mean)²) + epsilon) * gain + shift`` over the last axis."""
    scaled = finder.split(node, "Mul") if node.op_type == "Add" else None
    divided = None if scaled is None else finder.split(scaled[0], "Div")
    if scaled is None or divided is None:
        return None
    (product, shift), (division, gain) = scaled, divided
    centered, root = finder.made_by(division.input(0), "Sub"), finder.made_by(division.input(1), "Sqrt")
    shifted = None if root is None else finder.made_by(root.input(0), "Add")
    spread = None if shifted is None else finder.split(shifted, "ReduceMean")
    if centered is None or root is None or shifted is None or spread is None:
        return None
    variance, epsilon = spread[0], finder.scalar(spread[1])
    square = finder.made_by(variance.input(0), "Pow")
    mean = finder.made_by(centered.input(1), "ReduceMean")
    x = centered.input(0)
    if square is None or mean is None or x is None or epsilon is None or mean.input(0) is not x:
        return None
    if square.input(0) is not centered.outputs[0] or not finder.is_close(square.input(1), 2.0):
        return None
    if not (finder.last_axis(mean) and finder.last_axis(variance)):
        return None
    gains, shifts = finder.view.constant(gain), finder.view.constant(shift)
    if gains is None or shifts is None or gains.size != shifts.size:
        return None

    def lower(context: NodeContext) -> None:
        shape = context.lowering.shape(x)
        if gains.size != shape[-1]:
            raise DeclinedError("the gain is not one per element of the last axis")
        operands = [
            context.lowering.tensor(x),
            context.constant(gains.numpy().reshape(-1), "gain"),
            context.constant(shifts.numpy().reshape(-1), "shift"),
        ]
        axes = np.array([len(shape) - 1], np.uint32)
        context.emit("LayerNorm", operands, epsilon=np.float32(epsilon), axes=axes)

    return Pattern((mean, centered, square, variance, shifted, root, division, product, node), lower)


def _linear(finder: PatternFinder, node: Node) -> Pattern | None:
    """``x @ weights + bias``: the bias is added before the product is rounded."""
    parts = finder.split(node, "MatMul") if node.op_type == "Add" else None
    if parts is None:
        return None
    product, bias = parts
    x, weights = product.input(0), finder.view.constant(product.input(1))
    shift = finder.view.constant(bias)
    if x is None or weights is None or shift is None or len(weights.shape) != 2:
        return None
    columns = weights.shape[1]
    if shift.size != columns or shift.shape[-1:] != (columns,) or finder.view.constant(x) is not None:
        return None

    def lower(context: NodeContext) -> None:
        shape = context.lowering.shape(x)
        if len(shape) < 2 or len(context.out_shape()) != len(shape):
            raise DeclinedError("FullyConnected takes matrices")
        rows = context.reshaped(context.lowering.tensor(x), (math.prod(shape[:-1]), shape[-1]))
        held = context.constant(np.ascontiguousarray(weights.numpy().T), "weights")
        added = context.constant(shift.numpy().reshape(-1), "bias")
        if len(shape) == 2:
            context.emit("FullyConnected", [rows, held, added])
            return
        result = context.result_tensor()
        flat = context.temporary((math.prod(shape[:-1]), columns), result, "rows")
        context.lowering.add("FullyConnected", [rows, held, added], [flat])
        context.lowering.add("Reshape", [flat], [result])
        context.finish(result)

    return Pattern((product, node), lower)
