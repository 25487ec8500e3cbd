"""What a model's file says of its nodes and values: what tables, traces and pages of a profile are labeled with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.graph import Graph, Node, Value
    from mace_core.tensor import ValueType


_MOVING = frozenset(
    {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that frontends put around another one."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """By the names that steps of a run tell as their source, nested graphs included: a node's own name, or that of the
    operator of the file that a frontend made several nodes of.

    Attributes:
        macs: multiply-accumulates of one run, of nodes that have any.
        operators: operator type.
        shapes: of the first output, "1x3x224x224"; of nodes whose output's shape is known before the run.
        nbytes: of values, by their names; of those whose shape is known before the run.
        weight_bytes: of all constants.
    """

    macs: Mapping[str, int] = field(default_factory=dict)
    operators: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, str] = field(default_factory=dict)
    nbytes: Mapping[str, int] = field(default_factory=dict)
    weight_bytes: int = 0

    def kind(self, step: str, source: Sequence[str]) -> str:
        """The operators that a step stands for, joined by "+"; of a step without nodes, the first word of its name."""
        known = [self.operators[node] for node in source if node in self.operators]
        return "+".join(dict.fromkeys(known)) or step.partition(" ")[0]

    def shape(self, source: Sequence[str]) -> str:
        """The shape that the last of the nodes with a known shape gives; "" if there is none."""
        return next((self.shapes[node] for node in reversed(source) if node in self.shapes), "")


def model_facts(model: Model, feeds: Mapping[str, Any]) -> ModelFacts:
    """Of the model as it stands in the file, with arrays of these types and shapes as inputs."""
    return facts_of(*resolved_model(model, feeds))


def resolved_model(model: Model, feeds: Mapping[str, Any]) -> tuple[Graph, Mapping[Value, ValueType]]:
    """The model as it stands in the file, and the types of its values for arrays of these types and shapes."""
    from mace_core.frontend.load import load_model
    from mace_core.graph.kept import with_start
    from mace_core.operators import resolve
    from mace_core.tensor import DType, TensorType

    graph = load_model(model)
    feeds = with_start(graph, feeds)
    types = {
        value: TensorType(DType.from_numpy(feeds[value.name].dtype), feeds[value.name].shape) for value in graph.inputs
    }
    return graph, resolve(graph, types).types


def facts_of(graph: Graph, found: Mapping[Value, ValueType]) -> ModelFacts:
    """Of a graph whose values have these types."""
    from mace_core.graph.constants import constant_tensors
    from mace_core.operators.work import graph_macs
    from mace_core.tensor import TensorType

    shapes = {
        origin: "x".join(map(str, kind.concrete_shape)) or "scalar"
        for node in graph.nodes
        for origin in origins(node)
        if node.outputs
        and node.outputs[0] is not None
        and isinstance(kind := found.get(node.outputs[0]), TensorType)
        and kind.is_concrete
    }
    nbytes = {
        value.name: kind.nbytes for value, kind in found.items() if isinstance(kind, TensorType) and kind.is_concrete
    }
    weights = sum(tensor.nbytes for tensor in constant_tensors(graph))
    counts = graph_macs(graph, found)
    macs: dict[str, int] = {}
    for node in all_nodes(graph):
        if node.name in counts:
            first = origins(node)[0]
            macs[first] = macs.get(first, 0) + counts[node.name]
    return ModelFacts(macs, _operators(graph, counts), shapes, nbytes, weights)


def origins(node: Node) -> tuple[str, ...]:
    """What a step that computes a node tells as its source."""
    return node.source or (node.name,)


def all_nodes(graph: Graph) -> Iterator[Node]:
    """Nested graphs included."""
    for node in graph.nodes:
        yield node
        for body in node.subgraphs():
            yield from all_nodes(body)


def _operators(graph: Graph, macs: Mapping[str, int]) -> dict[str, str]:
    """The operator of each origin: of several nodes the one that does most, and rather one that computes something."""
    found: dict[str, tuple[tuple[int, bool], str]] = {}
    for node in all_nodes(graph):
        weight = macs.get(node.name, 0), node.op_type not in _MOVING
        for origin in origins(node):
            if origin not in found or weight >= found[origin][0]:
                found[origin] = weight, node.qualified_op
    return {origin: operator for origin, (_, operator) in found.items()}
