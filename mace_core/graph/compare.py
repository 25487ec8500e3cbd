"""Whether two graphs say the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.graph.graph import Graph, Node, Value
from mace_core.tensor import Tensor


def graphs_equal(one: Graph, other: Graph) -> bool:
    """Whether two graphs are equal: names, types, nodes in order, constants bit by bit, bodies, opsets, metadata.

    Where a graph comes from (``source_path``, a node's ``source``, a constant's place in a file) does not count, nor
    do optional inputs and outputs left out at the end of a list.
    """
    return graph_difference(one, other) is None


def graph_difference(one: Graph, other: Graph) -> str | None:
    """The first difference between two graphs as a sentence, or None if they are equal (see :func:`graphs_equal`)."""
    try:
        _Comparison().graphs(one, other, "graph")
    except _DifferenceError as found:
        return str(found)
    return None


class _DifferenceError(Exception):
    pass


class _Comparison:
    def __init__(self) -> None:
        self._partner: dict[Value, Value] = {}

    def graphs(self, one: Graph, other: Graph, where: str) -> None:
        _same(one.name, other.name, f"{where}: name")
        _same(one.opset_imports, other.opset_imports, f"{where}: opset imports")
        _same(one.metadata, other.metadata, f"{where}: metadata")
        _same(one.doc_string, other.doc_string, f"{where}: doc string")
        self._define(one.inputs, other.inputs, f"{where}: inputs")
        _same(sorted(one.initializers), sorted(other.initializers), f"{where}: initializers")
        _same(one.defaults, other.defaults, f"{where}: defaults")
        for name, value in one.initializers.items():
            self._define([value], [other.initializers[name]], f"{where}: initializer '{name}'")
        _same([n.name for n in one.nodes], [n.name for n in other.nodes], f"{where}: node names")
        for a, b in zip(one.nodes, other.nodes, strict=True):
            self._define(_trimmed(a.outputs), _trimmed(b.outputs), f"{where}: outputs of node '{a.name}'")
        for a, b in zip(one.nodes, other.nodes, strict=True):
            self._nodes(a, b, f"{where}: node '{a.name}'")
        self._read(one.outputs, other.outputs, f"{where}: outputs")

    def _nodes(self, one: Node, other: Node, where: str) -> None:
        _same(one.qualified_op, other.qualified_op, f"{where}: operator")
        self._read(_trimmed(one.inputs), _trimmed(other.inputs), f"{where}: inputs")
        _same(sorted(one.attributes), sorted(other.attributes), f"{where}: attribute names")
        for name, attribute in one.attributes.items():
            self._attributes(attribute, other.attributes[name], f"{where}: attribute '{name}'")

    def _attributes(self, one: Attribute, other: Attribute, where: str) -> None:
        _same(one.kind, other.kind, f"{where}: kind")
        self._plain(one.value, other.value, where)

    def _plain(self, one: Any, other: Any, where: str) -> None:
        if isinstance(one, Graph) and isinstance(other, Graph):
            self.graphs(one, other, where)
        elif isinstance(one, Tensor) and isinstance(other, Tensor):
            _same_tensors(one, other, where)
        elif isinstance(one, tuple) and isinstance(other, tuple):
            _same(len(one), len(other), f"{where}: length")
            for a, b in zip(one, other, strict=True):
                self._plain(a, b, where)
        elif isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
            return
        else:
            _same((type(one), one), (type(other), other), where)

    def _define(self, one: Sequence[Value | None], other: Sequence[Value | None], where: str) -> None:
        """Pair values that stand at the same places; they must agree in name, type and content."""
        _same(len(one), len(other), f"{where}: number")
        for a, b in zip(one, other, strict=True):
            if a is None or b is None:
                _same(a is None, b is None, f"{where}: left out")
                continue
            _same(a.name, b.name, f"{where}: name")
            _same(a.type, b.type, f"{where}: type of '{a.name}'")
            _same(a.constant is None, b.constant is None, f"{where}: whether '{a.name}' is constant")
            if a.constant is not None and b.constant is not None:
                _same_tensors(a.constant, b.constant, f"{where}: content of '{a.name}'")
            self._partner[a] = b

    def _read(self, one: Sequence[Value | None], other: Sequence[Value | None], where: str) -> None:
        _same(len(one), len(other), f"{where}: number")
        for a, b in zip(one, other, strict=True):
            if (None if a is None else self._partner.get(a)) is not b:
                raise _DifferenceError(f"{where}: {a!r} against {b!r}")


def _trimmed(values: Sequence[Value | None]) -> Sequence[Value | None]:
    end = len(values)
    while end and values[end - 1] is None:
        end -= 1
    return values[:end]


def _same_tensors(one: Tensor, other: Tensor, where: str) -> None:
    _same((one.dtype, one.shape), (other.dtype, other.shape), where)
    _same(one.payload.tobytes() if one.nbytes else one.payload.tolist(),
          other.payload.tobytes() if other.nbytes else other.payload.tolist(), where)  # fmt: skip


def _same(one: object, other: object, what: str) -> None:
    if one != other:
        raise _DifferenceError(f"{what}: {_shown(one)} against {_shown(other)}")


def _shown(thing: object) -> str:
    if isinstance(thing, AttributeKind):
        return thing.name
    if isinstance(thing, bytes):
        return f"{len(thing)} bytes"
    text = repr(thing)
    return text if len(text) <= 200 else f"{text[:200]}…"
