"""Weights that a model stores as quantized numbers or in 16 bits, turned into floats once instead of in every run.

Files in QDQ form have a DequantizeLinear between a constant and the convolution or product that reads it; others a
Cast, a product with the scale and a sum with the zero point; what is computed wider than a model says has a Cast there.
Lowerings pack constant weights, fold scales and biases into them and choose their kernels by them, so the constant
behind the node is what they are to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType, Tensor
from mace_core.tensor.symbolic import SymbolicTensor
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.registry import Notes, before_lowering

Array = npt.NDArray[Any]

MOST_BYTES = 1 << 30
"""Of floats that stay in memory for such weights (two to four times what is stored); the rest is made in each run."""

INTEGERS = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32})
HALVES = frozenset({DType.FLOAT16, DType.BFLOAT16})
SCALING = {"Mul": np.multiply, "Add": np.add, "Sub": np.subtract}
SHAPED = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


class WeightsView(GraphView):
    """A view in which the results of some nodes are constants, and those nodes are gone."""

    def __init__(self, view: GraphView, folded: Mapping[Value, Tensor]) -> None:
        vars(self).update(vars(view))
        self._known = {**view._known, **folded}
        self._users = None
        self.nodes = tuple(node for node in view.nodes if node.outputs[0] not in folded)


@before_lowering(turn=3)
def fold_stored_weights(view: GraphView, _settings: Settings, _notes: Notes) -> GraphView:
    """``view`` with constants for what these operators make of constants: quantizing, widening, scaling, moving."""
    folded: dict[Value, Tensor] = {}
    made: dict[tuple[object, ...], Tensor] = {}  # users of one weight, each behind a node of its own, share the floats
    room = MOST_BYTES
    for node in view.nodes:
        if node.domain or not node.outputs or node.outputs[0] is None:
            continue
        result = node.outputs[0]
        kind = view.tensor_type(result)
        sources = [folded.get(value) or view.constant(value) for value in node.inputs if value is not None]
        if (
            kind is None
            or not sources
            or any(tensor is None or isinstance(tensor, SymbolicTensor) for tensor in sources)
        ):
            continue
        if not kind.is_concrete or any(is_symbolic(size) for size in kind.concrete_shape) or kind.nbytes > room:
            continue
        attributes = sorted((name, repr(attribute.value)) for name, attribute in node.attributes.items())
        key = (node.op_type, kind, *(id(tensor) for tensor in sources), *attributes)
        if key in made:
            folded[result] = made[key]
            continue
        array = _compute(view, node, folded)
        if array is not None:
            folded[result] = made[key] = Tensor.from_numpy(array)
            room -= array.nbytes
    return WeightsView(view, folded) if folded else view


def _compute(view: GraphView, node: Node, folded: Mapping[Value, Tensor]) -> Array | None:
    """The result of a node whose inputs are all constant, None where it is none of these operators."""
    result = need(node.outputs[0])
    if node.op_type == "DequantizeLinear":
        return _dequantized(view, node, folded)
    if node.op_type == "QuantizeLinear":
        return _quantized(view, node, folded)
    if node.op_type == "Cast":
        data = _operands(view, node, folded)[0]
        if data.dtype not in HALVES | INTEGERS or _dtype(view, node) is not DType.FLOAT32:
            return None
        return data.numpy().astype(np.float32)
    if node.op_type in SCALING:
        return _scaled(view, node, folded)
    if node.op_type not in SHAPED and node.op_type != "Transpose":
        return None
    array = _operands(view, node, folded)[0].numpy()
    if node.op_type in SHAPED:
        return array.reshape(view.shape(result))
    order = node.attr("perm", None)
    return np.ascontiguousarray(array.transpose(None if order is None else [int(axis) for axis in order]))


def _scaled(view: GraphView, node: Node, folded: Mapping[Value, Tensor]) -> Array | None:
    """A product or a sum of float32, each of which is rounded as in a run."""
    first, second = (folded.get(need(value)) or view.constant(value) for value in node.inputs)
    if first is None or second is None or {first.dtype, second.dtype} != {DType.FLOAT32} or view.opset() < 7:
        return None
    found: Array = SCALING[node.op_type](first.numpy(), second.numpy())
    return found


def _dequantized(view: GraphView, node: Node, folded: Mapping[Value, Tensor]) -> Array | None:
    data, scale, zero = _operands(view, node, folded)
    if data.dtype not in INTEGERS or {scale.dtype, _dtype(view, node)} != {DType.FLOAT32}:
        return None
    array = data.numpy()
    whole = array.astype(np.int32) if zero is None else array.astype(np.int32) - _spread(node, zero, array)
    product: Array = whole.astype(np.float32) * _spread(node, scale, array)
    return product


def _quantized(view: GraphView, node: Node, folded: Mapping[Value, Tensor]) -> Array | None:
    data, scale, zero = _operands(view, node, folded)
    dtype = _dtype(view, node)
    if (
        data.dtype is not DType.FLOAT32
        or scale.dtype is not DType.FLOAT32
        or dtype is None
        or dtype not in INTEGERS - {DType.INT32}
        or int(node.attr("precision", 0)) not in (0, DType.FLOAT32.value)
    ):
        return None
    array = data.numpy()
    if not np.isfinite(array).all() or not scale.numpy().all():
        return None
    limits = np.iinfo(dtype.numpy)
    whole = np.rint(array / _spread(node, scale, array)).astype(np.float64)
    if zero is not None:
        whole = whole + _spread(node, zero, array)
    return whole.clip(limits.min, limits.max).astype(dtype.numpy)


def _operands(view: GraphView, node: Node, folded: Mapping[Value, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """The constants it reads: data, scale (the data again where there is none), and zero point."""
    found = [None if value is None else folded.get(value) or view.constant(value) for value in node.inputs]
    data, scale, zero = (*found, None, None)[:3]
    assert data is not None
    return data, scale or data, zero


def _dtype(view: GraphView, node: Node) -> DType | None:
    kind = view.tensor_type(need(node.outputs[0]))
    return None if kind is None else kind.dtype


def _spread(node: Node, given: Tensor, data: Array) -> Array:
    """Scales or zero points (int32) as they meet ``data``: one for all, per entry of an axis, or per block along it."""
    array = given.numpy()
    if array.dtype.kind != "f":
        array = array.astype(np.int32)
    block = int(node.attr("block_size", 0))
    if array.size == 1 and not block:
        return array.reshape(())
    axis = normal_axis(int(node.attr("axis", 1)), data.ndim)
    if block:
        return np.repeat(array, block, axis)[tuple(slice(size) for size in data.shape)]
    return array.reshape([-1 if i == axis else 1 for i in range(data.ndim)])
