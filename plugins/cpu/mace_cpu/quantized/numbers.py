"""What the lowerings of integer nodes read off their inputs and attributes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mace_core.graph import Node, Value
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program


class Scaled(NamedTuple):
    """Quantized numbers: ``(value - zero) * scale``."""

    value: Value
    scale: np.float32
    zero: int


class Result(NamedTuple):
    """What a result is quantized to: ``real / scale + zero`` within ``low`` and ``high``."""

    value: Value
    scale: np.float32
    zero: int
    low: int
    high: int


def scaled(program: Program, node: Node, first: int) -> Scaled:
    """The quantized input at ``first``, which its scale and zero point follow."""
    scale, zero = _pair(program, node, first + 1)
    return Scaled(need(node.input(first)), scale, zero)


def result_of(program: Program, node: Node, first: int) -> Result:
    """The result, whose scale is the input at ``first``, with its bounds."""
    scale, zero = _pair(program, node, first)
    value = need(node.output(0))
    low, high = limits(program, node)
    return Result(value, scale, zero, low, high)


def limits(program: Program, node: Node) -> tuple[int, int]:
    """The least and the largest number that the result of an integer node may have."""
    held = np.iinfo(program.facts.dtype(need(node.output(0))).numpy)
    return int(node.attr("minimum", held.min)), int(node.attr("maximum", held.max))


def _pair(program: Program, node: Node, first: int) -> tuple[np.float32, int]:
    scale, zero = (program.facts.constant_of(node.input(first + i)) for i in range(2))
    assert scale is not None
    assert zero is not None
    return np.float32(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])
