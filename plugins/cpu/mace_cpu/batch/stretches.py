"""Which nodes of a graph may be computed for one row of the batch at a time, and for which of them that pays.

A layer whose results for the whole batch do not fit in the cache writes them to memory, and the next layer reads them
from there.  Row by row they stay in the cache.  Weights are then read once for each row instead of once: so it pays
where there is more to be read and written of a row than there are weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mace_core.graph import GraphView, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.operators.context import ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.independence import AxesContext
from mace_core.operators.registry import find_independent_axes, is_random
from mace_core.symbolic import hint, is_same
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_cpu.shared.parts.facts import are_same

WINDOWS = frozenset({"AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
"""A stretch begins with one of these, and has several: other operators have fusions of their own across its borders."""

LEAST_WINDOWS = 4

REORDERS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Take the shape of the result from its type, whatever shape they are told."""

FITTING_WEIGHTS = 512 << 10
"""Bytes of one node's weights that take little of the cache from what is computed."""

FITTING_WINDOWS = 4 << 20
"""The same of windows: the steps of convolutions go from image to image and read all weights for each, also in a batch,
so that there is little to lose."""

LEAST_BATCH_BYTES = 1 << 20
"""What a stretch computes for the batch stays in the cache anyway if no value is larger."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Nodes that follow each other, and the number of rows that each treats apart from the others.

    Attributes:
        nodes: in topological order.
        batch: the size of the first axis of all that they compute.
        rows: the values, those from outside included, of which row ``i`` only matters for row ``i``.
    """

    nodes: tuple[Node, ...]
    batch: int
    rows: frozenset[Value]


def find_stretches(view: GraphView, threads: int) -> list[Stretch]:
    """The stretches that are to be computed row by row on this many threads."""
    found: list[Stretch] = []
    if not _has_windows(view):
        return found
    for nodes, batch in _runs(view):
        for part in _split(view, nodes, batch):
            if _pays(view, part, batch) and keeps_busy(batch, threads):
                rows = {value for node in part for value in _rows_of(view, node) or ()}
                found.append(Stretch(tuple(part), batch, frozenset(rows)))
    return found


def keeps_busy(batch: int, threads: int) -> bool:
    """Whether threads that take whole rows have enough of them: none is idle for a third of the time."""
    now = hint(batch)
    rounds = -(-now // threads)
    return batch > 1 and batch >= threads and 3 * now > 2 * rounds * threads


def _has_windows(view: GraphView) -> bool:
    """Whether there are windows over several images; most graphs need not be looked at any closer."""
    results = (node.output(0) for node in view.nodes if node.op_type in WINDOWS)
    types = [_type(view, value) for value in results if value is not None]
    return sum(found is not None and hint(found.concrete_shape[0]) > 1 for found in types) >= LEAST_WINDOWS


def _runs(view: GraphView) -> Iterator[tuple[list[Node], int]]:
    """Nodes that follow each other and treat the same number of rows apart."""
    run: list[Node] = []
    batch: int | None = None
    for node in view.nodes:
        rows = _rows_of(view, node)
        own = None if rows is None else view.shape(next(iter(rows)))[0]
        if run and batch is not None and (own is None or not is_same(own, batch)):
            yield run, batch
            run = []
        if own is not None:
            run, batch = [*run, node], own
    if run and batch is not None:
        yield run, batch


def _rows_of(view: GraphView, node: Node) -> set[Value] | None:
    """The operands and results of a node whose first axis is one that it treats position by position.

    None: there is no such axis, or the node is nothing for a stretch.
    """
    rule = find_independent_axes(node.domain, node.op_type)
    if rule is None or is_random(node.domain, node.op_type) or captured_values(node):
        return None
    types: dict[Value, ValueType] = {}
    for value in (*node.inputs, *node.outputs):
        if value is not None:
            found = _type(view, value)
            if found is None:
                return None
            types[value] = TensorType(found.dtype, tuple(map(hint, found.concrete_shape)))
    fixed = {value: view.constant(value) for value in types}
    contents = {value: tensor.numpy() for value, tensor in fixed.items() if isinstance(tensor, Tensor)}
    context = AxesContext(node, view.opset(node.domain), types, contents)
    try:
        lanes = list(rule(context))
    except (ShapeMismatchError, UnresolvedShapeError):
        return None
    for lane in lanes:
        if all((output, 0) in lane.outputs for output in context.outputs):
            if any(axis for _, axis in (*lane.inputs, *lane.outputs)):
                return None
            if lane.stated and node.op_type not in REORDERS:
                return None
            reads = [node.inputs[index] for index, _ in lane.inputs]
            rows = {value for value in (*reads, *node.outputs) if value is not None}
            return rows if _have_one_batch(view, rows) and _reads_whole_else(view, node, rows) else None
    return None


def _type(view: GraphView, value: Value) -> TensorType | None:
    """Of what can lie in memory as it is."""
    found = view.tensor_type(value)
    if found is None or not found.is_concrete or found.dtype is DType.STRING or found.dtype.is_packed:
        return None
    return found


def _have_one_batch(view: GraphView, rows: Iterable[Value]) -> bool:
    """Whether all have the same first axis, and none is a constant."""
    shapes = [view.shape(value) for value in rows]
    if not all(shapes) or any(view.constant(value) is not None for value in rows):
        return False
    return all(is_same(shape[0], shapes[0][0]) for shape in shapes)


def _reads_whole_else(view: GraphView, node: Node, rows: set[Value]) -> bool:
    """Whether what the node reads besides has no rows: a constant, no part of which is stated for the batch."""
    return all(value is None or value in rows or view.constant(value) is not None for value in node.inputs)


def _split(view: GraphView, nodes: Sequence[Node], batch: int) -> Iterator[list[Node]]:
    """The parts of a run between nodes with large weights, each from its first window to what follows its last."""
    part: list[Node] = []
    for node in nodes:
        if _weights(view, node) > max(_traffic(view, node) // hint(batch), _fitting(node)):
            yield _trimmed(view, part)
            part = []
        elif part or node.op_type in WINDOWS:
            part.append(node)
    yield _trimmed(view, part)


def _fitting(node: Node) -> int:
    return FITTING_WINDOWS if node.op_type in WINDOWS else FITTING_WEIGHTS


def _trimmed(view: GraphView, nodes: list[Node]) -> list[Node]:
    """Without what comes behind the last window and cannot be a part of its step."""
    last = max((index for index, node in enumerate(nodes) if node.op_type in WINDOWS), default=-1)
    while last + 1 < len(nodes) and _keeps_shape(view, nodes[last + 1]):
        last += 1
    return nodes[: last + 1]


def _keeps_shape(view: GraphView, node: Node) -> bool:
    results = [value for value in node.outputs if value is not None]
    read = [value for value in node.inputs if value is not None and view.constant(value) is None]
    return all(are_same(view.shape(value), view.shape(results[0])) for value in (*read, *results))


def _pays(view: GraphView, nodes: Sequence[Node], batch: int) -> bool:
    windows = [node for node in nodes if node.op_type in WINDOWS]
    if len(windows) < LEAST_WINDOWS:
        return False
    largest = max(_nbytes(view, value) for node in nodes for value in node.outputs if value is not None)
    traffic = sum(_traffic(view, node) for node in windows) // hint(batch)
    return largest >= LEAST_BATCH_BYTES and sum(_weights(view, node) for node in nodes) <= traffic


def _weights(view: GraphView, node: Node) -> int:
    """Bytes of the constants that a node reads."""
    found = [view.constant(value) for value in node.inputs]
    return sum(tensor.nbytes for tensor in found if tensor is not None)


def _traffic(view: GraphView, node: Node) -> int:
    """Bytes of what a node reads and writes but for constants."""
    values = {value for value in (*node.inputs, *node.outputs) if value is not None}
    return sum(_nbytes(view, value) for value in values if view.constant(value) is None)


def _nbytes(view: GraphView, value: Value) -> int:
    found = _type(view, value)
    assert found is not None
    return hint(found.dtype.nbytes(found.size))
