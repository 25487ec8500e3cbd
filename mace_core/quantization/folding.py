"""Scales and offsets behind a convolution or a product of matrices become part of its weights and bias.

A BatchNormalization, and a Mul, Div, Add or Sub by a constant for each channel, cost a requantization each, and widen
the range of the value between. The sums are made in float64.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.quantization.editing import Editor
from mace_core.tensor import DType, Tensor

Array: TypeAlias = npt.NDArray[Any]


def fold_scales(graph: Graph) -> int:
    """Fold what can be folded, in place; returns how many nodes that took away.

    The names of the values that are left, outputs among them, stay.
    """
    editor = Editor(graph)
    outputs = set(graph.outputs)
    gone: set[Node] = set()
    for node in graph.nodes:
        while node not in gone and _can_take(node):
            result = node.outputs[0]
            readers = editor.users.get(result, []) if result is not None else []
            if result is None or result in outputs or len(readers) != 1:
                break
            reader = readers[0]
            found = _scale_and_offset(reader, result, node)
            if found is None:
                break
            _take(editor, node, *found)
            gone.add(reader)
            node.outputs = [reader.outputs[0]]
            if node.outputs[0] is not None:
                node.outputs[0].producer = node
            node.source = (*node.source, *reader.source)
    graph.nodes = [node for node in graph.nodes if node not in gone]
    editor.sweep()
    return len(gone)


def channel_axis(node: Node) -> int:
    """The axis of the weights of Conv, ConvTranspose or Gemm that the output channels lie along."""
    if node.op_type == "Gemm":
        return 0 if node.attr("transB", 0) else 1
    return 1 if node.op_type == "ConvTranspose" else 0


def channel_count(node: Node, weights: Tensor) -> int:
    """Output channels of Conv, ConvTranspose or Gemm."""
    groups = int(node.attr("group", 1)) if node.op_type == "ConvTranspose" else 1
    return weights.shape[channel_axis(node)] * groups


def _can_take(node: Node) -> bool:
    if node.domain or node.op_type not in ("Conv", "ConvTranspose", "Gemm"):
        return False
    weights, bias = node.input(1), node.input(2)
    if weights is None or weights.constant is None or weights.constant.dtype is not DType.FLOAT32:
        return False
    if bias is not None and (bias.constant is None or bias.constant.dtype is not DType.FLOAT32):
        return False
    if node.op_type != "Gemm":
        return True
    if node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0:
        return False
    channels = channel_count(node, weights.constant)
    return bias is None or bias.constant is None or bias.constant.shape in ((), (1,), (channels,), (1, channels))


def _scale_and_offset(reader: Node, result: Value, node: Node) -> tuple[Array, Array] | None:
    """What ``reader`` multiplies each output channel with, and then adds; None if it does something else."""
    weights = node.inputs[1]
    assert weights is not None and weights.constant is not None
    channels = channel_count(node, weights.constant)
    if reader.domain:
        return None
    if reader.op_type == "BatchNormalization":
        return _normalization(reader, result, channels)
    if reader.op_type not in ("Mul", "Div", "Add", "Sub") or len(reader.inputs) != 2:
        return None
    is_first = reader.inputs[0] is result
    other = reader.inputs[1] if is_first else reader.inputs[0]
    if other is result or (reader.op_type in ("Div", "Sub") and not is_first):
        return None
    numbers = _per_channel(other, channels, len(weights.constant.shape))
    if numbers is None:
        return None
    match reader.op_type:
        case "Mul":
            return numbers, np.zeros(channels)
        case "Div":
            return (1.0 / numbers, np.zeros(channels)) if numbers.all() else None
        case "Add":
            return np.ones(channels), numbers
        case _:
            return np.ones(channels), -numbers


def _per_channel(value: Value | None, channels: int, rank: int) -> Array | None:
    """A constant that is broadcast over all axes but the channels' (axis 1), as (channels,) float64."""
    if value is None or value.constant is None or value.constant.dtype is not DType.FLOAT32:
        return None
    shape = value.constant.shape
    if len(shape) > rank:
        return None
    aligned = (*(1,) * (rank - len(shape)), *shape)
    if any(size != 1 for axis, size in enumerate(aligned) if axis != 1) or aligned[1] not in (1, channels):
        return None
    numbers = np.broadcast_to(value.constant.numpy().reshape(-1).astype(np.float64), channels)
    return numbers if np.isfinite(numbers).all() else None


def _normalization(reader: Node, result: Value, channels: int) -> tuple[Array, Array] | None:
    more_outputs = sum(value is not None for value in reader.outputs) > 1
    if reader.inputs[0] is not result or reader.attr("training_mode", 0) or more_outputs:
        return None
    found = []
    for value in reader.inputs[1:5]:
        if value is None or value.constant is None or value.constant.dtype is not DType.FLOAT32:
            return None
        found.append(value.constant.numpy().astype(np.float64))
    if any(array.shape != (channels,) or not np.isfinite(array).all() for array in found):
        return None
    gain, shift, mean, variance = found
    with np.errstate(all="ignore"):
        scale = gain / np.sqrt(variance + float(reader.attr("epsilon", 1e-5)))
    return (scale, shift - mean * scale) if np.isfinite(scale).all() else None


def _take(editor: Editor, node: Node, scale: Array, offset: Array) -> None:
    weights, bias = node.inputs[1], node.input(2)
    assert weights is not None and weights.constant is not None
    if (scale != 1.0).any():
        array = weights.constant.numpy().astype(np.float64)
        scaled = array * _against_weights(node, scale, array.shape)
        editor.replace_input_constant(node, 1, scaled.astype(np.float32))
    old: Array = np.zeros(len(scale))
    if bias is not None and bias.constant is not None:
        old = np.broadcast_to(bias.constant.numpy().astype(np.float64).reshape(-1), len(scale))
    total = (old * scale + offset).astype(np.float32)
    if bias is not None:
        editor.replace_input_constant(node, 2, total)
    elif total.any():
        added = editor.constant(f"{node.name}_bias", total)
        node.inputs = [*node.inputs[:2], added]
        editor.users[added] = [node]


def _against_weights(node: Node, scale: Array, shape: tuple[int, ...]) -> Array:
    """A factor for each output channel in the form that broadcasts against the weights."""
    if node.op_type == "ConvTranspose":
        groups = int(node.attr("group", 1))
        per_input = np.repeat(scale.reshape(groups, -1), shape[0] // groups, axis=0)
        return per_input.reshape(*per_input.shape, *(1,) * (len(shape) - 2))
    axis = channel_axis(node)
    return scale.reshape([-1 if at == axis else 1 for at in range(len(shape))])
