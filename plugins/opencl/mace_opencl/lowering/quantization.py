"""QuantizeLinear and DequantizeLinear: models in QDQ form are computed in float32, rounded where they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.tensor import DType, Tensor
from mace_opencl.kernels.copy import flat_groups
from mace_opencl.kernels.quantization import STORED, dequantize_kernel, quantize_kernel
from mace_opencl.lowering.builder import Argument, Builder
from mace_opencl.lowering.checks import dtype_of
from mace_opencl.lowering.fusion import Group
from mace_opencl.lowering.registry import OPERATORS, Operator
from mace_opencl.program import Kernel


def _quantize_reason(view: GraphView, node: Node) -> str | None:
    data, target = node.inputs[0], node.outputs[0]
    assert data is not None
    assert target is not None
    if dtype_of(view, data) is not DType.FLOAT32:
        return f"'{data.name}' is {dtype_of(view, data).label}; float32 is quantized here"
    if dtype_of(view, target) not in STORED:
        return f"'{target.name}' is {dtype_of(view, target).label}; 8 and 16 bits are quantized to here"
    if node.attr("precision", 0) not in (0, DType.FLOAT32.value):
        return "another precision than float32 is asked for"
    return _scales_reason(view, node)


def _dequantize_reason(view: GraphView, node: Node) -> str | None:
    data, target = node.inputs[0], node.outputs[0]
    assert data is not None
    assert target is not None
    if dtype_of(view, data) not in (*STORED, DType.INT32):
        return f"'{data.name}' is {dtype_of(view, data).label}; 8, 16 and 32 bits are dequantized here"
    if dtype_of(view, target) is not DType.FLOAT32:
        return f"'{target.name}' is {dtype_of(view, target).label}; it is float32 here"
    return _scales_reason(view, node)


def _scales_reason(view: GraphView, node: Node) -> str | None:
    data, scale, zero = node.inputs[0], node.inputs[1], node.input(2)
    assert data is not None
    assert scale is not None
    if dtype_of(view, scale) is not DType.FLOAT32:
        return f"'{scale.name}' is {dtype_of(view, scale).label}; scales are float32 here"
    if node.attr("block_size", 0):
        return "scales for blocks of an axis have no kernel here"
    shape, count = view.shape(data), math.prod(view.shape(scale))
    if count != 1 and (not shape or count != shape[_axis(node, len(shape))]):
        return f"'{scale.name}' has {count} elements, which are neither one nor one for each entry of the axis"
    if zero is not None and math.prod(view.shape(zero)) != count:
        return f"'{zero.name}' has not as many elements as the scale"
    return None


def _axis(node: Node, rank: int) -> int:
    return int(node.attr("axis", 1)) % rank


def _quantize(builder: Builder, node: Node, group: Group | None) -> None:
    target = node.outputs[0]
    assert target is not None
    kernel = quantize_kernel(builder.dtype(target), node.input(2) is not None)
    _emit(builder, node, kernel)


def _dequantize(builder: Builder, node: Node, group: Group | None) -> None:
    data, target = node.inputs[0], node.outputs[0]
    assert data is not None
    assert target is not None
    known = [builder.constant(value) for value in node.inputs if value is not None]
    arrays = [array for array in known if array is not None]
    if len(arrays) == len(known):
        shape = builder.shape(data)
        axis = _axis(node, len(shape)) if shape else 0
        builder.know(target, Tensor.from_numpy(_reals(arrays, axis)), node)
        return
    _emit(builder, node, dequantize_kernel(builder.dtype(data), node.input(2) is not None))


def _reals(arrays: Sequence[npt.NDArray[np.generic]], axis: int) -> npt.NDArray[np.float32]:
    """What constant weights stand for; ``arrays`` are the data, the scales and perhaps the zero points."""
    data, *others = arrays
    lane = [-1 if number == axis else 1 for number in range(data.ndim)]
    scale, *zeros = (other.reshape(lane if other.size > 1 else ()) for other in others)
    whole = data.astype(np.int32)
    for zero in zeros:
        whole = whole - zero.astype(np.int32)
    reals: npt.NDArray[np.float32] = whole.astype(np.float32) * scale.astype(np.float32)
    return np.ascontiguousarray(reals.reshape(data.shape))


def _emit(builder: Builder, node: Node, kernel: Kernel) -> None:
    shape, count = builder.shape(node.inputs[0]), builder.size(node.inputs[0])
    entries = builder.size(node.inputs[1])
    inner = math.prod(shape[_axis(node, len(shape)) + 1 :]) if entries > 1 else max(count, 1)
    zero = node.input(2)
    operands = [builder.read(value) for value in (*node.inputs[:2], *([] if zero is None else [zero]))]
    arguments: list[Argument] = [*operands, builder.write(node.outputs[0]), count, inner, entries]
    builder.emit(kernel, arguments, flat_groups(count), [node])


OPERATORS.add(
    {
        "QuantizeLinear": Operator(_quantize_reason, _quantize),
        "DequantizeLinear": Operator(_dequantize_reason, _dequantize),
    }
)
