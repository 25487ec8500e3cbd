"""Cross-layer equalization: channels of one layer are made as large as each other, and the next layer makes up for it.

What a layer computes for channel ``i`` is divided by ``s[i]`` (weights and bias), and the next layer's weights for it
are multiplied by ``s[i]``; with ``s = sqrt(r1 / r2)`` of the channel's ranges in both, the two ranges become equal.
Between the two may be what commutes with a positive factor: Relu, LeakyRelu, PRelu, pooling, padding with zeros. A Clip
does not: its upper bound would need a factor for each channel. It is passed where the numbers before it were observed:
channels that reach a bound keep their scale, and others may not be made so large that they would.

Source: Nagel et al., "Data-free quantization through weight equalization and bias correction" (2019), which replaces a
Clip by a Relu instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType

Array: TypeAlias = npt.NDArray[Any]

_ROUNDS = 20
"""Times that all pairs are gone through, for chains of several layers; fewer where nothing changes any more."""

_SETTLED = 1.001
"""A factor nearer to 1 than this changes nothing worth another round."""

_MOST = 1e4
"""The largest factor of one channel over all rounds, and the inverse of the smallest."""

_ROOM = 1.1
"""Numbers before a Clip count as this much larger than they were seen, as other data may bring larger ones."""

_COMMUTE = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers, of which the second alone reads what the first computes, through what is between.

    Attributes:
        first, second: Conv, ConvTranspose or Gemm.
        between: nodes, in order.
    """

    first: Node
    second: Node
    between: tuple[Node, ...]

    @property
    def clip(self) -> Node | None:
        """The Clip between the two, if there is one."""
        return next((node for node in self.between if node.op_type == "Clip"), None)

    @property
    def clipped(self) -> Value | None:
        """What the Clip reads: its largest numbers of each channel are what `equalize` needs to know."""
        clip = self.clip
        return None if clip is None else clip.inputs[0]


def find_pairs(graph: Graph) -> list[Pair]:
    """The pairs of layers of a graph that can be equalized, in the order of the graph.

    Batch normalization is expected to be folded into weights before.
    """
    users = graph.users()
    outputs = set(graph.outputs)
    pairs = []
    for first in graph.nodes:
        if not _is_layer(first, users, graph):
            continue
        between: list[Node] = []
        value = first.outputs[0]
        while value is not None and value not in outputs and len(users.get(value, ())) == 1:
            reader = users[value][0]
            if reader.input(0) is not value or reader.domain:
                break
            if _is_layer(reader, users, graph):
                pair = Pair(first, reader, tuple(between))
                if sum(node.op_type == "Clip" for node in between) <= 1 and _channels(pair) is not None:
                    pairs.append(pair)
                break
            if not _commutes(reader):
                break
            between.append(reader)
            value = reader.outputs[0]
    return pairs


def equalize(graph: Graph, largest: Mapping[Value, Array] | None = None) -> dict[Node, Array]:
    """Equalize all pairs of layers, in place; the function of the graph stays as it is, but for rounding.

    Args:
        largest: for `Pair.clipped` values, the largest number seen of each channel, (C,). Pairs around a Clip that it
            tells nothing of are left alone.

    Returns:
        For each layer whose results were scaled, what each channel was divided by in all.
    """
    seen = dict(largest or {})
    pairs = [pair for pair in find_pairs(graph) if pair.clipped is None or pair.clipped in seen]
    arrays = {
        node: [np.array(value.constant.numpy(), np.float64) for value in _constants(node) if value.constant is not None]
        for pair in pairs
        for node in (pair.first, pair.second)
    }
    totals = {pair.first: np.ones(_channels(pair) or 0) for pair in pairs}
    maxima = {pair.first: np.array(seen[pair.clipped], np.float64) for pair in pairs if pair.clipped is not None}
    for _ in range(_ROUNDS):
        farthest = 1.0
        for pair in pairs:
            factors = _factors(pair, arrays, totals[pair.first], maxima.get(pair.first))
            first, second = arrays[pair.first], arrays[pair.second]
            outputs, inputs = _by_output(pair.first, first[0]), _by_input(pair.second, second[0])
            outputs /= factors.reshape(outputs.shape[:-1])[..., None]
            inputs *= factors.reshape(inputs.shape[0], 1, inputs.shape[2], 1)
            first[0], second[0] = _from_output(pair.first, outputs, first[0]), inputs.reshape(second[0].shape)
            if len(first) > 1:
                first[1] = (np.broadcast_to(first[1].reshape(-1), len(factors)) / factors).copy()
            totals[pair.first] = totals[pair.first] * factors
            if pair.first in maxima:
                maxima[pair.first] = maxima[pair.first] / factors
            farthest = max(farthest, float(factors.max()), float(1 / factors.min()))
        if farthest < _SETTLED:
            break
    for node, held in arrays.items():
        for value, array in zip(_constants(node), held, strict=True):
            value.constant = Tensor.from_numpy(np.ascontiguousarray(array, np.float32))
            value.type = TensorType(DType.FLOAT32, value.constant.shape)
    return totals


def _factors(pair: Pair, arrays: Mapping[Node, list[Array]], total: Array, maxima: Array | None) -> Array:
    """By what to divide each channel now, so that both ranges of it become equal, within what is allowed."""
    outputs = np.abs(_by_output(pair.first, arrays[pair.first][0])).max(axis=-1).reshape(-1)
    inputs = np.abs(_by_input(pair.second, arrays[pair.second][0])).max(axis=(1, 3)).reshape(-1)
    is_used = (outputs > 0) & (inputs > 0)
    factors = np.sqrt(np.where(is_used, outputs, 1.0) / np.where(is_used, inputs, 1.0))
    factors = np.clip(factors, 1 / (_MOST * total), _MOST / total)
    clip = pair.clip
    if clip is None or maxima is None:
        return factors
    bound = _bound(clip, 2)
    reached = maxima * _ROOM
    # a channel that is clipped keeps its scale; no other may come to be clipped
    return np.where(reached * total >= bound, 1.0, np.maximum(factors, reached / bound))


def _channels(pair: Pair) -> int | None:
    """Channels between the layers of a pair, None where the two do not agree on them (as behind a Flatten)."""
    first, second = (node.inputs[1] for node in (pair.first, pair.second))
    assert first is not None and first.constant is not None and second is not None and second.constant is not None
    outputs = _by_output(pair.first, first.constant.numpy())
    inputs = _by_input(pair.second, second.constant.numpy())
    count = outputs.shape[0] * outputs.shape[1]
    if count != inputs.shape[0] * inputs.shape[2]:
        return None
    bias = pair.first.input(2)
    if bias is not None and bias.constant is not None and bias.constant.shape not in ((), (1,), (count,), (1, count)):
        return None
    slopes = [node.inputs[1] for node in pair.between if node.op_type == "PRelu"]
    return None if any(slope is None or slope.constant is None for slope in slopes) else count


def _constants(node: Node) -> list[Value]:
    """Weights and bias of a layer."""
    return [value for value in node.inputs[1:3] if value is not None and value.constant is not None]


def _is_layer(node: Node, users: Mapping[Value, list[Node]], graph: Graph) -> bool:
    """Whether a node is a layer whose weights are its own."""
    if node.domain or node.op_type not in ("Conv", "ConvTranspose", "Gemm"):
        return False
    if node.op_type == "Gemm" and (
        node.attr("transA", 0) or node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0
    ):
        return False
    if node.input(1) is None:
        return False
    for value in node.inputs[1:3]:
        if value is None:
            continue
        if value.constant is None or value.constant.dtype is not DType.FLOAT32:
            return False
        if len(users.get(value, ())) != 1 or value in graph.outputs or value.name in graph.defaults:
            return False
    bias = node.input(2)
    return bias is None or bias.constant is None or bias.constant.dtype is DType.FLOAT32


def _commutes(node: Node) -> bool:
    """Whether a positive factor for each channel may pass through a node: through a Clip at 0 only with care."""
    if node.op_type in _COMMUTE:
        return sum(value is not None for value in node.outputs) == 1
    if node.op_type == "PRelu":
        return True
    if node.op_type == "Flatten":
        return int(node.attr("axis", 1)) == 1  # of one pixel: else the next layer has another number of channels
    if node.op_type == "Pad":
        return _pads_pixels_with_zeros(node)
    if node.op_type == "Clip":
        return _bound(node, 1) == 0.0 and _bound(node, 2) > 0.0
    return False


def _pads_pixels_with_zeros(pad: Node) -> bool:
    amounts, fill = pad.input(1), pad.input(2)
    if amounts is None or amounts.constant is None or pad.input(3) is not None:
        return False
    before, after = amounts.constant.numpy().reshape(2, -1)
    is_zero = fill is None or (fill.constant is not None and not fill.constant.numpy().any())
    return is_zero and len(before) > 2 and not (before[:2].any() or after[:2].any())


def _bound(clip: Node, index: int) -> float:
    """A bound of a Clip; NaN where it is computed in the run, which no comparison holds for."""
    value = clip.input(index)
    if value is None:
        given = clip.attr("min" if index == 1 else "max")  # before opset 11
        return float(given) if given is not None else -np.inf if index == 1 else np.inf
    return float("nan") if value.constant is None else float(value.constant.numpy().reshape(-1)[0])


def _by_output(node: Node, weights: Array) -> Array:
    """Weights as (groups, results, all else); a view or a copy."""
    groups = int(node.attr("group", 1)) if node.op_type != "Gemm" else 1
    if node.op_type == "ConvTranspose":
        split = weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)
        return split.transpose(0, 2, 1, 3).reshape(groups, weights.shape[1], -1)
    if node.op_type == "Gemm" and not node.attr("transB", 0):
        return weights.T.reshape(1, weights.shape[1], -1)
    return weights.reshape(groups, weights.shape[0] // groups, -1)


def _from_output(node: Node, outputs: Array, like: Array) -> Array:
    """The inverse of `_by_output`."""
    if node.op_type == "ConvTranspose":
        groups, results = outputs.shape[:2]
        split = outputs.reshape(groups, results, like.shape[0] // groups, -1)
        return split.transpose(0, 2, 1, 3).reshape(like.shape)
    if node.op_type == "Gemm" and not node.attr("transB", 0):
        return np.asarray(outputs[0].T.copy())
    return np.asarray(outputs.reshape(like.shape))


def _by_input(node: Node, weights: Array) -> Array:
    """Weights as (groups, results, inputs, all else): a reshape of them, results and inputs as `Gemm` has them."""
    if node.op_type == "Gemm":
        if node.attr("transB", 0):
            return weights.reshape(1, weights.shape[0], weights.shape[1], 1)
        return weights.reshape(1, 1, weights.shape[0], weights.shape[1])
    groups = int(node.attr("group", 1))
    if node.op_type == "ConvTranspose":
        return weights.reshape(groups, 1, weights.shape[0] // groups, -1)
    return weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)
