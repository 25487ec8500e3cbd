"""Cuts a graph into what can be planned now and what has to wait for values that only the run tells.

Where a node's output shape depends on data (NonZero, a Reshape to a computed shape), everything that does not lie
behind it is one stage; the rest is a graph of its own, planned when its inputs are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from mace_core.graph import Graph, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.graph.signature import Resolution
from mace_core.tensor import Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor

if TYPE_CHECKING:
    from mace_core.scheduler.growing import Growing
    from mace_core.symbolic import Trace


class Stage(NamedTuple):
    """What runs under one plan.

    Attributes:
        graph: the graph it was cut from.
        nodes: to run, in topological order.
        types, known: as resolved.
        outputs: values the stage hands over: results of the graph, and inputs of the rest.
        dynamic: outputs whose shape only the run tells.
        rest: what is left, or None.
        rest_feeds: inputs of the rest that this stage hands over, in order; its other inputs are ``rest_fixed``.
        rest_fixed: inputs of the rest whose content is decided already.
        rest_contents: those of ``rest_feeds`` whose content decides shapes in the rest.
        trace: of the symbolic sizes in ``types`` and ``known``; None where all are numbers.
        scopes: of nodes that stand in the place of an If, the Ifs around them.
        decided: those Ifs.
        growing: what may grow in place.
        resolution: of the graph as it was given, for a plan of symbolic sizes that can be stored.
    """

    graph: Graph
    nodes: tuple[Node, ...]
    types: Mapping[Value, ValueType]
    known: Mapping[Value, Tensor]
    outputs: tuple[Value, ...]
    dynamic: frozenset[Value]
    rest: Graph | None
    rest_feeds: tuple[Value, ...] = ()
    rest_fixed: Mapping[Value, Tensor] | None = None
    rest_contents: tuple[Value, ...] = ()
    trace: Trace | None = None
    growing: Growing | None = None
    scopes: Mapping[Node, str] = MappingProxyType({})
    decided: tuple[Node, ...] = ()
    resolution: Resolution | None = None


def cut_stage(graph: Graph, resolution: Resolution, trace: Trace | None = None) -> Stage:
    """The first stage of ``graph`` under ``resolution``."""
    known = resolution.known
    wanted = _needed_nodes(graph, known)
    waiting: set[Value] = set()  # computed behind something blocked
    dynamic: set[Value] = set()
    now: list[Node] = []
    later: list[Node] = []
    contents: dict[Value, None] = {}
    for node in graph.nodes:
        if node not in wanted:
            continue
        outputs = [value for value in node.outputs if value is not None]
        undecided = [v for v in resolution.blocked.get(node, ()) if v.constant is None and v not in known]
        if undecided or any(value in waiting for value in node_reads(node)):
            later.append(node)
            waiting.update(outputs)
            contents.update((value, None) for value in undecided if value not in waiting)
            continue
        now.append(node)
        if node in resolution.blocked or any(not _is_decided(resolution.types.get(v, v.type)) for v in outputs):
            waiting.update(outputs)
            dynamic.update(outputs)
    if not later:
        return Stage(
            graph,
            tuple(now),
            resolution.types,
            known,
            tuple(dict.fromkeys(graph.outputs)),
            frozenset(dynamic),
            None,
            trace=trace,
        )
    rest = _rest(graph, later)
    fixed = {v: known[v] for v in rest.inputs if v in known and not isinstance(known[v], SymbolicTensor)}
    feeds = tuple(value for value in rest.inputs if value not in fixed)
    made = {value for node in later for value in node.outputs}
    handed = dict.fromkeys(value for value in graph.outputs if value not in made)
    handed.update(dict.fromkeys(feeds))
    return Stage(
        graph,
        tuple(now),
        resolution.types,
        known,
        tuple(handed),
        frozenset(dynamic),
        rest,
        feeds,
        fixed,
        tuple(value for value in feeds if value in contents or value in known),
        trace,
    )


def node_reads(node: Node) -> list[Value]:
    """What a node reads: its inputs, and what its nested graphs capture."""
    found = dict.fromkeys(value for value in node.inputs if value is not None)
    found.update(dict.fromkeys(captured_values(node)))
    return list(found)


def fragment(
    graph: Graph, nodes: Sequence[Node], inputs: Iterable[Value], outputs: Iterable[Value], *, name: str
) -> Graph:
    """A graph over some nodes of ``graph``, sharing nodes and values with it."""
    part = Graph(name)
    part.inputs = list(inputs)
    part.outputs = list(outputs)
    part.nodes = list(nodes)
    part.initializers = graph.initializers
    part.opset_imports = graph.opset_imports
    part.metadata = graph.metadata
    part.origins = graph.origins
    part.source_path = graph.source_path
    return part


def subset(graph: Graph, outputs: Sequence[Value]) -> Graph:
    """``graph`` reduced to what ``outputs`` need; all inputs stay."""
    wanted = _needed(graph.nodes, outputs, {})
    nodes = [node for node in graph.nodes if node in wanted]
    return fragment(graph, nodes, graph.inputs, outputs, name=graph.name)


def _rest(graph: Graph, nodes: Sequence[Node]) -> Graph:
    made = {value for node in nodes for value in node.outputs}
    reads = dict.fromkeys(value for node in nodes for value in node_reads(node))
    inputs = [value for value in reads if value not in made and value.constant is None]
    outputs = dict.fromkeys(value for value in graph.outputs if value in made)
    return fragment(graph, nodes, inputs, outputs, name=graph.name)


def _needed_nodes(graph: Graph, known: Mapping[Value, Tensor]) -> set[Node]:
    return _needed(graph.nodes, graph.outputs, known)


def _needed(nodes: Sequence[Node], outputs: Iterable[Value], known: Mapping[Value, Tensor]) -> set[Node]:
    """Nodes whose results the outputs need, where known values need nobody."""
    values = {value for value in outputs if value not in known}
    wanted: set[Node] = set()
    for node in reversed(nodes):
        if any(value is not None and value in values for value in node.outputs):
            wanted.add(node)
            values.update(value for value in node_reads(node) if value not in known)
    return wanted


def _is_decided(type: ValueType | None) -> bool:
    """Whether memory for the value can be planned: a concrete tensor, or a Python object."""
    return type is not None and (not isinstance(type, TensorType) or type.is_concrete)
