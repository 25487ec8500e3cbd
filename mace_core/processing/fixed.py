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
from mace_core.tensor.types import format_shape

if TYPE_CHECKING:
    from mace_core.frontend.load import Model


def fix_inputs(model: Model, values: Mapping[str, Any]) -> Graph:
    """The model with constants in the place of some of its inputs; what depends on nothing else is computed beforehand.

    An If that such an input decides is one of its branches then, so that a model that no library could be made of for
    its sake can be compiled: a voice detector for one sampling rate.

    Args:
        model: a path, bytes, an ``onnx.ModelProto`` or a ``Graph``, which is not changed.
        values: by the names of inputs, also of those that have defaults: arrays, or numbers for scalars.

    Raises:
        ModelError: if the model cannot be read.
        UsageError: for a name that the model does not have, an input that is no tensor or keeps state from run to run,
            and a value that is not of the input's type and shape.
    """
    graph, _ = copy_graph(load_model(model))
    states = kept_state(graph)
    inputs = {value.name: value for value in graph.inputs}
    defaults = {name: graph.initializers[name] for name in graph.defaults}
    for name, value in values.items():
        target = inputs.get(name) or defaults.get(name)
        if target is None:
            known = ", ".join(f"'{each}'" for each in (*inputs, *defaults)) or "none"
            raise UsageError(f"the model has no input '{name}' that could be fixed; its inputs: {known}")
        if name in states:
            raise UsageError(f"the input '{name}' is state that the model keeps from run to run: it cannot be fixed")
        target.constant = Tensor.from_numpy(_checked(target, graph.defaults.get(name) or target.type, value))
        target.type = TensorType(target.constant.dtype, target.constant.shape)
        graph.defaults.pop(name, None)
        graph.initializers[name] = target
    graph.inputs = [value for value in graph.inputs if value.name not in values]
    return graph


def _checked(target: Value, type: ValueType | None, value: Any) -> npt.NDArray[Any]:
    """``value`` as an array of the type of an input."""
    what = f"the input '{target.name}'"
    if not isinstance(type, TensorType):
        raise UsageError(f"{what} is not a tensor: it cannot be fixed")
    array = np.asarray(value)
    wanted = type.dtype.numpy
    if array.dtype != wanted and not isinstance(value, np.ndarray | np.generic):
        array = _converted(what, array, type.dtype)
    if array.dtype != wanted:
        raise UsageError(f"{what} is {type.dtype.label}, and the value for it {array.dtype}")
    shape = type.shape
    if shape is not None and not (
        len(shape) == array.ndim
        and all(not isinstance(size, int) or size == given for size, given in zip(shape, array.shape, strict=True))
    ):
        raise UsageError(f"{what} has the shape {format_shape(shape)}, and the value for it {list(array.shape)}")
    return array


def _converted(what: str, array: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    """Plain Python numbers in the type of an input, which must hold them: 16000.5 is no integer, 300 no byte."""
    if dtype is DType.STRING:
        return array.astype(object)
    try:
        with np.errstate(all="ignore"):
            found = array.astype(dtype.numpy)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{what} is {dtype.label}, and the value for it {array.tolist()!r}") from error
    is_held = dtype.is_float or np.array_equal(found.astype(array.dtype), array)
    if not is_held or (dtype.is_float and array.dtype.kind not in "iufb"):
        raise UsageError(f"{what} is {dtype.label}, which does not hold {array.tolist()!r}")
    return found
