"""Inputs whose values are decided once and for all: they become constants of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Value
from mace_core.graph.copying import copy_graph
from mace_core.graph.kept import kept_state
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_core.tensor.numbers import array_of
from mace_core.tensor.types import format_shape

if TYPE_CHECKING:
    from mace_core.frontend.load import Model


def fix_inputs(model: Model, values: Mapping[str, Any]) -> Graph:
    """The model with constants in the place of some of its inputs; what depends on nothing else is computed beforehand.

    An If that such an input decides is one of its branches then, so that a model that no library could be made of for
    its sake can be compiled: a voice detector for one sampling rate.

    A symbolic size of such an input has the size of the value in all other inputs, too.

    Args:
        model: a path, bytes, an ``onnx.ModelProto`` or a ``Graph``, which is not changed.
        values: by the names of inputs, also of those that have defaults: arrays, numbers or texts, and lists of
            them; plain Python numbers become the input's type, which must hold them.

    Raises:
        ModelError: if the model cannot be read.
        UsageError: for a name that the model does not have, an input that is no tensor or keeps state from run to run,
            a value that is not of the input's type and shape, and values whose sizes contradict each other.
    """
    graph, _ = copy_graph(load_model(model))
    states = kept_state(graph)
    inputs = {value.name: value for value in graph.inputs}
    defaults = {name: graph.initializers[name] for name in graph.defaults}
    arrays: dict[str, npt.NDArray[Any]] = {}
    types: dict[str, ValueType | None] = {}
    for name, value in values.items():
        target = inputs.get(name) or defaults.get(name)
        if target is None:
            known = ", ".join(f"'{each}'" for each in (*inputs, *defaults)) or "none"
            raise UsageError(f"the model has no input '{name}' that could be fixed; its inputs: {known}")
        if name in states:
            raise UsageError(f"the input '{name}' is state that the model keeps from run to run: it cannot be fixed")
        types[name] = graph.defaults.get(name) or target.type
        arrays[name] = _checked(target, types[name], value)
    sizes = _sizes(types, arrays)
    for name, array in arrays.items():
        target = inputs.get(name) or defaults[name]
        target.constant = Tensor.from_numpy(array)
        target.type = TensorType(target.constant.dtype, target.constant.shape)
        graph.defaults.pop(name, None)
        graph.initializers[name] = target
    graph.inputs = [value for value in graph.inputs if value.name not in values]
    for value in {*graph.inputs, *graph.outputs}:
        value.type = _sized(value.type, sizes)
    graph.defaults = {name: _sized(type, sizes) or type for name, type in graph.defaults.items()}
    return graph


def _checked(target: Value, type: ValueType | None, value: Any) -> npt.NDArray[Any]:
    """``value`` as an array of the type of an input."""
    what = f"the input '{target.name}'"
    if not isinstance(type, TensorType):
        raise UsageError(f"{what} is not a tensor: it cannot be fixed")
    dtype = type.dtype
    if not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "__array__"):
        try:
            array = array_of(value, dtype)
        except ValueError as error:
            raise UsageError(f"{what} is {dtype.label}, which does not hold {value!r}") from error
    else:
        array = np.asarray(value)
        if dtype is DType.STRING and array.dtype.kind in "UT":
            array = array.astype(object)
        if array.dtype.newbyteorder("=") == dtype.numpy:
            array = array.astype(dtype.numpy, copy=False)
        is_text = dtype is not DType.STRING or all(isinstance(item, str | bytes) for item in array.flat)
        if array.dtype != dtype.numpy or not is_text:
            raise UsageError(f"{what} is {dtype.label}, and the value for it {array.dtype}")
    shape = type.shape
    if shape is not None and not (
        len(shape) == array.ndim
        and all(not isinstance(size, int) or size == given for size, given in zip(shape, array.shape, strict=True))
    ):
        raise UsageError(f"{what} has the shape {format_shape(shape)}, and the value for it {list(array.shape)}")
    return array


def _sizes(types: Mapping[str, ValueType | None], values: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
    """The sizes of symbols that the values decide.

    Raises:
        UsageError: if two values have different sizes where the model has one symbol.
    """
    found: dict[str, tuple[int, str]] = {}
    for name, array in values.items():
        type = types[name]
        assert isinstance(type, TensorType)
        for symbol, size in zip(type.shape or (), array.shape, strict=False):
            if not isinstance(symbol, str):
                continue
            known, first = found.setdefault(symbol, (size, name))
            if known != size:
                raise UsageError(
                    f"the dimension '{symbol}' is {known} in the value for the input '{first}', and {size} in that for "
                    f"'{name}'"
                )
    return {symbol: size for symbol, (size, _) in found.items()}


def _sized(type: ValueType | None, sizes: Mapping[str, int]) -> ValueType | None:
    """The type with numbers in the place of those symbols."""
    if not isinstance(type, TensorType) or type.shape is None:
        return type
    return TensorType(type.dtype, tuple(sizes.get(d, d) if isinstance(d, str) else d for d in type.shape))
