"""Types of a graph's values before any input is known: sizes that the model leaves open are symbols."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph import Graph, Node, Value
from mace_core.operators.context import NodeContext
from mace_core.operators.resolver import Resolver
from mace_core.symbolic import Trace, is_symbolic, new_symbol, writing_for_people
from mace_core.tensor import TensorType, ValueType

_log = logging.getLogger("mace.optimizer")

_HINT = 32
"""Open sizes are taken to be multiples of it when costs are compared: most models can halve them a few times."""


class Facts:
    """What is known of the values of a graph.

    Attributes:
        resolver: with the types and contents that were found.
        trace: of the symbols; None where all sizes are numbers.
    """

    def __init__(self, graph: Graph, opset_imports: Mapping[str, int], around: Mapping[Value, ValueType]) -> None:
        """``around``: types of values outside of a nested graph."""
        self.trace: Trace | None = None
        self._symbols: dict[str, int] = {}
        self._make_symbols(graph)
        self._uncertain: set[Value] = set()
        self.resolver = _Walk(graph, opset_imports)
        for value, found in around.items():
            self.resolver.set_type(value, found)
        for value in graph.inputs:
            declared = self._declared(value)
            if declared is not None:
                self.resolver.set_type(value, declared)
        with np.errstate(all="ignore"), writing_for_people():
            for node in graph.nodes:
                self._visit(node)

    def shape(self, value: Value) -> tuple[int, ...] | None:
        """The shape, with symbols in it; None where not even the rank is known."""
        found = self.resolver.type_of(value)
        return found.shape if isinstance(found, TensorType) and found.is_concrete else None  # type: ignore[return-value]

    def is_certain(self, value: Value) -> bool:
        """Whether the sizes that are numbers are these numbers for all shapes that the inputs may have."""
        return value not in self._uncertain

    def _visit(self, node: Node) -> None:
        guards = len(self.trace.guards) if self.trace is not None else 0
        try:
            self.resolver.visit(node)
        except ModelError as error:  # told when the model is planned; here it may be the hint's fault
            _log.debug("the shapes behind node '%s' (%s) are not known: %s", node.name, node.op_type, error)
        decided = self.trace is not None and len(self.trace.guards) > guards
        uncertain = decided or any(value in self._uncertain for value in node.inputs)
        for value in node.outputs:
            if value is None:
                continue
            if self.resolver.type_of(value) is None and (declared := self._declared(value)) is not None:
                self.resolver.set_type(value, declared)
            elif uncertain:
                self._uncertain.add(value)

    def _make_symbols(self, graph: Graph) -> None:
        names: dict[str, None] = {}
        for value in _values(graph):
            if isinstance(value.type, TensorType) and value.type.shape is not None and value.constant is None:
                names.update(
                    dict.fromkeys(
                        _name(value, axis) for axis, size in enumerate(value.type.shape) if not isinstance(size, int)
                    )
                )
        if names:
            self.trace = Trace()
            for number, name in enumerate(names):
                self._symbols[name] = new_symbol(self.trace, name, _HINT * (number % 8 + 2), low=1)

    def _declared(self, value: Value) -> TensorType | None:
        declared = value.type
        if not isinstance(declared, TensorType) or declared.shape is None:
            return None
        sizes = (
            size if isinstance(size, int) else self._symbols[_name(value, axis)]
            for axis, size in enumerate(declared.shape)
        )
        return TensorType(declared.dtype, tuple(sizes))


def _name(value: Value, axis: int) -> str:
    assert isinstance(value.type, TensorType) and value.type.shape is not None
    size = value.type.shape[axis]
    return size if isinstance(size, str) else f"{value.name}.{axis}"


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from (value for value in node.outputs if value is not None)


class _Walk(Resolver):
    def visit(self, node: Node) -> None:
        """Find the types of the node's outputs.

        Raises:
            ModelError: if its inputs cannot be.
        """
        if self._inputs_reached(node):
            opset = self.opset_imports.get(node.domain, 1)
            self._resolve_node(NodeContext(node, opset, self.types, self.contents, self))

    def _check_work(self, node: Node) -> None:
        """Of open sizes, too much work is told when the model is planned; to ask here would be one more guard."""
        shapes = [self.types.get(value) for value in (*node.inputs, *node.outputs) if value is not None]
        if not any(isinstance(type_, TensorType) and any(map(is_symbolic, type_.shape or ())) for type_ in shapes):
            super()._check_work(node)
