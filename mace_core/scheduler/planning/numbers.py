"""A view of symbolic sizes as it is for the shapes at hand: for devices that take numbers alone."""

from __future__ import annotations

import numpy as np

from mace_core.graph import GraphView
from mace_core.symbolic import hint
from mace_core.tensor import Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor


def in_numbers(view: GraphView) -> GraphView:
    """The same nodes with the sizes, and the known contents, of the shapes at hand."""
    values = {value for node in view.nodes for value in (*node.inputs, *node.outputs) if value is not None}
    types = {value: _type(found) for value in values if (found := view.type(value)) is not None}
    known = {
        value: _content(content)
        for value in values
        if value.constant is None and (content := view.constant(value)) is not None
    }
    return view.retyped(types, known)


def _type(found: ValueType) -> ValueType:
    if not isinstance(found, TensorType) or not found.is_concrete:
        return found
    return TensorType(found.dtype, tuple(hint(size) for size in found.concrete_shape))


def _content(found: Tensor) -> Tensor:
    if not isinstance(found, SymbolicTensor):
        return found
    numbers = np.array([hint(item) for item in found.tolist()], found.dtype.numpy)
    return Tensor.from_numpy(numbers.reshape(found.shape))
