"""The families of operators that are not elementwise, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mace_core.graph import GraphView, Node
from mace_core.provider import Lowerings
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.fusion import Group

Reason = Callable[[GraphView, Node], str | None]
Lower = Callable[[Builder, Node, Group | None], None]


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator is taken.

    Attributes:
        reason: why a node is declined, None if it is not.
        lower: emits its kernels; the group, where there is one, is what its result goes through before it is stored.
        epilogue: for operators that take such a group, where rows and columns begin in the result's shape.
    """

    reason: Reason
    lower: Lower
    epilogue: Callable[[GraphView, Node], tuple[int, int]] | None = None


OPERATORS: Lowerings[Operator] = Lowerings("opencl", "mace_opencl.lowering")
"""Filled by the modules of this package when it is first used."""


def find(node: Node) -> Operator | None:
    """The operator of a node, None if there is none."""
    return OPERATORS.find(node.domain, node.op_type)
