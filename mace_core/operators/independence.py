"""Which axes of a node are independent: position by position, what it computes depends on the same position alone.

Along such an axis more positions can be appended without a change to what is computed for those that were there.
So a graph may be run for a larger size than is wanted, and the results cut.

Rules are registered with `mace_core.operators.registry.independent_axes`.  An axis that no rule names, and every axis
of an operator without a rule, counts as not independent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mace_core.graph import Node, Value
from mace_core.operators.context import Array, Ints, NodeContext
from mace_core.tensor import TensorType, ValueType

Place: TypeAlias = "tuple[int, int]"
"""(input or output, axis), or (input, element) of a content."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Axes of a node that go together, position by position.

    Position ``i`` along these axes of the outputs depends on position ``i`` along these axes of the inputs, and on all
    of what the inputs have along other axes; in the same way for every ``i``, so that equal positions give equal ones.
    That holds whatever the size is, and whatever sizes other lanes have.

    Attributes:
        inputs, outputs: the axes; one of every output that the node has.
        stated: elements of integer inputs that state the size, and are to be changed with it.
    """

    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    stated: tuple[Place, ...] = ()


class AxesContext(NodeContext):
    """A node whose inputs and outputs have concrete types, as a rule sees it."""

    __slots__ = ()

    def __init__(
        self, node: Node, opset: int, types: Mapping[Value, ValueType], contents: MutableMapping[Value, Array]
    ) -> None:
        super().__init__(node, opset, types, contents, None)  # type: ignore[arg-type]  # only bodies need a resolver

    @property
    def outputs(self) -> tuple[int, ...]:
        """The outputs that the node has."""
        return tuple(index for index, value in enumerate(self.node.outputs) if value is not None)

    def result(self, index: int = 0) -> Ints:
        """The shape of an output."""
        value = self.node.outputs[index]
        found = None if value is None else self._types[value]
        assert isinstance(found, TensorType), "only nodes of concrete tensors reach a rule"
        return found.concrete_shape


# --- what many rules share --------------------------------------------------------------------------------------------


def same_axes(ctx: AxesContext, mixed: Collection[int] = ()) -> Iterator[Lane]:
    """Lanes of an operator whose outputs have the axes of input 0, for all but those that it mixes."""
    for axis in range(len(ctx.shape(0))):
        if axis not in mixed:
            yield Lane(((0, axis),), tuple((output, axis) for output in ctx.outputs))


def broadcast_axes(ctx: AxesContext, inputs: Sequence[int] | None = None) -> Iterator[Lane]:
    """Lanes of an operator on inputs that are broadcast to output 0 (numpy's rules); all inputs unless given."""
    shape = ctx.result()
    chosen = [i for i in (range(ctx.input_count) if inputs is None else inputs) if ctx.has(i)]
    for axis, size in enumerate(shape):
        places = []
        for index in chosen:
            own = axis - len(shape) + len(ctx.shape(index))
            if own >= 0 and ctx.shape(index)[own] == size:
                places.append((index, own))
        yield Lane(tuple(places), ((0, axis),))


def is_single(ctx: AxesContext, index: int) -> bool:
    """Whether an input is left out or holds one element."""
    return not ctx.has(index) or all(size == 1 for size in ctx.shape(index))
