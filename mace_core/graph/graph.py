"""Graph, Node and Value: plain mutable objects, compared by identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.graph.computed import ComputedTensor
from mace_core.graph.origin import Origin
from mace_core.tensor import Tensor, TensorType, ValueType


class Value:
    """One tensor (or sequence, optional) that flows along the graph's edges.

    Attributes:
        name: unique within its graph and the graphs around it.
        type: the static type, or None where nothing is known.
        producer: the node that computes it; None for graph inputs and constants.
        constant: the payload, for an initializer.
    """

    __slots__ = ("constant", "name", "producer", "type")

    def __init__(self, name: str, type: ValueType | None = None, constant: Tensor | None = None) -> None:
        self.name = name
        self.type: ValueType | None = type
        if constant is not None and type is None:
            self.type = TensorType(constant.dtype, constant.shape)
        self.constant = constant
        self.producer: Node | None = None

    def __repr__(self) -> str:
        return f"Value({self.name!r}: {self.type})"


class Node:
    """One operation.

    Attributes:
        op_type, domain: the operator; the default domain is written ``""`` (never ``ai.onnx``).
        inputs: values, None where an optional input is left out.
        outputs: values, None where an optional output is left out.
        attributes: by name; nested graphs refer to outer values directly.
        name: unique within the model; made up at import where the file has none.
        source: names of the nodes of the model file this one stands for (itself, or those fused into it).
    """

    __slots__ = ("attributes", "domain", "inputs", "name", "op_type", "outputs", "source")

    def __init__(
        self,
        op_type: str,
        inputs: Iterable[Value | None],
        outputs: Iterable[Value | None],
        *,
        name: str,
        domain: str = "",
        attributes: dict[str, Attribute] | None = None,
        source: tuple[str, ...] | None = None,
    ) -> None:
        self.op_type = op_type
        self.domain = domain
        self.inputs: list[Value | None] = list(inputs)
        self.outputs: list[Value | None] = list(outputs)
        self.attributes = attributes or {}
        self.name = name
        self.source = source if source is not None else (name,)
        for value in self.outputs:
            if value is not None:
                value.producer = self

    def attr(self, name: str, default: Any = None) -> Any:
        """The plain value of an attribute, or ``default`` where the node does not have it."""
        found = self.attributes.get(name)
        return default if found is None else found.value

    def subgraphs(self) -> Iterator[Graph]:
        """The nested graphs (If, Loop, Scan)."""
        for attribute in self.attributes.values():
            if attribute.kind is AttributeKind.GRAPH:
                yield attribute.value
            elif attribute.kind is AttributeKind.GRAPHS:
                yield from attribute.value

    def input(self, index: int) -> Value | None:
        """The input at ``index``, or None where it is left out or beyond the end."""
        return self.inputs[index] if index < len(self.inputs) else None

    def output(self, index: int) -> Value | None:
        """The output at ``index``, or None where it is left out or beyond the end."""
        return self.outputs[index] if index < len(self.outputs) else None

    @property
    def qualified_op(self) -> str:
        """``Conv`` for the default domain, ``com.microsoft.Gelu`` for others."""
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type

    def __repr__(self) -> str:
        return f"Node({self.qualified_op} {self.name!r})"


class Graph:
    """A model or a nested body: nodes in topological order over named values.

    Attributes:
        inputs: values fed at run time (initializers are not among them).
        outputs: values returned; may be inputs, constants or repeated.
        nodes: topologically ordered.
        initializers: constants by name, each a Value whose ``constant`` is set.
        defaults: by name, the declared types of those initializers that a caller may replace by a value of their own
            (the model lists them among its inputs too); only on the outermost graph.
        opset_imports: version per domain (default domain ``""``); only on the outermost graph.
        metadata: the model's key-value properties; only on the outermost graph.
        source_path: the model file, where there is one (used in messages).
        computed: those constants, of this graph and of nested ones, that the session computes; only on the outermost
            graph.
        other_files: absolute paths of files that it was made from, besides ``source_path`` and those that constants lie
            in; only on the outermost graph, and not stored with it.
        origins: by name of a node of the model file (`Node.source`), the layer of the user's own model that it comes
            from; of those nodes whose exporter tells; only on the outermost graph.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.nodes: list[Node] = []
        self.initializers: dict[str, Value] = {}
        self.defaults: dict[str, ValueType] = {}
        self.opset_imports: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self.doc_string = ""
        self.source_path: str | None = None
        self.computed: list[ComputedTensor] = []
        self.other_files: list[str] = []
        self.origins: dict[str, Origin] = {}

    def origin_of(self, node: Node) -> Origin | None:
        """The layer of the user's own model that a node, of this graph or of a nested one, comes from; None where that
        is not known.  Of a node that stands for several, the first that has one."""
        return next((self.origins[name] for name in (*node.source, node.name) if name in self.origins), None)

    def users(self) -> dict[Value, list[Node]]:
        """Who reads each value: nodes of this graph, counting a node once per use.

        A node whose nested graphs capture a value is a user of that value.
        """
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    users.setdefault(value, []).append(node)
            for value in captured_values(node):
                users.setdefault(value, []).append(node)
        return users

    def captures(self) -> list[Value]:
        """Outer values this (nested) graph reads, in order of first use, deeper nesting included."""
        own: set[Value] = set(self.inputs) | set(self.initializers.values())
        for node in self.nodes:
            own.update(v for v in node.outputs if v is not None)
        seen: dict[Value, None] = {}
        for node in self.nodes:
            for value in (*node.inputs, *captured_values(node)):
                if value is not None and value not in own:
                    seen.setdefault(value)
        for value in self.outputs:
            if value not in own:
                seen.setdefault(value)
        return list(seen)

    def sort(self) -> None:
        """Put the nodes into a topological order, keeping the present order where it is one.

        Raises:
            ValueError: if there is a cycle; the message names a node on it.
        """
        known = set(self.nodes)
        state: dict[Node, int] = {}
        ordered: list[Node] = []
        for root in self.nodes:
            stack: list[tuple[Node, Iterator[Node]]] = []
            if root not in state:
                state[root] = 1
                stack.append((root, _producers(root, known)))
            while stack:
                node, pending = stack[-1]
                for producer in pending:
                    if state.get(producer) == 1:
                        raise ValueError(f"the graph has a cycle through node '{producer.name}' ({producer.op_type})")
                    if producer not in state:
                        state[producer] = 1
                        stack.append((producer, _producers(producer, known)))
                        break
                else:
                    state[node] = 2
                    ordered.append(node)
                    stack.pop()
        self.nodes = ordered


def captured_values(node: Node) -> list[Value]:
    """Outer values that the nested graphs of ``node`` read."""
    seen: dict[Value, None] = {}
    for body in node.subgraphs():
        for value in body.captures():
            seen.setdefault(value)
    return list(seen)


def _producers(node: Node, known: set[Node]) -> Iterator[Node]:
    for value in (*node.inputs, *captured_values(node)):
        if value is not None and value.producer is not None and value.producer in known:
            yield value.producer
