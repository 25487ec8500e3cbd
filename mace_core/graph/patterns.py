"""Operators that exporters spell out as several nodes: found again, for providers whose vendor has them as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mace_core.graph.graph import Node, Value
from mace_core.graph.view import GraphView

TOLERANCE = 1e-4
"""How far constants may be from those of an operator's definition, relative."""

LowerT = TypeVar("LowerT")


@dataclass(frozen=True, eq=False)
class Pattern(Generic[LowerT]):
    """Nodes that are one operation.

    Attributes:
        nodes: all of them; the last computes the result, the others' results are read by these nodes only.
        lower: what the provider makes of them, in the place of the last node.
    """

    nodes: tuple[Node, ...]
    lower: LowerT


def find_patterns(
    view: GraphView, matches: Sequence[Callable[[PatternFinder, Node], Pattern[LowerT] | None]]
) -> dict[Node, Pattern[LowerT]]:
    """All patterns of a view by their last node; no node is in two.  Of ``matches`` the first that fits is taken."""
    finder = PatternFinder(view)
    found: dict[Node, Pattern[LowerT]] = {}
    taken: set[Node] = set()
    for node in reversed(view.nodes):
        if node.domain or node in taken:
            continue
        for match in matches:
            pattern = match(finder, node)
            if pattern is not None and not taken.intersection(pattern.nodes) and finder.is_closed(pattern.nodes):
                found[node] = pattern
                taken.update(pattern.nodes)
                break
    return found


class PatternFinder:
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
        """Whether ``value`` is one constant near ``wanted``."""
        found = self.scalar(value)
        return found is not None and math.isclose(found, wanted, rel_tol=TOLERANCE)

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
        made = [value for node in nodes[:-1] for value in node.outputs if value is not None]
        return not any(
            self.view.is_output(value) or any(user not in members for user in self.view.users(value)) for value in made
        )


def match_hard_swish(finder: PatternFinder, node: Node) -> tuple[tuple[Node, ...], Value] | None:
    """``x * clip(x + 3, 0, 6) / 6`` that ends in ``node``: its nodes, and ``x``."""
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
    return (shifted, clip, product, node), x
