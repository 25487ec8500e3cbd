"""The families of operators that are not elementwise, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mace_core.graph import GraphView, Node
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


def find(node: Node) -> Operator | None:
    """The operator of a node, None if there is none."""
    return _table().get(node.qualified_op)


@functools.cache
def _table() -> Mapping[str, Operator]:
    from mace_opencl.lowering import convolution, matmul, movement, pooling, reduction, resize, selection

    families = (convolution, matmul, movement, pooling, reduction, resize, selection)
    return {name: operator for family in families for name, operator in family.OPERATORS.items()}
