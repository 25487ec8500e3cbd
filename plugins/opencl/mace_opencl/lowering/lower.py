"""Walks a view: asks each family of operators, fuses what can be fused, collects the program."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_opencl.lowering import registry
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.checks import shape_reason
from mace_opencl.lowering.elementwise import can_ride, emit_group
from mace_opencl.lowering.expression import OPERATORS, elementwise_reason
from mace_opencl.lowering.fusion import Group, plan_groups
from mace_opencl.program import Program


def why_not(view: GraphView, node: Node) -> str | None:
    """The reason why ``node`` is not taken; None if it is."""
    operator = registry.find(node)
    is_elementwise = not node.domain and node.op_type in OPERATORS
    if operator is None and not is_elementwise:
        return f"the opencl provider has no kernel for {node.qualified_op}"
    reason = shape_reason(view, node)
    if reason is not None:
        return reason
    if is_elementwise:
        return elementwise_reason(view, node)
    assert operator is not None
    return operator.reason(view, node)


def lower(view: GraphView, compute_units: int) -> Program:
    """The program of a view whose nodes were all claimed, for a device with so many compute units."""

    def is_elementwise(node: Node) -> bool:
        return not node.domain and node.op_type in OPERATORS

    def can_anchor(node: Node, group: Group) -> bool:
        operator = registry.find(node)
        if operator is None or operator.epilogue is None:
            return False
        return can_ride(view, node, group, operator.epilogue(view, node))

    builder = Builder(view, compute_units)
    groups = plan_groups(view, is_elementwise, can_anchor)
    for node in view.nodes:
        group = groups.get(node)
        if group is None:
            operator = registry.find(node)
            assert operator is not None
            operator.lower(builder, node, None)
        elif node is group.root:
            if group.anchor is None:
                emit_group(builder, group)
            else:
                operator = registry.find(group.anchor)
                assert operator is not None
                operator.lower(builder, group.anchor, group)
    return builder.finish()
