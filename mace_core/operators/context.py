"""What a shape function sees of its node, and how it says that it cannot answer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from mace_core.graph.graph import Node, Value
from mace_core.symbolic import is_same, is_symbolic
from mace_core.tensor import DType, TensorType, ValueType
from mace_core.tensor.symbolic import elements_of

if TYPE_CHECKING:
    from mace_core.operators.resolver import Resolver

Array = npt.NDArray[Any]
Ints = tuple[int, ...]

CONTENT_LIMIT = 1024
"""Elements up to which the content of a value is evaluated; shapes, axes and sizes are far smaller."""


class ShapeMismatchError(Exception):
    """The node's inputs cannot be: the message says what was expected.  The resolver adds model, node and shapes."""


class UnresolvedShapeError(Exception):
    """The output shapes cannot be known now.

    Attributes:
        indices: inputs whose content would decide them; empty where only running the node tells.
        types: what is known of the outputs (element types), where the function can say.
    """

    def __init__(self, *indices: int, types: Sequence[ValueType | None] | None = None) -> None:
        super().__init__("the output shapes depend on values that are not known yet")
        self.indices = indices
        self.types = types


class NodeContext:
    """One node with the concrete types of its inputs and whatever content of them is known."""

    __slots__ = ("_contents", "_types", "node", "opset", "resolver")

    def __init__(
        self,
        node: Node,
        opset: int,
        types: Mapping[Value, ValueType],
        contents: MutableMapping[Value, Array],
        resolver: Resolver,
    ) -> None:
        """``opset`` is the version of the node's own domain; all inputs of the node have a type in ``types``."""
        self.node = node
        self.opset = opset
        self.resolver = resolver
        self._types = types
        self._contents = contents

    @property
    def input_count(self) -> int:
        """The number of inputs, omitted ones included."""
        return len(self.node.inputs)

    @property
    def output_count(self) -> int:
        """The number of outputs, omitted ones included."""
        return len(self.node.outputs)

    def has(self, index: int) -> bool:
        """Whether input ``index`` is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def type(self, index: int) -> ValueType:
        """The type of an input.

        Raises:
            ShapeMismatchError: if the input is left out.
        """
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            raise ShapeMismatchError(f"input {index} is required")
        return self._types[value]

    def tensor(self, index: int) -> TensorType:
        """The type of an input that must be a tensor."""
        found = self.type(index)
        if not isinstance(found, TensorType):
            raise ShapeMismatchError(f"input {index} must be a tensor, not {found}")
        return found

    def shape(self, index: int) -> Ints:
        """The concrete shape of a tensor input."""
        return self.tensor(index).shape  # type: ignore[return-value]  # only concrete inputs reach a shape function

    def dtype(self, index: int) -> DType:
        """The element type of a tensor input."""
        return self.tensor(index).dtype

    def require_one_type(self, groups: Sequence[Sequence[int]]) -> None:
        """Refuse tensors of different element types within a group of inputs; an empty group stands for all.

        Asked of most nodes for every new shape, so written for speed.

        Raises:
            ShapeMismatchError: naming two inputs and their types.
        """
        inputs, types = self.node.inputs, self._types
        for group in groups:
            first, wanted = 0, None
            for index in group or range(len(inputs)):
                value = inputs[index] if index < len(inputs) else None
                found = None if value is None else types[value]
                if not isinstance(found, TensorType) or found.dtype is wanted:
                    continue
                if wanted is not None:
                    raise ShapeMismatchError(
                        f"inputs {first} and {index} must have one element type, "
                        f"not {wanted.label} and {found.dtype.label}"
                    )
                first, wanted = index, found.dtype

    def content(self, index: int) -> Array | None:
        """The content of an input if it is known, else None."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            return None
        found = self._contents.get(value)
        if found is None and value.constant is not None and value.constant.dtype is not DType.STRING:
            found = self._contents[value] = elements_of(value.constant)
        return found

    def array(self, index: int) -> Array:
        """The content of an input that decides the output shape.

        Raises:
            UnresolvedShapeError: if it is not known yet.
        """
        found = self.content(index)
        if found is None:
            self.type(index)  # a missing input is a mismatch, not an unknown
            raise UnresolvedShapeError(index)
        return found

    def ints(self, index: int) -> Ints:
        """The content of an integer input, flattened."""
        return tuple(self.array(index).reshape(-1).tolist())

    def require_contents(self, *indices: int) -> None:
        """Check that the contents of all these inputs (where given) are known.

        Raises:
            UnresolvedShapeError: naming every one that is not.
        """
        missing = tuple(i for i in indices if self.has(i) and self.content(i) is None)
        if missing:
            raise UnresolvedShapeError(*missing)

    def attr(self, name: str, default: Any = None) -> Any:
        """The plain value of an attribute, or ``default``."""
        found = self.node.attributes.get(name)
        return default if found is None else found.value


class NodeShapes:
    """Concrete shapes of a node's inputs and outputs, as far as they are known: what an estimate of work sees."""

    __slots__ = ("_type_of", "node")

    def __init__(self, node: Node, type_of: Callable[[Value], ValueType | None]) -> None:
        self.node = node
        self._type_of = type_of

    def input(self, index: int) -> Ints | None:
        """The shape of an input; None where it is left out or not known."""
        return self._shape(self.node.input(index))

    def output(self, index: int = 0) -> Ints | None:
        """The shape of an output; None where it is left out or not known."""
        return self._shape(self.node.output(index))

    def _shape(self, value: Value | None) -> Ints | None:
        found = self._type_of(value) if value is not None else None
        return found.concrete_shape if isinstance(found, TensorType) and found.is_concrete else None


def normalize_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front, a number.

    Raises:
        ShapeMismatchError: if it lies outside ``rank`` dimensions.
    """
    axis = operator.index(axis)
    if not -rank <= axis < rank:
        raise ShapeMismatchError(f"axis {axis} does not exist in {rank} dimension{'' if rank == 1 else 's'}")
    return axis + rank if axis < 0 else axis


def dtype_of_code(code: int) -> DType:
    """The element type that an attribute names by its number.

    Raises:
        ShapeMismatchError: if there is none of that number.
    """
    try:
        return DType(code)
    except ValueError:
        raise ShapeMismatchError(f"there is no element type of number {code}") from None


def same_shape(first: Ints, second: Ints) -> bool:
    """Whether two shapes are equal; those of different rank are not looked at size by size."""
    return len(first) == len(second) and first == second


def broadcast(*shapes: Ints) -> Ints:
    """The common shape under numpy's rules.

    Raises:
        ShapeMismatchError: if the shapes do not broadcast.
    """
    result = shapes[0]
    for shape in shapes[1:]:
        if not shape or (len(shape) == len(result) and all(map(is_same, shape, result))):
            continue
        result = _broadcast_pair(result, shape)
    return result


def _broadcast_pair(first: Ints, second: Ints) -> Ints:
    if len(first) < len(second):
        first, second = second, first
    lead = len(first) - len(second)
    dims = list(first)
    for i, other in enumerate(second, lead):
        own = dims[i]
        if _is_one(other):
            continue
        if _is_one(own):  # asked before sizes are compared: whether an open one is 1 does not matter
            dims[i] = other
            continue
        if own == other or other == 1:
            continue
        if own != 1:
            raise ShapeMismatchError(f"shapes {list(first)} and {list(second)} do not broadcast: {own} against {other}")
        dims[i] = other
    return tuple(dims)


def _is_one(size: int) -> bool:
    return not is_symbolic(size) and size == 1


def chosen_dtype(ctx: NodeContext) -> DType:
    """The ``dtype`` attribute, else the element type of input 0, else float32."""
    chosen = ctx.attr("dtype")
    if chosen:
        return dtype_of_code(chosen)
    return ctx.dtype(0) if ctx.has(0) else DType.FLOAT32


def same_as_first(ctx: NodeContext) -> Sequence[ValueType]:
    """A shape function: the output has the type of input 0."""
    return [ctx.type(0)]
