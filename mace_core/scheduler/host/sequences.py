"""Sequences and optionals, handled by the core: they are lists and references on the host, whatever the device.

This is native: no onnx.reference is involved, and no loop over elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph import Node
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.host.control_flow import ControlFlow
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import OptionalType, SequenceType

Compute = Callable[[Node, Sequence[RuntimeValue]], RuntimeValue]


class SequenceOperation(ControlFlow):
    """A node that makes, changes or takes apart a sequence or an optional."""

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        self._check(context)
        given = [self._argument(index, values) for index in range(len(self.node.inputs))]
        return self._only_used([_OPERATIONS[self.node.op_type](self.node, given)])


def is_sequence_operation(node: Node) -> bool:
    """Whether the core handles this node itself, by what it is."""
    if node.domain or node.op_type not in _OPERATIONS:
        return False
    return node.op_type != "Identity" or isinstance(getattr(node.input(0), "type", None), SequenceType | OptionalType)


def _construct(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    return [_lasting(item) for item in given]


def _empty(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    return []


def _insert(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    items = list(given[0])
    position = len(items) if len(given) < 3 or given[2] is None else _position(node, given[2], len(items), len(items))
    items.insert(position, _lasting(given[1]))
    return items


def _erase(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    items = list(given[0])
    last = np.array(-1) if len(given) < 2 or given[1] is None else given[1]
    del items[_position(node, last, len(items), len(items) - 1)]
    return items


def _at(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    items = given[0]
    return items[_position(node, given[1], len(items), len(items) - 1)]


def _identity(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    return _lasting(given[0])


def _length(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    return np.array(len(given[0]), np.int64)


def _concat(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    axis, items = int(node.attr("axis")), given[0]
    if not items:
        raise _error(node, "the sequence is empty, so there is nothing to concatenate")
    try:
        return np.stack(items, axis) if node.attr("new_axis", 0) else np.concatenate(items, axis)
    except ValueError as error:  # numpy's words name axis and sizes
        shapes = ", ".join(str(list(np.shape(item))) for item in items[:8])
        raise _error(node, f"its elements of shapes {shapes} do not fit together along axis {axis}: {error}") from None


def _split(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    array, axis = given[0], int(node.attr("axis", 0))
    if not -array.ndim <= axis < array.ndim:
        raise _error(node, f"axis {axis} does not exist in shape {list(array.shape)}")
    size = array.shape[axis]
    split = given[1] if len(given) > 1 else None
    if split is None:
        parts = np.split(array, range(1, size), axis) if size else []
        if not node.attr("keepdims", 1):
            parts = [part.squeeze(axis) for part in parts]
        return [_lasting(part) for part in parts]
    if split.ndim == 0:
        length = int(split)
        if length < 1:
            raise _error(node, f"it is to split into parts of {length}")
        return [_lasting(part) for part in np.split(array, range(length, size, length), axis)] if size else []
    lengths = [int(length) for length in split]
    if sum(lengths) != size or min(lengths, default=0) < 0:
        raise _error(node, f"the parts {lengths} do not make up the size {size} of axis {axis}")
    return [_lasting(part) for part in np.split(array, np.cumsum(lengths[:-1]), axis)] if lengths else []


def _optional(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    return _lasting(given[0]) if given else None


def _has_element(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    return np.array(bool(given) and given[0] is not None)


def _get_element(node: Node, given: Sequence[RuntimeValue]) -> RuntimeValue:
    if given[0] is None:
        raise _error(node, "the optional is empty")
    return _lasting(given[0])


_OPERATIONS: dict[str, Compute] = {
    "ConcatFromSequence": _concat,
    "Identity": _identity,
    "Optional": _optional,
    "OptionalGetElement": _get_element,
    "OptionalHasElement": _has_element,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}


def _position(node: Node, given: RuntimeValue, length: int, last: int) -> int:
    """A position counted from the front; negative ones count from the end of the ``length`` elements."""
    position = int(np.asarray(given).reshape(-1)[0])
    if not -length <= position <= last:
        raise _error(node, f"position {position} is outside a sequence of {length}")
    return position + length if position < 0 else position


def _lasting(value: RuntimeValue) -> Any:
    """A value that outlives the memory it was computed in, which is used again later in the run."""
    if isinstance(value, list):
        return [_lasting(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _error(node: Node, problem: str) -> ModelError:
    return ModelError(f"node '{node.name}' ({node.qualified_op}): {problem}")
