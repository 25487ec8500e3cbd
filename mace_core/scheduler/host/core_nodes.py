"""Nodes that the core runs itself where no device claims them: control flow, sequences, optionals and labels."""

from __future__ import annotations

from collections.abc import Mapping

from mace_core.graph import Node, Value
from mace_core.scheduler.host.control_flow import ControlFlow, MakeBody, is_control_flow, make_control_flow
from mace_core.scheduler.host.label_steps import LabelStep, is_label_step
from mace_core.scheduler.host.operator_steps import HostStep, is_host_step
from mace_core.scheduler.host.sequences import SequenceOperation, is_sequence_operation
from mace_core.tensor import Tensor


def runs_in_core(node: Node) -> bool:
    """Whether the core can run this node."""
    return is_control_flow(node) or is_sequence_operation(node) or is_label_step(node) or is_host_step(node)


def make_core_node(
    node: Node, known: Mapping[Value, Tensor], make_body: MakeBody, *, opset_imports: Mapping[str, int]
) -> ControlFlow:
    """``node`` made ready, one for which :func:`runs_in_core` holds."""
    if is_sequence_operation(node):
        return SequenceOperation(node, known, make_body)
    if is_label_step(node):
        return LabelStep(node, known, make_body)
    if is_host_step(node):
        return HostStep(node, known, make_body, opset_imports)
    return make_control_flow(node, known, make_body, opset=opset_imports.get("", 0))
