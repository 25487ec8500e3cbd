"""Conditions that the lowerings of integer nodes share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import GraphView, Node
from mace_cpu.quantized.integer_form import NUMBERS
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in


def numbers_with_one_scale(
    view: GraphView, node: Node, values: Sequence[int], scales: Sequence[int], zeros: Sequence[int]
) -> str | None:
    """A reason if one of these inputs is not of 8 or 16 bits, or a scale or zero point of them is not one constant."""
    reason = all_concrete(view, node) or dtype_in(view, node.output(0), NUMBERS)
    for index in values:
        reason = reason or dtype_in(view, node.input(index), NUMBERS)
    for index in scales:
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    for index in (*scales, *zeros):
        value = node.input(index)
        if reason is None and (value is None or view.constant(value) is None or math.prod(view.shape(value)) != 1):
            return f"input {index} is not one constant"
    return reason
