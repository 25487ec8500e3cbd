"""Relu and Clip as bounds, and as what Neuron can fuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_apu.lowering.errors import DeclinedError
from mace_apu.neuron.constants import Fuse
from mace_core.graph import Node

if TYPE_CHECKING:
    from mace_apu.lowering.values import Values

Bounds = tuple[float, float]

INFINITY = float("inf")

_FUSED: dict[Bounds, Fuse] = {
    (0.0, INFINITY): Fuse.RELU,
    (-1.0, 1.0): Fuse.RELU1,
    (0.0, 6.0): Fuse.RELU6,
}


def activation_bounds(values: Values, node: Node) -> Bounds:
    """Lowest and highest result of a Relu or Clip.

    Raises:
        DeclinedError: if they are not constant.
    """
    if node.op_type == "Relu":
        return 0.0, INFINITY
    low, high = node.attr("min"), node.attr("max")
    bounds = [-INFINITY if low is None else float(low), INFINITY if high is None else float(high)]
    for index in (1, 2):
        value = node.input(index)
        if value is None:
            continue
        found = values.array(value)
        if found is None:
            raise DeclinedError(f"the bound '{value.name}' of Clip is not constant")
        bounds[index - 1] = float(found.reshape(-1)[0])
    return bounds[0], bounds[1]


def fuse_code(bounds: Bounds) -> Fuse:
    """What other operations may end with to keep within ``bounds``; NONE if nothing does that."""
    return _FUSED.get(bounds, Fuse.NONE)
