"""Operators that only move elements: reshaping, transposing, slicing, joining."""

from __future__ import annotations

from mace_core.graph import GraphView, Node
from mace_opencl.lowering.builder import Builder
from mace_opencl.lowering.checks import MOVABLE, constant_reason, dtype_reason, outputs_reason
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import Operator


def _alias_reason(view: GraphView, node: Node) -> str | None:
    return dtype_reason(view, node, MOVABLE, only=(0,)) or outputs_reason(node)


def _alias(builder: Builder, node: Node, group: Group | None) -> None:
    builder.alias(node.outputs[0], node.inputs[0])


OPERATORS = {
    name: Operator(_alias_reason, _alias)
    for name in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
}
