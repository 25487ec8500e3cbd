"""Conditions that the lowerings of integer nodes share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node
from mace_cpu.quantized.integer_form import BYTES
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in


def bytes_with_one_scale(
    view: GraphView, node: Node, values: Sequence[int], scales: Sequence[int], zeros: Sequence[int]
) -> str | None:
    """A reason if one of these inputs is not of bytes, or one of these scales or zero points is not one constant."""
    reason = all_concrete(view, node) or dtype_in(view, node.output(0), BYTES)
    for index in values:
        reason = reason or dtype_in(view, node.input(index), BYTES)
    for index in scales:
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    for index in (*scales, *zeros):
        value = node.input(index)
        if reason is None and (value is None or view.constant(value) is None or math.prod(view.shape(value)) != 1):
            return f"input {index} is not one constant"
    return reason
