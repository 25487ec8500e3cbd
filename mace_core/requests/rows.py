"""Whether a model may be run on several requests at once, and where each request's part of every value lies.

The requests of a batch lie in a value as blocks: seen as ``(before, requests, after)`` in row-major order, the middle
axis counts them.  ``before`` alone tells it, so a Reshape or a Flatten that merges the batch with other axes, and one
that parts it again, changes nothing; a Transpose moves it.  Every other node must treat the positions of the axis that
has the requests apart (`mace_core.operators.independence`), and may see nothing of their number but where a shape is
stated.  The graph is looked at with two numbers of requests: a layout must be the same in both, and whatever has no
requests must not depend on their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mace_core.operators.context import Array, ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.independence import AxesContext, Lane
from mace_core.operators.registry import find_independent_axes, is_random
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import DType, TensorType, ValueType
from mace_core.tensor.symbolic import elements_of

if TYPE_CHECKING:
    from mace_core.graph import Graph, Node, Value
    from mace_core.graph.signature import Resolution

REQUESTS = (5, 11)
"""The numbers of requests that are looked at: primes, so that hardly another size has them as a factor."""

KEEP_ORDER = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators of the default domain whose output has the elements of input 0, in the same row-major order."""

FILLED = frozenset({"ConstantOfShape", "Expand"})
"""Operators that repeat one element, or a whole tensor along further axes: every request gets the same."""


class NotBatchableError(Exception):
    """Requests cannot share a run; the message says which node or value keeps them from it."""


class Place(NamedTuple):
    """An axis that has the requests: its positions are ``(outer, requests, inner)`` in row-major order."""

    axis: int
    outer: int
    inner: int


@dataclass(frozen=True, slots=True)
class RowPlan:
    """How requests share a run.

    Attributes:
        inputs: those that are joined along their first axis, one row each or several.
        shared: the other inputs: requests run together where they feed the same.
        outputs: rows of the first axis for each row that is fed; None: the output is the same for all.
    """

    inputs: tuple[str, ...]
    shared: tuple[str, ...]
    outputs: Mapping[str, int | None]


def row_plan(graph: Graph, inputs: Sequence[Value], resolutions: Sequence[Resolution]) -> RowPlan:
    """Look at every node between the inputs and the outputs.

    Args:
        inputs: those whose first axis has the requests.
        resolutions: of the graph, with as many rows in these as `REQUESTS` says.

    Raises:
        NotBatchableError: if a request's results would depend on the others, or an output cannot be parted.
    """
    first, second = (_Layout(graph, found) for found in resolutions)
    before: dict[Value, int | None] = dict.fromkeys(graph.inputs)
    before.update(dict.fromkeys(inputs, 1))
    seen = _Walk(first, second, before)
    for node in graph.nodes:
        seen.visit(node)
    outputs: dict[str, int | None] = {}
    for value in graph.outputs:
        layout = seen.layout(value)
        if layout is None:
            outputs[value.name] = None
            continue
        place = first.place(value, layout, REQUESTS[0])
        if place is None or (place.axis, place.outer) != (0, 1):
            raise NotBatchableError(f"the first axis of the output '{value.name}' is not that of the requests")
        outputs[value.name] = place.inner
    if all(rows is None for rows in outputs.values()):
        raise NotBatchableError("no output has the rows of the inputs")
    joined = {value.name for value in inputs}
    shared = tuple(value.name for value in graph.inputs if value.name not in joined)
    return RowPlan(tuple(value.name for value in inputs), shared, outputs)


class _Layout:
    """The values of a graph for one number of requests."""

    def __init__(self, graph: Graph, resolution: Resolution) -> None:
        self.opsets = graph.opset_imports
        self.types, self.known = resolution.types, resolution.known

    def content(self, value: Value) -> Array | None:
        tensor = value.constant if value.constant is not None else self.known.get(value)
        return None if tensor is None or tensor.dtype is DType.STRING else elements_of(tensor)

    def type(self, value: Value) -> ValueType | None:
        tensor = value.constant if value.constant is not None else self.known.get(value)
        return TensorType(tensor.dtype, tensor.shape) if tensor is not None else self.types.get(value, value.type)

    def shape(self, value: Value) -> tuple[int, ...]:
        found = self.type(value)
        if not isinstance(found, TensorType) or not found.is_concrete:
            raise NotBatchableError(f"the shape of '{value.name}' is not known before a run")
        return found.concrete_shape

    def place(self, value: Value, before: int, requests: int) -> Place | None:
        """The axis that has the requests, ``before`` positions of which precede the first block; None: there is none,
        since a block would go over several axes."""
        shape = self.shape(value)
        for axis, size in enumerate(shape):
            ahead = math.prod(shape[:axis])
            if not ahead or before % ahead:
                continue
            outer = before // ahead
            if size and not size % (outer * requests):
                return Place(axis, outer, size // (outer * requests))
        return None

    def context(self, node: Node) -> AxesContext:
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        types = {value: TensorType(self._dtype(value), self.shape(value)) for value in values}
        contents = {value: found for value in values if (found := self.content(value)) is not None}
        return AxesContext(node, self.opsets.get(node.domain, 1), types, contents)

    def _dtype(self, value: Value) -> DType:
        found = self.type(value)
        assert isinstance(found, TensorType), "it has a shape"
        return found.dtype


class _Walk:
    """The layouts of values, node by node: how many positions come before the first block, None without requests."""

    def __init__(self, first: _Layout, second: _Layout, before: dict[Value, int | None]) -> None:
        self._sides = (first, second)
        self._before = before
        self._counted: set[Value] = set()  # those without requests whose content or size follows from their number

    def layout(self, value: Value) -> int | None:
        """
        Raises:
            NotBatchableError: if it depends on the number of requests in any other way.
        """
        if value in self._counted or self._varies(value):
            raise NotBatchableError(f"'{value.name}' depends on how many requests there are")
        return self._before.get(value)

    def visit(self, node: Node) -> None:
        outputs = [value for value in node.outputs if value is not None]
        if outputs and all(self._is_known(value) for value in outputs):
            return  # a content that follows from shapes; it is compared where it is read
        reads = node_reads(node)
        batched = [value for value in reads if self._before.get(value) is not None]
        counted = [value for value in reads if value in self._counted or self._varies(value)]
        name = f"{node.qualified_op} '{node.name}'"
        if is_random(node.domain, node.op_type):
            raise NotBatchableError(f"{name} draws random numbers")
        if batched or counted:
            self._follow(node, name, outputs, batched, counted)
        else:
            self._before.update(dict.fromkeys(outputs))

    def _follow(
        self, node: Node, name: str, outputs: Sequence[Value], batched: Sequence[Value], counted: Sequence[Value]
    ) -> None:
        source = node.inputs[0] if node.inputs else None
        keeps_order = not node.domain and node.op_type in KEEP_ORDER
        if source is not None and keeps_order and source in batched and set(counted) <= {*node.inputs[1:]}:
            self._keep(outputs[0], self._before[source], name)
        elif not batched:
            self._without_requests(node, outputs, counted, name)
        elif not set(batched) <= set(node.inputs):
            raise NotBatchableError(f"{name} reads '{batched[0].name}' in a nested graph")
        else:
            self._apart(node, name, outputs, batched, counted)

    def _keep(self, output: Value, before: int | None, name: str) -> None:
        assert before is not None
        places = [side.place(output, before, count) for side, count in zip(self._sides, REQUESTS, strict=True)]
        if places[0] is None or places[0] != places[1]:
            raise NotBatchableError(f"{name} joins requests with other axes in a way that cannot be parted")
        self._check_rest(output, places[0].axis, name)
        self._before[output] = before

    def _without_requests(self, node: Node, outputs: Sequence[Value], counted: Sequence[Value], name: str) -> None:
        """What is made from the number of requests alone."""
        if node.domain or node.op_type not in FILLED or (node.inputs[0] in counted and node.op_type == "Expand"):
            self._counted.update(outputs)
            return
        (output,) = outputs
        shapes = [side.shape(output) for side in self._sides]
        own = self._sides[0].shape(node.inputs[0]) if node.op_type == "Expand" and node.inputs[0] is not None else ()
        varying = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if sizes[0] != sizes[1]]
        if not varying:
            self._before[output] = None
            return
        axis = varying[0]
        at = axis - len(shapes[0]) + len(own)
        factors = {shape[axis] / count for shape, count in zip(shapes, REQUESTS, strict=True)}
        if len(varying) > 1 or (at >= 0 and own[at] != 1) or len(factors) > 1 or not factors.pop().is_integer():
            self._counted.add(output)
            return
        self._before[output] = math.prod(shapes[0][:axis])

    def _apart(
        self, node: Node, name: str, outputs: Sequence[Value], batched: Sequence[Value], counted: Sequence[Value]
    ) -> None:
        """A node that must treat the positions of the axis with the requests apart."""
        found = []
        for side, count in zip(self._sides, REQUESTS, strict=True):
            places = {}
            for value in batched:
                before = self._before[value]
                place = None if before is None else side.place(value, before, count)
                if place is None:
                    raise NotBatchableError(f"{name} does not treat the requests apart")
                places[value] = place
            found.append((places, self._lane(node, side, places, name)))
        (places, lane), (others, _) = found
        if places != others or len({(place.outer, place.inner) for place in places.values()}) != 1:
            raise NotBatchableError(f"{name} does not treat the requests apart")
        self._check_stated(node, lane, counted, name)
        outer = next(iter(places.values())).outer
        for index, axis in lane.outputs:
            output = node.outputs[index]
            if output is None:
                continue
            before = math.prod(self._sides[0].shape(output)[:axis]) * outer
            made = [side.place(output, before, count) for side, count in zip(self._sides, REQUESTS, strict=True)]
            if made[0] != made[1] or made[0] is None or made[0].axis != axis:
                raise NotBatchableError(f"{name} does not treat the requests apart")
            self._check_rest(output, axis, name)
            self._before[output] = before

    def _lane(self, node: Node, side: _Layout, places: Mapping[Value, Place], name: str) -> Lane:
        """The independent axes that are those of the requests, in all inputs that have any and in no other."""
        rule = find_independent_axes(node.domain, node.op_type)
        if rule is not None:
            context = side.context(node)
            wanted = {
                (index, places[value].axis)
                for index, value in enumerate(node.inputs)
                if value is not None and value in places
            }
            everywhere = {index for index, value in enumerate(node.outputs) if value is not None}
            try:
                for lane in rule(context):
                    if set(lane.inputs) == wanted and {output for output, _ in lane.outputs} == everywhere:
                        return lane
            except (UnresolvedShapeError, ShapeMismatchError):
                pass  # the rule cannot tell, so nothing is known to be apart
        raise NotBatchableError(f"{name} does not treat the requests apart")

    def _check_stated(self, node: Node, lane: Lane, counted: Sequence[Value], name: str) -> None:
        """Only what states the size of the axis with the requests may follow from their number."""
        for index, value in enumerate(node.inputs):
            if value is None or value not in counted:
                continue
            contents = [side.content(value) for side in self._sides]
            if contents[0] is None or contents[1] is None or contents[0].shape != contents[1].shape:
                raise NotBatchableError(f"{name} reads '{value.name}', which depends on how many requests there are")
            changed = np.flatnonzero(contents[0].reshape(-1) != contents[1].reshape(-1))
            if any((index, int(element)) not in lane.stated for element in changed):
                raise NotBatchableError(f"{name} reads '{value.name}', which depends on how many requests there are")
        if not set(counted) <= set(node.inputs):
            raise NotBatchableError(f"{name} reads how many requests there are in a nested graph")

    def _check_rest(self, output: Value, axis: int, name: str) -> None:
        """No other axis may follow from the number of requests."""
        shapes = [side.shape(output) for side in self._sides]
        if len(shapes[0]) != len(shapes[1]) or any(
            sizes[0] != sizes[1] for at, sizes in enumerate(zip(*shapes, strict=True)) if at != axis
        ):
            raise NotBatchableError(f"the shape that {name} computes depends on how many requests there are")

    def _is_known(self, value: Value) -> bool:
        return all(value in side.known for side in self._sides)

    def _varies(self, value: Value) -> bool:
        """Whether a value without requests has another content or shape for another number of them."""
        if self._before.get(value) is not None or value.constant is not None:
            return False
        first, second = (side.known.get(value) for side in self._sides)
        if first is None or second is None:
            return first is not second or self._sides[0].type(value) != self._sides[1].type(value)
        return first.shape != second.shape or not np.array_equal(elements_of(first), elements_of(second))
