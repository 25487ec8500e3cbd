"""Every value of a graph, as one device computes it, and nodes fed with given values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mace_core.graph import Graph, Node, Value
from mace_core.provider.registry import Registry
from mace_core.scheduler.planning.stages import fragment, node_reads
from mace_core.session import Session
from mace_core.tensor import DType, TensorType

Options = Mapping[str, Mapping[str, object]]


def watched(graph: Graph) -> Graph:
    """``graph`` with every value that its nodes compute among its outputs, so that no provider can hide one."""
    outputs = dict.fromkeys(graph.outputs)
    outputs.update(dict.fromkeys(value for node in graph.nodes for value in node.outputs if value is not None))
    return fragment(graph, graph.nodes, graph.inputs, outputs, name=graph.name)


def alone(graph: Graph, node: Node, values: Mapping[str, Any]) -> tuple[Graph, dict[str, Any]]:
    """The graph of one node, and what to feed it: what it reads, as found in ``values``.

    Types of the values become those of ``values``: the graph must be one that nobody plans with any more.
    """
    return part_of(graph, [node], [value for value in node.outputs if value is not None], values)


def part_of(
    graph: Graph, nodes: Sequence[Node], outputs: Sequence[Value], values: Mapping[str, Any]
) -> tuple[Graph, dict[str, Any]]:
    """As `alone`, of some nodes in their order, with the constants that they read and no others."""
    made = {value for node in nodes for value in node.outputs}
    everything = dict.fromkeys(value for node in nodes for value in node_reads(node))
    reads = [value for value in everything if value.constant is None and value not in made]
    for value in reads:
        _take_type(value, values[value.name])
    part = fragment(graph, nodes, reads, outputs, name=graph.name)
    part.initializers = {value.name: value for value in everything if value.constant is not None}
    return part, {value.name: values[value.name] for value in reads}


def _take_type(value: Value, content: Any) -> None:
    if isinstance(content, np.ndarray):
        dtype = DType.STRING if content.dtype.kind in "OSU" else DType.from_numpy(content.dtype)
        value.type = TensorType(dtype, content.shape)


def values_on_device(
    graph: Graph,
    feeds: Mapping[str, Any],
    devices: Sequence[str] | None,
    *,
    options: Options | None,
    registry: Registry | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """All outputs of ``graph`` by name, and the device of each node by its name."""
    with Session(graph, devices=devices, options=options, optimize=False, cache=False, registry=registry) as session:
        return session.run(feeds), placement(session)


def placement(session: Session) -> dict[str, str]:
    """The device of each node of a session's model, by its name."""
    placed: dict[str, str] = {}
    for entry in session.explain().nodes:
        if not entry.scope:
            placed.setdefault(entry.node, entry.device)
    return placed


def names_of(values: Iterable[Value | None]) -> list[str]:
    """Names of those that are there."""
    return [value.name for value in values if value is not None]
