"""Which of a nested graph's inputs decide shapes with their content: a loop's counter that a Slice begins at.

Known before the run, such a content is a size like any other, and the nodes behind need no stage of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mace_core.graph import Graph, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import DType, Tensor, TensorType, ValueType

MOST_ELEMENTS = 8
"""Of an input whose content may decide shapes: bounds of slices, counters, positions."""

_INTEGERS = (DType.INT64, DType.INT32)

Resolve = Callable[[Graph, Mapping[Value, ValueType], Mapping[Value, Tensor]], Resolution]


def deciding_inputs(
    graph: Graph,
    types: Mapping[Value, ValueType],
    fixed: Mapping[Value, Tensor],
    contents: Mapping[Value, Tensor],
    resolve: Resolve,
) -> frozenset[Value]:
    """The inputs with ``contents`` without which shapes wait for the run.

    Args:
        graph: the nested graph.
        types, fixed: of all that is given, and the contents that are known anyway.
        contents: of the inputs that are a few integers.
    """
    without = resolve(graph, types, fixed)
    known = without.known
    undecided = {v for inputs in without.blocked.values() for v in inputs if v.constant is None and v not in known}
    if not undecided:
        return frozenset()
    found = _ancestors(graph.nodes, undecided, known) & set(contents)
    if not found:
        return frozenset()
    with_contents = resolve(graph, types, {**fixed, **{value: contents[value] for value in found}})
    still = [node for node in graph.nodes if node in with_contents.blocked]
    # what is behind a blocked node is not reached at all: that the first ones are decided counts, not how many are left
    before = [node for node in graph.nodes if node in without.blocked]
    return frozenset(found) if set(before) - set(still) else frozenset()


def may_decide(type: ValueType | None) -> bool:
    """Whether values of this type are a few integers, whatever the run."""
    if not isinstance(type, TensorType) or type.dtype not in _INTEGERS or type.shape is None or len(type.shape) > 1:
        return False
    return all(isinstance(dim, int) and dim <= MOST_ELEMENTS for dim in type.shape)


def _ancestors(nodes: Sequence[Node], values: set[Value], known: Mapping[Value, Tensor]) -> set[Value]:
    """``values``, and all that they are computed from."""
    wanted = set(values)
    for node in reversed(nodes):
        if any(value in wanted for value in node.outputs):
            wanted.update(value for value in node_reads(node) if value not in known)
    return wanted
