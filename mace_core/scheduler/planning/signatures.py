"""Input types of one signature: given by the model, or by the user's shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mace_core.errors import InputError, ModelError
from mace_core.graph import Graph, Value
from mace_core.graph.signature import Resolution
from mace_core.scheduler.planning.arguments import check_shapes, shape_of
from mace_core.tensor import Tensor, TensorType, ValueType
from mace_core.tensor.types import format_shape

Types = Mapping[Value, ValueType]

LONGEST_CONTENT = 64
"""Elements up to which the content of an input is looked at number by number."""

MOST_STRUCTURES = 16
"""Plans of symbolic sizes of signatures that differ in numbers alone; what none of them admits is planned as it is."""


def static_types(inputs: Sequence[Value]) -> Types | None:
    """The declared types, if they leave nothing free."""
    types: dict[Value, ValueType] = {}
    for value in inputs:
        if value.type is None or (isinstance(value.type, TensorType) and not value.type.is_concrete):
            return None
        types[value] = value.type
    return types


def given_shapes(
    inputs: Sequence[Value], shapes: Mapping[str, Sequence[int]], model: str
) -> dict[str, tuple[int, ...]]:
    """The shapes given by name, checked.

    Raises:
        InputError: for an unknown name, or a shape that the model does not allow.
    """
    check_shapes(shapes)
    found, faults = _checked_shapes(inputs, shapes)
    if faults:
        raise InputError(f"{model}: " + "; ".join(faults))
    return found


def types_from_shapes(inputs: Sequence[Value], shapes: Mapping[str, Sequence[int]], model: str) -> Types:
    """Types with the shapes given by name; inputs whose shape is fixed may be left out.

    Raises:
        InputError: for an unknown name, a missing shape, or a shape that the model does not allow.
    """
    check_shapes(shapes)
    found, faults = _checked_shapes(inputs, shapes)
    types: dict[Value, ValueType] = {}
    for value in inputs:
        declared = value.type
        if not isinstance(declared, TensorType):
            if declared is not None:
                types[value] = declared
        elif value.name in found:
            types[value] = TensorType(declared.dtype, found[value.name])
        else:
            if not declared.is_concrete and value.name not in shapes:
                faults.append(f"input '{value.name}' ({declared}) needs a shape")
            types[value] = declared
    if faults:
        raise InputError(f"{model}: " + "; ".join(faults))
    return types


def _checked_shapes(
    inputs: Sequence[Value], shapes: Mapping[str, Sequence[int]]
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The shapes that fit, and what is wrong with the others."""
    by_name = {value.name: value for value in inputs}
    found: dict[str, tuple[int, ...]] = {}
    faults: list[str] = []
    for name, given in shapes.items():
        if name not in by_name:
            faults.append(f"there is no input '{name}'")
            continue
        declared = by_name[name].type
        if not isinstance(declared, TensorType):
            continue
        shape = shape_of(name, given)
        if declared.shape is not None and (
            len(shape) != len(declared.shape)
            or any(isinstance(d, int) and d != size for d, size in zip(declared.shape, shape, strict=True))
        ):
            faults.append(f"input '{name}' is {format_shape(declared.shape)}; {list(shape)} does not fit")
        else:
            found[name] = shape
    return found, faults


def signature_text(inputs: Sequence[Value], types: Types) -> str:
    """``x: float32[1, 3, 224, 224], …``."""
    return ", ".join(f"{value.name}: {types.get(value, value.type)}" for value in inputs)


def is_numbers(tensor: Tensor) -> bool:
    """Whether a content is looked at number by number."""
    return tensor.dtype.numpy in (np.int64, np.int32) and tensor.size <= LONGEST_CONTENT


def check_declared_outputs(graph: Graph, resolution: Resolution, label: str) -> None:
    """Refuse a model that declares another element type for an output than its nodes compute.

    Raises:
        ModelError: naming the output and the node.
    """
    for value in graph.outputs:
        found, declared = resolution.types.get(value), value.type
        if not isinstance(found, TensorType) or not isinstance(declared, TensorType):
            continue
        if found.dtype is not declared.dtype:
            producer = value.producer
            node = f"node '{producer.name}' ({producer.op_type})" if producer is not None else "the model"
            raise ModelError(
                f"{label}: output '{value.name}' is declared as {declared.dtype.label}, but {node} computes "
                f"{found.dtype.label}"
            )
