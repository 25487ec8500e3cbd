"""Which axes of a subgraph's values go together, and whether more positions along them would change the others.

Every node says which of its axes are independent (`mace_core.operators.independence`).  Axes that a node ties are of
one class; a class may be made longer if every node treats each of its axes so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from mace_core.graph import Node, Value
from mace_core.operators.context import Array, ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.independence import AxesContext, Lane
from mace_core.operators.registry import find_independent_axes
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import elements_of

Axis: TypeAlias = "tuple[Value, int]"
"""An axis of a value, counted from the front."""


class Statement(NamedTuple):
    """An element of a content by which a node is told a size."""

    node: Node
    value: Value
    element: int


class AxisClasses:
    """The classes of the axes of some nodes' values."""

    def __init__(
        self,
        nodes: Sequence[Node],
        types: Mapping[Value, ValueType],
        known: Mapping[Value, Tensor],
        opset_imports: Mapping[str, int],
    ) -> None:
        self._types = types
        self._known = known
        self._opsets = opset_imports
        self._parents: dict[Axis, Axis] = {}
        self._reasons: dict[Axis, str] = {}
        self._stated: dict[Axis, list[Statement]] = {}
        for node in nodes:
            self._add(node)

    def of(self, axis: Axis) -> Axis:
        """The axis that stands for the class of ``axis``."""
        parent = self._parents.setdefault(axis, axis)
        while parent != (above := self._parents[parent]):
            self._parents[axis] = above
            axis, parent = parent, above
        return parent

    def reason(self, axis: Axis) -> str:
        """Why the class of ``axis`` cannot be made longer; "" where it can."""
        return self._reasons.get(self.of(axis), "")

    def members(self) -> dict[Axis, list[Axis]]:
        """All axes by class."""
        found: dict[Axis, list[Axis]] = {}
        for axis in list(self._parents):
            found.setdefault(self.of(axis), []).append(axis)
        return found

    def stated(self, axis: Axis) -> list[Statement]:
        """Where contents state the size of the class of ``axis``."""
        return self._stated.get(self.of(axis), [])

    def _add(self, node: Node) -> None:
        lanes = self._lanes(node)
        tied: set[Axis] = set()
        for lane in lanes:
            axes = [(value, axis) for i, axis in lane.inputs if (value := node.inputs[i]) is not None]
            axes += [(value, axis) for i, axis in lane.outputs if (value := node.outputs[i]) is not None]
            for axis in axes:
                self._join(axes[0], axis)
            for i, element in lane.stated:
                value = node.inputs[i]
                if value is not None:
                    self._stated.setdefault(self.of(axes[0]), []).append(Statement(node, value, element))
            tied.update(axes)
        reason = f"{node.qualified_op} '{node.name}' is not known to treat its positions apart"
        for operand in (*node_reads(node), *node.outputs):  # what nested graphs capture is read as well
            if operand is not None:
                self._block_all(operand, tied, reason)

    def _block_all(self, value: Value, tied: Collection[Axis], reason: str) -> None:
        """Note which axes of a value cannot be made longer; ``reason`` for those that are not ``tied``."""
        found = self._types.get(value, value.type)
        for place in range(len(self._shape(value) or ())):
            axis = (value, place)
            if axis not in tied:
                self._block(axis, reason)
            elif value.constant is not None:
                self._block(axis, f"the weight '{value.name}' has that size")
            elif value in self._known:
                self._block(axis, f"the content of '{value.name}' follows from the shapes")
            elif not _can_be_copied(found):
                self._block(axis, f"'{value.name}' ({found}) is not padded")

    def _lanes(self, node: Node) -> list[Lane]:
        return lanes_of(node, self._types, self._known, self._opsets)

    def _shape(self, value: Value) -> tuple[int, ...] | None:
        return _shape(value, self._types, self._known)

    def _join(self, first: Axis, second: Axis) -> None:
        kept, gone = self.of(first), self.of(second)
        if kept == gone:
            return
        self._parents[gone] = kept
        if gone in self._reasons:
            self._reasons.setdefault(kept, self._reasons.pop(gone))
        if gone in self._stated:
            self._stated.setdefault(kept, []).extend(self._stated.pop(gone))

    def _block(self, axis: Axis, reason: str) -> None:
        self._reasons.setdefault(self.of(axis), reason)


def lanes_of(
    node: Node, types: Mapping[Value, ValueType], known: Mapping[Value, Tensor], opset_imports: Mapping[str, int]
) -> list[Lane]:
    """The independent axes of a node; none where nothing is known of it, or of its shapes."""
    rule = find_independent_axes(node.domain, node.op_type)
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    if rule is None or any(_shape(value, types, known) is None for value in values):
        return []
    contents: dict[Value, Array] = {
        value: elements_of(known[value])
        for value in values
        if value in known and known[value].dtype is not DType.STRING
    }
    context = AxesContext(node, opset_imports.get(node.domain, 1), _types_of(values, types, known), contents)
    try:
        lanes = list(rule(context))
    except (UnresolvedShapeError, ShapeMismatchError):
        return []
    everywhere = set(context.outputs)
    return [lane for lane in lanes if lane.inputs and {output for output, _ in lane.outputs} == everywhere]


def _types_of(
    values: Sequence[Value], types: Mapping[Value, ValueType], known: Mapping[Value, Tensor]
) -> dict[Value, ValueType]:
    found: dict[Value, ValueType] = {}
    for value in values:
        content = _content(value, known)
        type = types.get(value, value.type)
        if content is not None:
            type = TensorType(content.dtype, content.shape)
        if type is not None:
            found[value] = type
    return found


def _content(value: Value, known: Mapping[Value, Tensor]) -> Tensor | None:
    return value.constant if value.constant is not None else known.get(value)


def _shape(value: Value, types: Mapping[Value, ValueType], known: Mapping[Value, Tensor]) -> tuple[int, ...] | None:
    content = _content(value, known)
    if content is not None:
        return content.shape
    found = types.get(value, value.type)
    return found.concrete_shape if isinstance(found, TensorType) and found.is_concrete else None


def _can_be_copied(type: ValueType | None) -> bool:
    """Whether positions of such a tensor can be copied one by one."""
    return isinstance(type, TensorType) and not type.dtype.is_packed and type.dtype is not DType.STRING
