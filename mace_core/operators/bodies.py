"""Building what stands for a node: a graph over the node's own inputs and outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import MaceError
from mace_core.graph import Attribute, AttributeKind, Graph, GraphView, Node, Value
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType, Tensor
from mace_core.tensor.symbolic import SymbolicTensor, as_objects

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
        """A constant; sizes in it may be symbolic."""
        name = f"{self.node.name}/constant_{len(self.graph.initializers)}"
        value = Value(name, constant=_constant(content, dtype))
        self.graph.initializers[name] = value
        return value

    def numbers(self, count: int, shape: Sequence[int], first: int = 0) -> Value:
        """``count`` numbers from ``first`` on, int64, in this shape."""
        if not is_symbolic(count) and not is_symbolic(first):
            return self.constant(np.arange(first, first + count, dtype=np.int64).reshape(shape))
        numbers = self.op("Range", [self.constant(bound, np.int64) for bound in (first, first + count, 1)])
        return self.op("Reshape", [numbers, self.constant(list(shape), np.int64)])

    def scalar_like(self, number: float, value: Value) -> Value:
        """A number of the element type of ``value``."""
        found = self.view.tensor_type(value)
        return self.constant(number, np.float32 if found is None else found.dtype.numpy)


def _constant(content: npt.ArrayLike, dtype: npt.DTypeLike | None) -> Tensor:
    items = content if isinstance(content, list | tuple) else [content]
    if dtype is not None and any(is_symbolic(item) for item in items):
        elements = as_objects(list(items), (len(items),) if items is content else ())
        return SymbolicTensor(DType.from_numpy(np.dtype(dtype)), elements)
    return Tensor.from_numpy(np.asarray(content, dtype))


def _attribute(value: Any) -> Attribute:
    if isinstance(value, Attribute):
        return value
    kind = _KINDS.get(type(value))
    if kind is not None:
        return Attribute(kind, value)
    return Attribute(AttributeKind.INTS, tuple(int(number) for number in value))


Body = Callable[[BodyBuilder, Node], bool]
"""Appends what stands for the node; False where this form of it is not known."""


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


def given(node: Node, index: int) -> Value:
    """An input that must be there.

    Raises:
        ValueError: if it is left out.
    """
    value = node.input(index)
    if value is None:
        raise ValueError(f"node '{node.name}' ({node.qualified_op}) lacks input {index}")
    return value


def made(node: Node) -> Value:
    """The first output.

    Raises:
        ValueError: if it is left out.
    """
    value = node.output(0)
    if value is None:
        raise ValueError(f"node '{node.name}' ({node.qualified_op}) lacks its output")
    return value


def kept(node: Node, *dropped: str) -> dict[str, Attribute]:
    """The attributes but for some."""
    return {key: value for key, value in node.attributes.items() if key not in dropped}


def transposed(b: BodyBuilder, value: Value, rank: int) -> Value:
    """The last two axes exchanged."""
    return b.op("Transpose", [value], {"perm": [*range(rank - 2), rank - 1, rank - 2]})
