"""A subgraph as an ONNX model: what drivers hand to their SDKs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mace_core.errors import UnsupportedError
from mace_core.frontend.onnx.export import to_onnx
from mace_core.graph import Graph, GraphView, Node, Value

_LARGEST_MODEL_BYTES = 2_000_000_000
"""What a protobuf message may hold, and thus a model in memory."""


def to_model(view: GraphView, adapt: Callable[[Graph], None] = lambda graph: None) -> bytes:
    """The whole view as an ONNX model with its inputs and outputs in order.

    ``adapt`` may change the graph, a copy, to what an SDK reads.

    Raises:
        UnsupportedError: if its weights are too large for one.
    """
    read = {value for node in view.nodes for value in node.inputs}
    weights = sum(constant.nbytes for value in read if (constant := view.constant(value)) is not None)
    if weights > _LARGEST_MODEL_BYTES:
        raise UnsupportedError(
            f"'{view.name}' has {weights >> 20} MiB of weights, more than an ONNX model in memory can hold"
        )
    graph = graph_of(view, view.nodes, view.outputs, view.inputs)
    adapt(graph)
    types = {value: kind for value in (*view.inputs, *view.outputs) if (kind := view.type(value)) is not None}
    return bytes(to_onnx(graph, types).SerializeToString())


def graph_of(view: GraphView, nodes: Sequence[Node], outputs: Iterable[Value], inputs: Iterable[Value]) -> Graph:
    """A graph of some of a view's nodes; what is constant under its signature is an initializer.

    The values are the view's own but for those that only the signature makes constant.
    """
    graph = Graph(view.name)
    graph.opset_imports = dict(view.opset_imports)
    constants: dict[Value, Value] = {}
    for node in nodes:
        graph.nodes.append(_copy(view, node, node.outputs, constants))
    graph.initializers = {value.name: value for value in constants.values()}
    graph.inputs = list(inputs)
    graph.outputs = list(outputs)
    return graph


def apart(view: GraphView, nodes: Sequence[Node]) -> Graph:
    """A graph of some of a view's nodes that reads and writes each one's tensors apart from the others': node ``i`` has
    the name ``i``, and the tensors ``i:...``."""
    graph = Graph(view.name)
    graph.opset_imports = dict(view.opset_imports)
    for index, node in enumerate(nodes):
        inputs: dict[Value, Value] = {}
        for position, value in enumerate(node.inputs):
            if value is None or value in inputs:
                continue
            constant = view.constant(value)
            inputs[value] = Value(f"{index}:in{position}", view.type(value), constant)
            if constant is not None:
                graph.initializers[inputs[value].name] = inputs[value]
            else:
                graph.inputs.append(inputs[value])
        outputs = [
            None if value is None else Value(f"{index}:out{position}", view.type(value))
            for position, value in enumerate(node.outputs)
        ]
        graph.nodes.append(
            Node(
                node.op_type,
                [None if value is None else inputs[value] for value in node.inputs],
                outputs,
                name=str(index),
                domain=node.domain,
                attributes=node.attributes,
            )
        )
        graph.outputs += [value for value in outputs if value is not None]
    return graph


def _copy(view: GraphView, node: Node, outputs: Sequence[Value | None], constants: dict[Value, Value]) -> Node:
    """The node with initializers for what is constant; producers of the values are not touched."""
    inputs: list[Value | None] = []
    for value in node.inputs:
        constant = view.constant(value)
        if value is None or constant is None:
            inputs.append(value)
            continue
        if value not in constants:
            constants[value] = value if value.constant is not None else Value(value.name, view.type(value), constant)
        inputs.append(constants[value])
    copy = Node(
        node.op_type, inputs, (), name=node.name, domain=node.domain, attributes=node.attributes, source=node.source
    )
    copy.outputs = list(outputs)  # not through the constructor: the values keep their producers
    return copy
