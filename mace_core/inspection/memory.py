"""How much memory the results of a graph take at once."""

from __future__ import annotations

from collections.abc import Mapping

from mace_core.graph import Graph, Value
from mace_core.graph.graph import captured_values
from mace_core.tensor import TensorType, ValueType


def peak_activation_bytes(graph: Graph, types: Mapping[Value, ValueType]) -> int:
    """The most bytes that inputs and results take at one moment.

    Nodes run in the order of the graph, nothing is fused or computed in place, and a value is freed after its last
    reader; inputs are kept by the caller until then, outputs to the end.  Constants, and values whose size only the run
    tells, do not count.
    """
    last_reader: dict[Value, int] = {}
    for position, node in enumerate(graph.nodes):
        for value in (*node.inputs, *(captured_values(node) if node.attributes else ())):
            if value is not None:
                last_reader[value] = position
    for value in graph.outputs:
        last_reader[value] = len(graph.nodes)
    freed: dict[int, int] = {}
    live = peak = 0
    for value in graph.inputs:
        size = _nbytes(types.get(value, value.type))
        live += size
        position = last_reader.get(value, 0)
        freed[position] = freed.get(position, 0) + size
    peak = live
    for position, node in enumerate(graph.nodes):
        for value in node.outputs:
            if value is not None:
                size = _nbytes(types.get(value, value.type))
                live += size
                end = last_reader.get(value, position)
                freed[end] = freed.get(end, 0) + size
        peak = max(peak, live)
        live -= freed.get(position, 0)
    return peak


def _nbytes(kind: ValueType | None) -> int:
    if not isinstance(kind, TensorType) or not kind.is_concrete:
        return 0
    return kind.nbytes
