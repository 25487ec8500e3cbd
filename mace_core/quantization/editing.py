"""Changing a graph: new values and constants under names that are free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, Graph, Node, Value
from mace_core.graph.names import free_name
from mace_core.tensor import Tensor, TensorType, ValueType


class Editor:
    """Of one graph, an outermost one.

    Attributes:
        graph: what is changed.
        users: who reads each value, as it was at the beginning, and kept by those who change it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self._names = {value.name for value in (*graph.inputs, *graph.initializers.values())}
        self._nodes: set[str] = set()
        self._collect(graph)

    def _collect(self, graph: Graph) -> None:
        for node in graph.nodes:
            self._nodes.add(node.name)
            self._names.update(value.name for value in node.outputs if value is not None)
            for body in node.subgraphs():
                self._names.update(value.name for value in (*body.inputs, *body.initializers.values()))
                self._collect(body)

    def value(self, name: str, type: ValueType | None = None) -> Value:
        """A new value that a node is to compute."""
        return Value(free_name(name, self._names), type)

    def constant(self, name: str, content: Tensor | npt.NDArray[Any]) -> Value:
        """A new initializer."""
        tensor = content if isinstance(content, Tensor) else Tensor.from_numpy(np.asarray(content, order="C"))
        value = Value(free_name(name, self._names), None, tensor)
        self.graph.initializers[value.name] = value
        return value

    def node(
        self,
        op_type: str,
        inputs: Iterable[Value | None],
        outputs: Iterable[Value],
        *,
        name: str,
        domain: str = "",
        attributes: dict[str, Attribute] | None = None,
    ) -> Node:
        """A new node, which the caller puts into its place."""
        return Node(op_type, inputs, outputs, name=free_name(name, self._nodes), domain=domain, attributes=attributes)

    def replace_input_constant(self, node: Node, index: int, content: npt.NDArray[Any]) -> None:
        """Give an input of ``node`` another content, under the old name where nobody else reads it."""
        old = node.inputs[index]
        assert old is not None
        if len(self.users.get(old, ())) > 1 or old in self.graph.outputs or old.name in self.graph.defaults:
            node.inputs[index] = self.constant(f"{node.name}_{old.name}", content)
            self.users[old].remove(node)
            return
        old.constant = Tensor.from_numpy(np.asarray(content, order="C"))
        old.type = TensorType(old.constant.dtype, old.constant.shape)

    def sweep(self) -> None:
        """Remove the constants that nobody reads."""
        used = {value for value, readers in self.graph.users().items() if readers} | set(self.graph.outputs)
        unread = [name for name, value in self.graph.initializers.items() if value not in used]
        for name in unread:
            del self.graph.initializers[name]
