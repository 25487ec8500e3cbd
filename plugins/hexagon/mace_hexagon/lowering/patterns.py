"""Operators that exporters spell out: found again and lowered as one, which is faster and rounds less in float16."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_hexagon.lowering.context import DeclinedError, Lower, NodeContext

_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Pattern:
    """Nodes that are one operation.

    Attributes:
        nodes: all of them; the last computes the result, the others' results are read by these nodes only.
        lower: emits the operation; its context is that of the last node.
    """

    nodes: tuple[Node, ...]
    lower: Lower


def find_patterns(view: GraphView) -> dict[Node, Pattern]:
    """All patterns of a view by their last node; no node is in two."""
    finder = _Finder(view)
    found: dict[Node, Pattern] = {}
    taken: set[Node] = set()
    for node in reversed(view.nodes):
        if node.domain or node in taken:
            continue
        for match in (_layer_norm, _gelu, _hard_swish, _linear):
            pattern = match(finder, node)
            if pattern is not None and not taken.intersection(pattern.nodes) and finder.is_closed(pattern.nodes):
                found[node] = pattern
                taken.update(pattern.nodes)
                break
    return found


class _Finder:
    """Questions about a view."""

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self._inside = set(view.nodes)

    def made_by(self, value: Value | None, op_type: str) -> Node | None:
        """The node that computes ``value``, if it is an ``op_type``."""
        node = None if value is None else value.producer
        if node is None or node not in self._inside or node.op_type != op_type or node.domain:
            return None
        return node

    def scalar(self, value: Value | None) -> float | None:
        """The number, if ``value`` is one constant."""
        constant = self.view.constant(value)
        return float(constant.numpy().reshape(-1)[0]) if constant is not None and constant.size == 1 else None

    def is_close(self, value: Value | None, wanted: float) -> bool:
        found = self.scalar(value)
        return found is not None and math.isclose(found, wanted, rel_tol=_TOLERANCE)

    def split(self, node: Node, op_type: str) -> tuple[Node, Value] | None:
        """For a commutative node: the operand made by an ``op_type``, and the other one."""
        for first, second in ((0, 1), (1, 0)):
            made, other = self.made_by(node.input(first), op_type), node.input(second)
            if made is not None and other is not None:
                return made, other
        return None

    def with_scalar(self, node: Node, wanted: float) -> Value | None:
        """For a commutative node: the operand beside the constant ``wanted``."""
        for first, second in ((0, 1), (1, 0)):
            if self.is_close(node.input(second), wanted):
                return node.input(first)
        return None

    def last_axis(self, node: Node) -> bool:
        """Whether a ReduceMean keeps its dimensions and reduces the last axis alone."""
        source = node.inputs[0]
        found = None if source is None else self.view.tensor_type(source)
        if found is None or found.shape is None or not node.attr("keepdims", 1):
            return False
        axes = node.attr("axes")
        constant = self.view.constant(node.input(1))
        if constant is not None:
            axes = tuple(int(axis) for axis in constant.numpy().reshape(-1))
        return axes is not None and len(axes) == 1 and axes[0] % len(found.shape) == len(found.shape) - 1

    def is_closed(self, nodes: tuple[Node, ...]) -> bool:
        """Whether nothing else reads what the nodes before the last compute."""
        members = set(nodes)
        for node in nodes[:-1]:
            for value in node.outputs:
                if value is None:
                    continue
                if self.view.is_output(value) or any(user not in members for user in self.view.users(value)):
                    return False
        return True


def _hard_swish(finder: _Finder, node: Node) -> Pattern | None:
    """``x * clip(x + 3, 0, 6) / 6``."""
    if node.op_type == "Div" and finder.is_close(node.input(1), 6.0):
        product = finder.made_by(node.input(0), "Mul")
    elif node.op_type == "Mul" and (scaled := finder.with_scalar(node, 1 / 6)) is not None:
        product = finder.made_by(scaled, "Mul")
    else:
        return None
    parts = None if product is None else finder.split(product, "Clip")
    if product is None or parts is None:
        return None
    clip, x = parts
    low = finder.scalar(clip.input(1)) if clip.input(1) else clip.attr("min")
    high = finder.scalar(clip.input(2)) if clip.input(2) else clip.attr("max")
    shifted = finder.made_by(clip.input(0), "Add")
    if low != 0.0 or high != 6.0 or shifted is None or finder.with_scalar(shifted, 3.0) is not x:
        return None

    def lower(context: NodeContext) -> None:
        order = context.lowering.order_of(x)
        context.emit("HardSwish", [context.lowering.tensor(x, order)], order)

    return Pattern((shifted, clip, product, node), lower)


def _gelu(finder: _Finder, node: Node) -> Pattern | None:
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


def _layer_norm(finder: _Finder, node: Node) -> Pattern | None:
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


def _linear(finder: _Finder, node: Node) -> Pattern | None:
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
