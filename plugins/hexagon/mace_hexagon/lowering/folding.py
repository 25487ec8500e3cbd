"""Constant factors and addends per channel behind a convolution: they become part of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_core.graph import Node, Value
from mace_hexagon.lowering.context import Array

if TYPE_CHECKING:
    from mace_hexagon.lowering.engine import Lowering


@dataclass(frozen=True, eq=False)
class Folded:
    """``result = product * gain + shift`` per channel, in float64.

    Attributes:
        nodes: the nodes that compute it, in order.
    """

    nodes: tuple[Node, ...]
    gain: Array
    shift: Array

    def apply(self, weights: Array, bias: Array | None) -> tuple[Array, Array]:
        """Weights (channels out first) and bias of the convolution that computes the result."""
        along = (-1, *([1] * (weights.ndim - 1)))
        before = np.zeros(1) if bias is None else bias.astype(np.float64)
        scaled: Array = (weights * self.gain.reshape(along)).astype(weights.dtype)
        shifted: Array = (before * self.gain + self.shift).astype(weights.dtype)
        return scaled, shifted


def fold_behind(lowering: Lowering, convolution: Node) -> Folded | None:
    """What can be folded into a convolution over pictures; None where nothing can."""
    value = convolution.outputs[0]
    assert value is not None
    channels = lowering.shape(value)[1]
    gain, shift = np.ones(channels), np.zeros(channels)
    nodes: list[Node] = []
    while (node := _only_user(lowering, value)) is not None:
        step, result = _affine(lowering, node, value, channels), node.outputs[0]
        if step is None or result is None:
            break
        gain, shift = gain * step[0], shift * step[0] + step[1]
        nodes.append(node)
        value = result
    return Folded(tuple(nodes), gain, shift) if nodes else None


def _only_user(lowering: Lowering, value: Value) -> Node | None:
    if lowering.view.is_output(value):
        return None
    users = lowering.view.users(value)
    return users[0] if len(users) == 1 and not users[0].domain else None


def _affine(lowering: Lowering, node: Node, value: Value, channels: int) -> tuple[Array, Array] | None:
    """Factor and addend per channel of one node."""
    if node.op_type == "BatchNormalization":
        return _batch_norm(lowering, node, value)
    result = node.outputs[0]
    if node.op_type not in ("Mul", "Add") or result is None or lowering.is_in_pattern(node):
        return None
    other = node.input(1) if node.input(0) is value else node.input(0)
    held = None if other is value else lowering.array(other)
    if held is None or lowering.shape(result) != lowering.shape(value):
        return None
    numbers: Array
    if held.size == 1:
        numbers = np.full(channels, float(held.reshape(-1)[0]))
    elif held.ndim in (3, 4) and held.shape[-3:] == (channels, 1, 1) and held.size == channels:
        numbers = held.astype(np.float64).reshape(channels)
    else:
        return None
    return (numbers, np.zeros(channels)) if node.op_type == "Mul" else (np.ones(channels), numbers)


def _batch_norm(lowering: Lowering, node: Node, value: Value) -> tuple[Array, Array] | None:
    if node.inputs[0] is not value or int(node.attr("training_mode", 0)):
        return None
    if sum(output is not None for output in node.outputs) != 1:
        return None
    held = [lowering.array(node.input(index)) for index in range(1, 5)]
    if any(array is None for array in held):
        return None
    scale, shift, mean, variance = (np.asarray(array, np.float64).reshape(-1) for array in held)
    gain = scale / np.sqrt(variance + float(node.attr("epsilon", 1e-5)))
    return gain, shift - mean * gain
