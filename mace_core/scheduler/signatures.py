"""Input types of one signature: given by the model, by the user's shapes, or assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mace_core.errors import InputError
from mace_core.graph import Value
from mace_core.scheduler.arguments import check_shapes, shape_of
from mace_core.tensor import TensorType, ValueType
from mace_core.tensor.types import format_shape

Types = Mapping[Value, ValueType]


def static_types(inputs: Sequence[Value]) -> Types | None:
    """The declared types, if they leave nothing free."""
    types: dict[Value, ValueType] = {}
    for value in inputs:
        if value.type is None or (isinstance(value.type, TensorType) and not value.type.is_concrete):
            return None
        types[value] = value.type
    return types


def types_from_shapes(inputs: Sequence[Value], shapes: Mapping[str, Sequence[int]], model: str) -> Types:
    """Types with the shapes given by name; inputs whose shape is fixed may be left out.

    Raises:
        InputError: for an unknown name, a missing shape, or a shape that the model does not allow.
    """
    check_shapes(shapes)
    faults = [f"there is no input '{name}'" for name in shapes if name not in {value.name for value in inputs}]
    types: dict[Value, ValueType] = {}
    for value in inputs:
        declared = value.type
        if not isinstance(declared, TensorType):
            if declared is not None:
                types[value] = declared
            continue
        given = shapes.get(value.name)
        if given is None:
            if not declared.is_concrete:
                faults.append(f"input '{value.name}' ({declared}) needs a shape")
            types[value] = declared
            continue
        shape = shape_of(value.name, given)
        if declared.shape is not None and (
            len(shape) != len(declared.shape)
            or any(isinstance(d, int) and d != size for d, size in zip(declared.shape, shape, strict=True))
        ):
            faults.append(f"input '{value.name}' is {format_shape(declared.shape)}; {list(shape)} does not fit")
        types[value] = TensorType(declared.dtype, shape)
    if faults:
        raise InputError(f"{model}: " + "; ".join(faults))
    return types


def assumed_types(inputs: Sequence[Value]) -> Iterator[tuple[Types, str]]:
    """Types with sizes assumed for what is free, likely ones first, and a note that says so."""
    for size in (1, 64, 224, 32, 320):
        types: dict[Value, ValueType] = {}
        sizes: dict[str, int] = {}
        for value in inputs:
            declared = value.type
            if isinstance(declared, TensorType):
                shape = []
                for axis, dim in enumerate(declared.shape or ()):
                    if isinstance(dim, int):
                        shape.append(dim)
                        continue
                    key = dim if dim is not None else f"{value.name}[{axis}]"
                    shape.append(sizes.setdefault(key, 1 if axis == 0 else size))
                types[value] = TensorType(declared.dtype, tuple(shape))
            elif declared is not None:
                types[value] = declared
        yield types, f" (assumed: {', '.join(f'{name}={dim}' for name, dim in sizes.items())})"


def signature_text(inputs: Sequence[Value], types: Types) -> str:
    """``x: float32[1, 3, 224, 224], …``."""
    return ", ".join(f"{value.name}: {types.get(value, value.type)}" for value in inputs)
