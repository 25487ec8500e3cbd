"""One input of a model that is fed by an output of the run before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, InputTypeError, UsageError, UsageTypeError
from mace_core.graph import Graph, Node, Value
from mace_core.scheduler.growing import GrowingArray, Room, growing_copy
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType, TensorType
from mace_core.tensor.types import format_shape

MOST_DENSE_RUNS = 2
"""After so many runs in a row whose result did not stay in place, a state is not copied back to where it could."""


@dataclass(slots=True, eq=False)
class BoundState:
    """What an input is fed next.

    Attributes:
        source: the input.
        output: the name of the output that feeds it.
        type: of the input.
        axis: along which it grows, once that is known.
        value: what is fed next; None before the first run.
        room: the memory that ``value`` is in, where it can grow there.
        added: entries that the latest run added.
        is_written_over: the output is the input with some elements written anew.
        is_passed_on: the output is the input as it is, but for runs that begin anew.
    """

    source: Value
    output: str
    type: TensorType
    axis: int | None = None
    value: npt.NDArray[Any] | None = None
    room: Room | None = None
    added: int = 0
    is_written_over: bool = False
    is_passed_on: bool = False
    _dense_runs: int = 0

    @property
    def may_grow(self) -> bool:
        """Whether there is any use in keeping it where it can be computed in place."""
        dtype = self.type.dtype
        if self.axis is None and not self.is_written_over:
            return False
        return self._dense_runs < MOST_DENSE_RUNS and not dtype.is_packed and dtype is not DType.STRING

    def place(self, capacity: int) -> None:
        """Put the value where there is room for so many entries, in the memory it had if that will do."""
        assert self.value is not None
        if type(self.value) is GrowingArray and self.value.room is self.room and self.room is not None:
            return
        room, shape = self.room, self.value.shape
        if room is not None and room.holds(shape, self.axis, capacity):
            found = room.part(shape)
            found[...] = self.value
        else:
            found = growing_copy(self.value, self.axis, capacity)
        self.value, self.room = found, found.room

    def check(self, result: RuntimeValue, model: str) -> None:
        """
        Raises:
            InputError: if a result is not what the input takes.
        """
        if not isinstance(result, np.ndarray) or result.dtype != self.type.dtype.numpy:
            raise InputError(f"{model}: output '{self.output}' is not what input '{self.source.name}' takes")

    def grows_along(self, result: npt.NDArray[Any]) -> int | None:
        """The axis along which a result is longer than what it was computed from; the one known, if there is one."""
        if self.axis is not None or self.value is None:
            return self.axis
        before, after = self.value.shape, result.shape
        if len(before) != len(after) or self.value.size == 0:  # the first content says nothing of what comes behind
            return None
        longer = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        return longer[0] if len(longer) == 1 and after[longer[0]] > before[longer[0]] else None

    def is_replaced(self, result: RuntimeValue) -> bool:
        """Whether a result takes the value's place and nothing else changes: state that keeps its shape."""
        value = self.value
        return (
            type(result) is np.ndarray
            and value is not None
            and not self.may_grow
            and self.axis is None
            and self.room is None
            and result.shape == value.shape
            and result.dtype == value.dtype
        )

    def is_kept(self) -> bool:
        """Whether nothing but its content changes from run to run."""
        return self.value is not None and self.is_replaced(self.value)

    def is_in_place(self, result: RuntimeValue) -> bool:
        """Whether a result is the value, longer, in the same memory."""
        return type(result) is GrowingArray and self.room is not None and result.room is self.room

    def move_on(self, result: npt.NDArray[Any]) -> None:
        """Let a result be the value, which it is in the same memory."""
        if self.axis is not None and self.value is not None:
            self.added = result.shape[self.axis] - self.value.shape[self.axis]
        self.value, self._dense_runs = result, 0

    def take(self, result: npt.NDArray[Any], capacity: int) -> None:
        """Let a result be the value."""
        before, axis = self.value, self.grows_along(result)
        if axis is not None and before is not None and len(before.shape) == len(result.shape):
            self.added = max(result.shape[axis] - before.shape[axis], 0)
        self.axis = axis
        if self.is_in_place(result) or result is before:
            self._dense_runs = 0
        else:
            is_small = self.room is not None and (axis is None or result.shape[axis] <= capacity)
            self._dense_runs += is_small and before is not None and before.size > 0
            self.room = None
            result = np.array(result) if type(result) is GrowingArray else result
        self.value = result

    def check_rewind(self, entries: int, model: str) -> None:
        """
        Raises:
            UsageError: if the last entries cannot be forgotten.
        """
        if self.is_passed_on or entries == 0:
            return
        if self.value is None or self.axis is None:
            raise UsageError(
                f"{model}: output '{self.output}' does not grow, so that it cannot be rewound; reset the binding"
            )
        length = self.value.shape[self.axis]
        if entries > length:
            raise UsageError(f"{model}: output '{self.output}' has {length} entries and cannot be rewound by {entries}")

    def rewind(self, entries: int) -> None:
        """Forget the last entries."""
        if self.is_passed_on or self.value is None or self.axis is None:
            return
        shape = list(self.value.shape)
        shape[self.axis] -= entries
        if self.room is not None:
            self.value = self.room.part(tuple(shape))
        else:
            kept = tuple(slice(size) for size in shape)
            self.value = np.array(self.value[kept], order="C")

    def forget(self) -> None:
        """Let go of all memory."""
        self.value = self.room = None


def bound_states(graph: Graph, pairs: Mapping[str, str], model: str) -> list[BoundState]:
    """A state for each pair of an input and the output that feeds it.

    Raises:
        UsageError: if there are no such inputs and outputs, or they do not fit each other.
    """
    if not isinstance(pairs, Mapping):
        raise UsageTypeError(f"{model}: bind takes a mapping from input name to output name, not {pairs!r}")
    if not pairs:
        raise UsageError(f"{model}: there is nothing to bind; give input names and the outputs that feed them next")
    inputs, outputs = ({v.name: v for v in values} for values in (graph.inputs, graph.outputs))
    found = []
    for source, target in pairs.items():
        for name, known, kind in ((source, inputs, "input"), (target, outputs, "output")):
            if not isinstance(name, str):
                raise UsageTypeError(
                    f"{model}: bind takes a mapping from input name to output name; {type(name).__name__} is no "
                    "name, and arrays are given as inputs=… and outputs=…"
                )
            if name not in known:
                names = ", ".join(map(repr, known)) or "none"
                raise UsageError(f"{model} has no {kind} {name!r} to bind; its {kind}s are {names}")
        found.append(_state(inputs[source], outputs[target], model))
    return found


def _state(source: Value, target: Value, model: str) -> BoundState:
    both = f"{model}: output '{target.name}' cannot feed input '{source.name}'"
    before, after = source.type, target.type
    if not isinstance(before, TensorType) or not isinstance(after, TensorType):
        raise UsageError(f"{both}: only tensors can be bound, and they are {before} and {after}")
    if before.dtype is not after.dtype:
        raise UsageError(f"{both}: their element types are {after.dtype.label} and {before.dtype.label}")
    if before.shape is not None and after.shape is not None:
        sizes = zip(before.shape, after.shape, strict=False)
        differ = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes)
        if len(before.shape) != len(after.shape) or differ:
            shapes = f"{format_shape(after.shape)} and {format_shape(before.shape)}"
            raise UsageError(f"{both}: their shapes are {shapes}")
    return BoundState(
        source,
        target.name,
        before,
        _appended(source, target),
        is_written_over=_is_written_over(source, target),
        is_passed_on=_is_passed_on(source, target),
    )


def _appended(source: Value, target: Value) -> int | None:
    """The axis along which ``target`` is ``source`` with more behind it, if that is known before anything ran."""
    node = target.producer
    if node is None:
        return None
    if node.op_type == "If" and not node.domain:
        found = (_appended(source, value) for value in _of_branches(node, target))
        return next((axis for axis in found if axis is not None), None)
    if (node.domain, node.op_type) == ("com.microsoft", "GroupQueryAttention"):
        is_cache = any(node.input(3 + i) is source and node.output(1 + i) is target for i in range(2))
        return 2 if is_cache else None
    shape = source.type.shape if isinstance(source.type, TensorType) else None
    if node.op_type != "Concat" or node.domain or node.inputs[0] is not source or shape is None:
        return None
    axis = int(node.attr("axis", 1))
    return axis + len(shape) if axis < 0 else axis


def _of_branches(node: Node, target: Value) -> list[Value]:
    """What the branches of an If compute for one of its outputs."""
    position = node.outputs.index(target)
    return [a.value.outputs[position] for a in node.attributes.values() if isinstance(a.value, Graph)]


def _is_written_over(source: Value, target: Value) -> bool:
    """Whether a node writes some elements of ``source`` anew."""
    node = target.producer
    return (
        node is not None
        and not node.domain
        and node.op_type in ("Scatter", "ScatterElements", "ScatterND", "TensorScatter")
        and node.inputs[0] is source
    )


def _is_passed_on(source: Value, target: Value) -> bool:
    """Whether ``target`` is ``source``, or is so in a branch of an If."""
    node = target.producer
    if node is None or node.domain:
        return source is target
    if node.op_type == "If":
        return any(_is_passed_on(source, value) for value in _of_branches(node, target))
    return node.op_type == "Identity" and node.inputs[0] is source


def started(states: Sequence[BoundState], start: Mapping[str, Any] | None, model: str) -> dict[Value, npt.NDArray[Any]]:
    """Copies of what the caller begins with, by input.

    Raises:
        InputError: if something does not fit its input.
    """
    from mace_core.scheduler.running.feeds import convert_feed, shape_faults

    if start is None:
        return {}
    if not isinstance(start, Mapping):
        raise InputTypeError(f"{model}: 'start' is a mapping from bound input name to value, not {start!r}")
    found: dict[Value, npt.NDArray[Any]] = {}
    named = {state.source.name: state for state in states}
    for name, given in start.items():
        if name not in named:
            known = ", ".join(map(repr, named))
            raise InputError(f"{model}: 'start' has '{name}', which is not a bound input; those are {known}")
        source = named[name].source
        try:
            found[source] = np.array(convert_feed(given, source.type), order="C")
        except (TypeError, ValueError) as error:
            raise InputTypeError(f"{model}: input '{name}' {error}") from error
    faults = shape_faults(list(found), [array.shape for array in found.values()])
    if faults:
        raise InputError(f"{model}: " + "; ".join(faults))
    return found


def empty_state(state: BoundState, known: Mapping[Value, RuntimeValue], model: str) -> npt.NDArray[Any]:
    """What a state begins with where nobody says: zeros, without any entry along the one dimension that is left open.

    Args:
        known: what else is fed; dimensions of the same name have its sizes.

    Raises:
        InputError: if more than one dimension is open.
    """
    shape = state.type.shape
    advice = f"give 'start' for input '{state.source.name}' to bind or reset"
    if shape is None:
        raise InputError(f"{model}: the model does not say how many dimensions the first state has; {advice}")
    names: dict[str, int] = {}
    for value, array in known.items():
        declared = value.type.shape if isinstance(value.type, TensorType) else None
        if declared is not None and isinstance(array, np.ndarray) and len(declared) == array.ndim:
            names.update((dim, size) for dim, size in zip(declared, array.shape, strict=True) if isinstance(dim, str))
    sizes = [dim if isinstance(dim, int) else names.get(dim or "", -1) for dim in shape]
    if sizes.count(-1) > 1:
        raise InputError(
            f"{model}: {format_shape(shape)} leaves more than one dimension of the first state open; {advice}"
        )
    return np.zeros([max(size, 0) for size in sizes], state.type.dtype.numpy)
