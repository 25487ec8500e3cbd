"""A BatchNormalization behind a convolution becomes part of its weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.values import Array
from mace_core.graph import Node
from mace_core.graph.clusters import only_user


@dataclass(frozen=True, eq=False)
class Folded:
    """``result = product * gain + shift`` per channel, in float64.

    Attributes:
        node: the node that computes it.
    """

    node: Node
    gain: Array
    shift: Array

    def apply(self, weights: Array, bias: Array | None) -> tuple[Array, Array]:
        """Weights (channels out first) and bias of the convolution that computes the result."""
        along = (-1, *([1] * (weights.ndim - 1)))
        before = np.zeros(1) if bias is None else bias.astype(np.float64)
        scaled: Array = (weights * self.gain.reshape(along)).astype(weights.dtype)
        shifted: Array = (before * self.gain + self.shift).astype(weights.dtype)
        return scaled, shifted


def fold_behind(context: NodeContext) -> Folded | None:
    """The BatchNormalization behind a convolution; None where there is none to fold."""
    value = context.result()
    node = only_user(context.lowering.view, value)
    if node is None or node not in context.lowering.nodes or node.op_type != "BatchNormalization":
        return None
    if node.inputs[0] is not value or (context.has(2) and context.array(2) is None):
        return None
    found = normalization(context, node)
    return None if found is None else Folded(node, *found)


def normalization(context: NodeContext, node: Node) -> tuple[Array, Array] | None:
    """Gain and shift of a BatchNormalization for inference, in float64; None if they are not constant."""
    if int(node.attr("training_mode", 0)) or sum(output is not None for output in node.outputs) != 1:
        return None
    held = [context.lowering.array(node.input(index)) for index in range(1, 5)]
    if any(array is None for array in held):
        return None
    scale, shift, mean, variance = (np.asarray(array, np.float64).reshape(-1) for array in held)
    gain = scale / np.sqrt(variance + float(node.attr("epsilon", 1e-5)))
    return gain, shift - mean * gain
