"""Checks what a run is fed against the model's inputs, and turns it into arrays.

Strict on names, element types and shapes; lenient on memory layout and byte order.  Plain Python numbers have no
element type of their own: they are taken where the value fits the input's type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, InputTypeError
from mace_core.graph import Value
from mace_core.scheduler.running.patterns import Pattern
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType, OptionalType, SequenceType, TensorType, ValueType
from mace_core.tensor.foreign import DmaBuf, ForeignArray, opaque
from mace_core.tensor.types import Shape, format_shape


def collect_feeds(inputs: Sequence[Value], feeds: Mapping[str, Any], model: str) -> list[RuntimeValue]:
    """The values of all inputs in order.

    Raises:
        InputError: naming everything that does not fit, at once; an `InputTypeError` if some type does not.
    """
    if not isinstance(feeds, Mapping):
        raise InputTypeError(f"{model}: feeds are a mapping from input name to value, not {type(feeds).__name__}")
    faults = _name_faults(inputs, feeds)
    values: list[RuntimeValue] = []
    raised = InputError
    for value in inputs:
        if value.name not in feeds:
            continue
        try:
            values.append(convert_feed(feeds[value.name], value.type))
        except (TypeError, ValueError) as error:
            faults.append(f"input '{value.name}' {error}")
            raised = InputTypeError
    if not faults:
        faults = shape_faults(inputs, [v.shape if isinstance(v, np.ndarray) else None for v in values])
    if faults:
        raise raised(f"{model}: " + "; ".join(faults))
    return values


def convert_feed(given: Any, type: ValueType | None) -> RuntimeValue:
    """One fed value in the form that runs.

    Raises:
        TypeError: in the words that follow "input 'x' …".
    """
    match type:
        case OptionalType():
            return None if given is None else convert_feed(given, type.element)
        case SequenceType():
            if not isinstance(given, list | tuple):
                raise TypeError(f"is a sequence: expected a list of {type.element}, got {_describe(given)}")
            return [convert_feed(item, type.element) for item in given]
        case TensorType():
            return _tensor_feed(given, type)
        case _:
            return given


def _tensor_feed(given: Any, type: TensorType) -> npt.NDArray[Any]:
    if isinstance(given, DmaBuf):
        return _matching(given.array(), type)
    if isinstance(given, np.ndarray | np.generic):
        # the caller's object stays the caller's: another thread may give it another shape while the run looks at it
        array = np.asarray(given).view()
    elif hasattr(given, "__dlpack__"):
        if (found := _on_device(given)) is not None:
            return _matching(found, type)
        array = _from_dlpack(given)
    else:
        return _from_python(given, type)
    if type.dtype is DType.STRING:
        if array.dtype.kind not in "OUST":
            raise TypeError(f"has element type {array.dtype}; expected string")
        return array if array.dtype == object else array.astype(object)
    expected = type.dtype.numpy
    if array.dtype == expected:
        return array
    if array.dtype.newbyteorder("=") == expected:
        return array.astype(expected)
    raise TypeError(
        f"has element type {array.dtype}; expected {type.dtype.label} (convert it, for instance with .astype)"
    )


def _matching(array: ForeignArray, type: TensorType) -> ForeignArray:
    """Foreign memory as it is: it cannot be converted where it lies."""
    if type.dtype is DType.STRING or array.dtype != type.dtype.numpy:
        raise TypeError(f"has element type {array.dtype}; expected {type.dtype.label}")
    return array


def _on_device(given: Any) -> ForeignArray | None:
    """A DLPack tensor in the memory of a device, for devices that can import it; None for one that is the host's."""
    from mace_core.tensor.dlpack import describe, is_on_a_device

    if not is_on_a_device(given):
        return None
    try:
        return opaque(given, *describe(given))
    except TypeError as error:
        raise TypeError(f"is {error}") from error


def _from_dlpack(given: Any) -> npt.NDArray[Any]:
    from mace_core.tensor.dlpack import from_dlpack

    try:
        return from_dlpack(given)
    except TypeError as error:
        raise TypeError(f"is {error}") from error


def _from_python(given: Any, type: TensorType) -> npt.NDArray[Any]:
    """Numbers, strings and nested lists of them."""
    try:
        array = np.asarray(given)
    except MemoryError:
        raise
    except Exception as error:  # whatever the object's own conversion raises
        raise TypeError(f"is not an array: {error}") from error
    expected = type.dtype
    if expected is DType.STRING and array.dtype.kind in "US":
        return array.astype(object)
    kinds = "b" if expected is DType.BOOL else "iu" if expected.is_integer else "iuf" if expected.is_float else "iufc"
    if array.size == 0 and array.dtype == np.float64:  # an empty list
        return array.astype(expected.numpy)
    if expected is DType.STRING or array.dtype.kind not in kinds:
        raise TypeError(f"is {_describe(given)}; expected {expected.label}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(expected.numpy)
    if array.dtype.kind in "iu" and not np.array_equal(cast.astype(array.dtype), array):
        raise TypeError(f"has values that {expected.label} cannot hold")
    return cast


def _name_faults(inputs: Sequence[Value], feeds: Mapping[str, Any]) -> list[str]:
    names = [value.name for value in inputs]
    faults = [f"input '{value.name}' ({value.type}) is missing" for value in inputs if value.name not in feeds]
    for name in feeds:
        if name not in names:
            import difflib

            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the inputs are {', '.join(map(repr, names)) or 'none'}"
            faults.append(f"there is no input '{name}' ({hint})")
    return faults


def shape_faults(inputs: Sequence[Value], shapes: Sequence[tuple[int, ...] | None]) -> list[str]:
    """Ranks and fixed dimensions, and symbolic dimensions that two places give different sizes.

    ``shapes``: of what is fed; None for what is no tensor.
    """
    faults: list[str] = []
    symbols: dict[str, tuple[int, Value, int]] = {}
    for value, given in zip(inputs, shapes, strict=True):
        declared = value.type.shape if isinstance(value.type, TensorType) else None
        if declared is None or given is None:
            continue
        if len(declared) != len(given):
            faults.append(f"input '{value.name}' has the wrong rank: {_mismatch(declared, given)}")
            continue
        for axis, (dim, size) in enumerate(zip(declared, given, strict=True)):
            if isinstance(dim, int) and dim != size:
                faults.append(f"input '{value.name}' has the wrong size in axis {axis}: {_mismatch(declared, given)}")
            elif isinstance(dim, str):
                first, other, place = symbols.setdefault(dim, (size, value, axis))
                if first != size:
                    where = f"axis {place} of '{other.name}' but {size} in axis {axis} of '{value.name}'"
                    faults.append(f"dimension '{dim}' is {first} in {where}")
    return faults


def plain_inputs(inputs: Sequence[Value]) -> list[tuple[Value, np.dtype[Any]]] | None:
    """Inputs and their dtypes, if each is a tensor of numbers of at least a byte."""
    found = []
    for value in inputs:
        if not isinstance(value.type, TensorType) or value.type.dtype is DType.STRING or value.type.dtype.is_packed:
            return None
        found.append((value, value.type.dtype.numpy))
    return found


class ShapeCheck:
    """Whether shapes have no `shape_faults`, for inputs that all are tensors: quickly, and without saying which."""

    __slots__ = ("_pattern", "_ranks")

    def __init__(self, inputs: Sequence[Value]) -> None:
        """``inputs``: tensors whose rank is declared, all of them."""
        self._ranks: list[int] = []
        fixed: list[tuple[int, int]] = []
        equal: list[tuple[int, int]] = []
        named: dict[str, int] = {}
        position = 0
        for value in inputs:
            declared = value.type.shape if isinstance(value.type, TensorType) else None
            assert declared is not None
            self._ranks.append(len(declared))
            for at, dim in enumerate(declared, position):
                if isinstance(dim, int):
                    fixed.append((at, dim))
                elif dim is not None:
                    first = named.setdefault(dim, at)
                    if first != at:
                        equal.append((first, at))
            position += len(declared)
        self._pattern = Pattern(fixed, equal)

    @staticmethod
    def of(inputs: Sequence[Value]) -> ShapeCheck | None:
        """The check for these inputs; None where there is none."""
        types = [value.type for value in inputs]
        is_possible = all(isinstance(type, TensorType) and type.shape is not None for type in types)
        return ShapeCheck(inputs) if is_possible else None

    def holds(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        if list(map(len, shapes)) != self._ranks:
            return False
        return self._pattern.holds([size for shape in shapes for size in shape])


def _mismatch(declared: Shape, given: tuple[int, ...]) -> str:
    return f"expected {format_shape(declared)}, got {list(given)}"


def _describe(given: Any) -> str:
    if given is None:
        return "None"
    if isinstance(given, np.ndarray):
        return f"an array of {given.dtype}"
    if isinstance(given, list | tuple):
        return f"a {type(given).__name__}"
    return f"a {type(given).__name__} ({str(given)[:40]})"
