"""Operators that exporters spell out: found again and lowered as one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mace_apu.lowering.context import Lower, NodeContext
from mace_apu.neuron.constants import Operation
from mace_core.graph import GraphView, Node, Value

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
        for match in _MATCHES:
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

    def is_closed(self, nodes: tuple[Node, ...]) -> bool:
        """Whether nothing else reads what the nodes before the last compute."""
        members = set(nodes)
        made = [value for node in nodes[:-1] for value in node.outputs if value is not None]
        return not any(
            self.view.is_output(value) or any(user not in members for user in self.view.users(value)) for value in made
        )


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
    return Pattern((shifted, clip, product, node), _emit_hard_swish(x))


def _hard_sigmoid_product(finder: _Finder, node: Node) -> Pattern | None:
    """``x * HardSigmoid(x)`` with a slope of 1/6 and an offset of 1/2."""
    parts = finder.split(node, "HardSigmoid") if node.op_type == "Mul" else None
    if parts is None:
        return None
    gate, x = parts
    slope, offset = float(gate.attr("alpha", 0.2)), float(gate.attr("beta", 0.5))
    if gate.input(0) is not x or not math.isclose(slope, 1 / 6, rel_tol=_TOLERANCE) or offset != 0.5:
        return None
    return Pattern((gate, node), _emit_hard_swish(x))


def _emit_hard_swish(x: Value) -> Lower:
    def lower(context: NodeContext) -> None:
        order = context.lowering.order_of(x)
        context.emit(Operation.HARD_SWISH, [context.lowering.tensor(x, order)], order)

    return lower


_MATCHES: tuple[Callable[[_Finder, Node], Pattern | None], ...] = (_hard_swish, _hard_sigmoid_product)
