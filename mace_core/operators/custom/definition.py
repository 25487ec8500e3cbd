"""What a custom operator is: its schema, read from the signature of a function, and how its outputs look."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args, get_origin

from mace_core.errors import UsageError
from mace_core.graph import Attribute, AttributeKind, Node
from mace_core.tensor import MapType, OptionalType, SequenceType, TensorType, ValueType

ShapeOf: TypeAlias = Callable[..., "ValueType | Sequence[ValueType]"]
"""Called like the operator, with a `TensorType` of concrete shape in the place of each input (None for one left out);
returns the type of the output, or one per output."""

_KINDS: dict[Any, AttributeKind] = {
    float: AttributeKind.FLOAT,
    int: AttributeKind.INT,
    bool: AttributeKind.INT,
    str: AttributeKind.STRING,
}
_SEQUENCE_KINDS: dict[Any, AttributeKind] = {
    float: AttributeKind.FLOATS,
    int: AttributeKind.INTS,
    str: AttributeKind.STRINGS,
}
_WIDER = {AttributeKind.FLOAT: AttributeKind.INT, AttributeKind.FLOATS: AttributeKind.INTS}
"""Kinds taken where another is asked for: a whole number is a float too."""

REQUIRED = inspect.Parameter.empty
"""The default of an attribute that a node must give."""


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """An attribute of a custom operator; ``default`` is `REQUIRED` where a node must give it."""

    name: str
    kind: AttributeKind
    default: Any

    def read(self, attribute: Attribute | None) -> Any:
        """The value for the function.

        Raises:
            ValueError: if the attribute is missing or of another kind.
        """
        if attribute is None:
            if self.default is REQUIRED:
                raise ValueError(f"it lacks the attribute '{self.name}'")
            return self.default
        if attribute.kind is self.kind:
            return attribute.value
        if attribute.kind is _WIDER.get(self.kind):
            is_one = self.kind is AttributeKind.FLOAT
            return float(attribute.value) if is_one else tuple(float(item) for item in attribute.value)
        raise ValueError(f"its attribute '{self.name}' is {attribute.kind.name}; the operator takes {self.kind.name}")


@dataclass(frozen=True, slots=True)
class CustomOp:
    """A registered operator.

    Attributes:
        domain, op_type: under which nodes name it.
        function: computes it, see `mace_core.custom_ops.custom_op`.
        inputs: parameter names in order.
        required: so many of them, the first ones, must be given.
        variadic: any number of inputs may follow.
        outputs: names, in order.
        attributes: by name.
        shape: types of the outputs without computing them; None: known only when the node has run.
        is_compiled: the function is compiled by numba and is given its outputs to fill.
    """

    domain: str
    op_type: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    required: int
    variadic: bool
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeSpec]
    shape: ShapeOf | None = None
    is_compiled: bool = False
    origin: str = field(default="", compare=False)

    @property
    def qualified_name(self) -> str:
        """``domain.op_type``, as messages show it."""
        return f"{self.domain}.{self.op_type}"

    def check(self, node: Node) -> str:
        """Why ``node`` does not fit the operator; "" where it does."""
        given = len(node.inputs)
        if given > len(self.inputs) and not self.variadic:
            return f"it has {given} inputs; the operator takes at most {len(self.inputs)}"
        for position, name in enumerate(self.inputs[: self.required]):
            if position >= given or node.inputs[position] is None:
                return f"it lacks the input '{name}'"
        if len(node.outputs) > len(self.outputs):
            return f"it has {len(node.outputs)} outputs; the operator gives {len(self.outputs)}"
        for name in node.attributes:
            if name not in self.attributes:
                known = ", ".join(self.attributes) or "none"
                return f"it has an attribute '{name}' that the operator does not know (it knows: {known})"
        try:
            self.attribute_values(node)
        except ValueError as error:
            return str(error)
        return ""

    def attribute_values(self, node: Node) -> dict[str, Any]:
        """The attributes by name, defaults filled in.

        Raises:
            ValueError: if one is missing or of another kind.
        """
        return {name: spec.read(node.attributes.get(name)) for name, spec in self.attributes.items()}

    def output_types(self, node: Node, inputs: Sequence[ValueType | None]) -> list[ValueType] | None:
        """One type per output the operator has, or None where only the run tells.

        Raises:
            ValueError: if the shape function returns something else; whatever it raises itself.
        """
        if self.shape is None:
            return None
        found = self.shape(*self.padded(inputs), **self.attribute_values(node))
        types = [found] if isinstance(found, _TYPES) else list(found)
        if len(types) != len(self.outputs) or not all(isinstance(item, _TYPES) for item in types):
            raise ValueError(
                f"the shape function of {self.qualified_name} must return {len(self.outputs)} type(s) "
                f"(mace_core.tensor.TensorType), not {found!r}"
            )
        return types

    def padded(self, inputs: Sequence[Any]) -> list[Any]:
        """Inputs as the function takes them: None for what is left out at the end."""
        return [*inputs, *[None] * (len(self.inputs) - len(inputs))]


_TYPES = (TensorType, SequenceType, OptionalType, MapType)


def like_first_input(*inputs: ValueType | None, **attributes: object) -> ValueType:
    """A shape function: the one output has the shape and element type of the first input.

    Raises:
        ValueError: if there is no first input.
    """
    if not inputs or inputs[0] is None:
        raise ValueError("the first input is left out")
    return inputs[0]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function's parameters say of the operator it computes; as in `CustomOp`."""

    inputs: tuple[str, ...]
    required: int
    variadic: bool
    attributes: Mapping[str, AttributeSpec]


def read_signature(function: Callable[..., Any], outputs: Sequence[str], *, is_compiled: bool) -> Signature:
    """Inputs and attributes from the signature of a function.

    Positional parameters are inputs (with the default None: optional), ``*name`` any number more, keyword-only ones
    attributes.  Where the function fills its outputs, parameters named in ``outputs`` follow the inputs, and those
    after them are attributes (numba knows no keyword-only parameters).

    Raises:
        UsageError: if the signature is of another form.
    """
    what = f"the function '{getattr(function, '__qualname__', function)}' of a custom operator"
    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except (TypeError, ValueError, NameError) as error:
        raise UsageError(f"{what} has a signature that cannot be read: {error}") from error
    inputs: list[inspect.Parameter] = []
    attributes: dict[str, AttributeSpec] = {}
    variadic = False
    found_outputs: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            raise UsageError(f"{what} takes **{parameter.name}; name each attribute")
        if is_compiled and parameter.name in outputs:
            found_outputs.append(parameter.name)
        elif parameter.kind is parameter.KEYWORD_ONLY or found_outputs:
            attributes[parameter.name] = _attribute(parameter, what)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            variadic = True
        else:
            inputs.append(parameter)
    if is_compiled and (found_outputs != list(outputs) or variadic or any(p.default is not REQUIRED for p in inputs)):
        raise UsageError(
            f"{what} is to be compiled, so it takes its inputs (all required), then its outputs "
            f"({', '.join(outputs)}) to fill, then its attributes"
        )
    required = 0
    for parameter in inputs:
        if parameter.default is REQUIRED:
            required += 1
        elif parameter.default is not None:
            raise UsageError(f"{what}: the input '{parameter.name}' can only have the default None (left out)")
    return Signature(tuple(p.name for p in inputs), required, variadic, attributes)


def _attribute(parameter: inspect.Parameter, what: str) -> AttributeSpec:
    kind = _kind_of(parameter.annotation)
    if kind is None and parameter.annotation is REQUIRED and parameter.default is not REQUIRED:
        kind = _KINDS.get(type(parameter.default))
    if kind is None:
        raise UsageError(
            f"{what}: say of what type the attribute '{parameter.name}' is: "
            "float, int, bool, str, or tuple[float, ...], tuple[int, ...], tuple[str, ...]"
        )
    return AttributeSpec(parameter.name, kind, parameter.default)


def _kind_of(annotation: Any) -> AttributeKind | None:
    if get_origin(annotation) in (tuple, list, Sequence):
        items = [item for item in get_args(annotation) if item is not Ellipsis]
        return _SEQUENCE_KINDS.get(items[0]) if len(items) == 1 else None
    return _KINDS.get(annotation) if isinstance(annotation, type) else None
