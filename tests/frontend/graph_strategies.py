"""Random small graphs: every kind of attribute, type and constant, nested graphs that read outer values."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.tensor import DType, MapType, OptionalType, SequenceType, Tensor, TensorType, ValueType

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
dims = st.one_of(st.integers(0, 2**40), words, st.none())
dtypes = st.sampled_from(list(DType))
tensor_types = st.builds(TensorType, dtypes, st.one_of(st.none(), st.lists(dims, max_size=4).map(tuple)))
types: st.SearchStrategy[ValueType] = st.recursive(
    tensor_types,
    lambda inner: st.one_of(
        st.builds(SequenceType, inner),
        st.builds(OptionalType, inner),
        st.builds(MapType, st.sampled_from([DType.INT64, DType.STRING]), inner),
    ),
    max_leaves=3,
)
texts = st.one_of(words, st.just(""), st.binary(max_size=4).map(lambda tail: b"\xff" + tail))


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(dtypes)
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = int(np.prod(shape, dtype=np.int64))
    if dtype is DType.STRING:
        strings = np.empty(size, object)
        strings[:] = [draw(texts) for _ in range(size)]
        return Tensor(dtype, shape, strings)
    nbytes = dtype.nbytes(size)
    return Tensor(dtype, shape, np.frombuffer(draw(st.binary(min_size=nbytes, max_size=nbytes)), np.uint8))


@st.composite
def sparse_tensors(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    size = draw(st.integers(1, 5))
    places = np.array(sorted(draw(st.sets(st.integers(0, size - 1)))), np.int64)
    return Tensor.from_numpy(places.astype(np.float32)), Tensor.from_numpy(places), (size,)


_PLAIN: dict[AttributeKind, st.SearchStrategy[Any]] = {
    AttributeKind.FLOAT: st.floats(width=32),
    AttributeKind.INT: st.integers(-(2**63), 2**63 - 1),
    AttributeKind.STRING: texts,
    AttributeKind.TENSOR: tensors(),
    AttributeKind.SPARSE_TENSOR: sparse_tensors(),
    AttributeKind.TYPE: types,
}
_PLURAL = {
    AttributeKind.FLOATS: AttributeKind.FLOAT,
    AttributeKind.INTS: AttributeKind.INT,
    AttributeKind.STRINGS: AttributeKind.STRING,
    AttributeKind.TENSORS: AttributeKind.TENSOR,
    AttributeKind.SPARSE_TENSORS: AttributeKind.SPARSE_TENSOR,
    AttributeKind.TYPES: AttributeKind.TYPE,
}


class _Builder:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.draw(words)}{self.count}"

    def value(self, constant: Tensor | None = None) -> Value:
        type = None if constant is not None else self.draw(st.one_of(st.none(), types))
        return Value(self.name(), type, constant)

    def graph(self, outer: list[Value], depth: int) -> Graph:
        draw = self.draw
        graph = Graph(draw(words))
        graph.doc_string = draw(st.one_of(st.just(""), words))
        graph.inputs = [self.value() for _ in range(draw(st.integers(0, 2)))]
        for _ in range(draw(st.integers(0, 2))):
            constant = self.value(draw(tensors()))
            graph.initializers[constant.name] = constant
        own = [*graph.inputs, *graph.initializers.values()]
        for _ in range(draw(st.integers(0, 4))):
            node = self.node([*outer, *own], depth)
            graph.nodes.append(node)
            own += [v for v in node.outputs if v is not None]
        graph.outputs = draw(st.lists(st.sampled_from(own), unique=True, max_size=3)) if own else []
        return graph

    def node(self, visible: list[Value], depth: int) -> Node:
        draw = self.draw
        some = st.one_of(st.none(), st.sampled_from(visible)) if visible else st.none()
        inputs = draw(st.lists(some, max_size=3))
        outputs = [
            self.value() if index == 0 or draw(st.booleans()) else None for index in range(draw(st.integers(0, 2)))
        ]
        attributes = {draw(words): self.attribute(visible, depth) for _ in range(draw(st.integers(0, 2)))}
        name = self.name()
        source = draw(st.one_of(st.none(), st.lists(words, max_size=2).map(tuple)))
        return Node(
            draw(st.sampled_from(["Op", "Öp"])),
            inputs,
            outputs,
            name=name,
            domain="toy",
            attributes=attributes,
            source=source,
        )

    def attribute(self, visible: list[Value], depth: int) -> Attribute:
        draw = self.draw
        nested = [AttributeKind.GRAPH, AttributeKind.GRAPHS]
        plain = [kind for kind in AttributeKind if kind not in nested]
        kind = draw(st.sampled_from([*plain, *nested * (4 if depth else 0)]))
        if kind is AttributeKind.GRAPH:
            return Attribute(kind, self.graph(visible, depth - 1))
        if kind is AttributeKind.GRAPHS:
            return Attribute(kind, tuple(self.graph(visible, depth - 1) for _ in range(draw(st.integers(0, 2)))))
        if kind in _PLURAL:
            return Attribute(kind, tuple(draw(st.lists(_PLAIN[_PLURAL[kind]], max_size=3))))
        return Attribute(kind, draw(_PLAIN[kind]))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """An outermost graph of custom operators."""
    graph = _Builder(draw).graph([], depth=2)
    graph.opset_imports = {"": draw(st.integers(13, 18)), "toy": draw(st.integers(1, 5))}
    graph.metadata = draw(st.dictionaries(words, st.one_of(words, st.just("")), max_size=2))
    return graph
