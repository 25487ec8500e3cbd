"""Building what stands for a node: a graph over the node's own inputs and outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import MaceError
from mace_core.graph import Attribute, AttributeKind, Graph, GraphView, Node, Value
from mace_core.tensor import Tensor

_log = logging.getLogger("mace")

_KINDS: dict[type, AttributeKind] = {int: AttributeKind.INT, float: AttributeKind.FLOAT, str: AttributeKind.STRING}

OPSET_OF_BODIES = 21
"""Of the default domain, where a model has nodes of other domains only."""


class BodyBuilder:
    """Collects nodes, named after the one they stand for."""

    def __init__(self, view: GraphView, node: Node) -> None:
        self.view = view
        self.node = node
        self.graph = Graph(node.name)
        self.graph.inputs = list(dict.fromkeys(value for value in node.inputs if value is not None))
        self.graph.outputs = [value for value in node.outputs if value is not None]

    @property
    def opset(self) -> int:
        """The version of the default domain that holds for the body."""
        return self.view.opset() or OPSET_OF_BODIES

    def op(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        into: Value | None = None,
        domain: str = "",
    ) -> Value:
        """Append a node with one output; ``into``: the value of the original node it computes.

        Attributes are plain values (whole numbers, floats, text, lists of whole numbers) or `Attribute`.
        """
        name = f"{self.node.name}/{op_type}_{len(self.graph.nodes)}"
        target = into if into is not None else Value(name)
        made = Node(
            op_type,
            inputs,
            [None],
            name=name,
            domain=domain,
            attributes={key: _attribute(value) for key, value in (attributes or {}).items()},
            source=self.node.source,
        )
        made.outputs[0] = target  # the original node stays the producer of its own values
        if into is None:
            target.producer = made
        self.graph.nodes.append(made)
        return target

    def several(self, op_type: str, inputs: Sequence[Value | None], count: int) -> list[Value]:
        """Append a node with ``count`` new outputs."""
        name = f"{self.node.name}/{op_type}_{len(self.graph.nodes)}"
        targets = [Value(f"{name}_{index}") for index in range(count)]
        self.graph.nodes.append(Node(op_type, inputs, targets, name=name, source=self.node.source))
        return targets

    def into(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any],
        outputs: Sequence[Value | None],
    ) -> None:
        """Append a node that computes values of the original node."""
        name = f"{self.node.name}/{op_type}_{len(self.graph.nodes)}"
        plain = {key: _attribute(value) for key, value in attributes.items()}
        made = Node(op_type, inputs, [None] * len(outputs), name=name, attributes=plain, source=self.node.source)
        made.outputs[:] = outputs  # the original node stays their producer
        self.graph.nodes.append(made)

    def constant(self, content: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Value:
        """A constant."""
        name = f"{self.node.name}/constant_{len(self.graph.initializers)}"
        value = Value(name, constant=Tensor.from_numpy(np.asarray(content, dtype)))
        self.graph.initializers[name] = value
        return value

    def scalar_like(self, number: float, value: Value) -> Value:
        """A number of the element type of ``value``."""
        found = self.view.tensor_type(value)
        return self.constant(number, np.float32 if found is None else found.dtype.numpy)


def _attribute(value: Any) -> Attribute:
    if isinstance(value, Attribute):
        return value
    kind = _KINDS.get(type(value))
    if kind is not None:
        return Attribute(kind, value)
    return Attribute(AttributeKind.INTS, tuple(int(number) for number in value))


Body = Callable[[BodyBuilder, Node], bool]
"""Appends what stands for the node; False where this form of it is not known."""


class Bodies:
    """Which function says what an operator of ``domain`` is made of."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self._by_operator: dict[str, Body] = {}

    def register(self, *op_types: str) -> Callable[[Body], Body]:
        """Decorator: the function builds these operators."""

        def keep(function: Body) -> Body:
            self._by_operator.update(dict.fromkeys(op_types, function))
            return function

        return keep

    def operators(self) -> list[str]:
        """The operators that have a body."""
        return sorted(self._by_operator)

    def build(self, view: GraphView, node: Node) -> Graph | None:
        """What stands for ``node``, or None where nothing is known, or the node makes no sense."""
        found = self._by_operator.get(node.op_type) if node.domain == self.domain else None
        return None if found is None else built(found, view, node)


def built(body: Body, view: GraphView, node: Node) -> Graph | None:
    """What ``body`` makes of ``node``; None, and a line in the log, where the node makes no sense."""
    builder = BodyBuilder(view, node)
    try:
        return builder.graph if body(builder, node) else None
    except MaceError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        _log.info("node '%s' (%s) has no body: %s", node.name, node.qualified_op, error)
        return None
