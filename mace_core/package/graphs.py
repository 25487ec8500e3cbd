"""Graphs in packages: an object of JSON, whose constants lie in the section of the weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from mace_core.errors import ModelError, PackageError
from mace_core.graph import AttributeKind, Graph, Node, Value
from mace_core.graph.serialize import decode_graph, encode_graph
from mace_core.package.layout import ALIGNMENT
from mace_core.package.reader import Package
from mace_core.package.writer import NewSection
from mace_core.tensor import DType, FileRange, MapType, OptionalType, SequenceType, Tensor, TensorType, ValueType

OPTIMIZED = "optimized"
"""The graph that was compiled."""
MODEL = "model"
"""The model without the steps before and after it that the optimized graph holds."""
SOURCE = "source"
"""The graph as it was imported, where the other one does not do: inputs that have defaults may be fed."""

GRAPH_FORM = 1
"""Of the object that a graph is; told in the facts of its section."""

_LARGEST = (1 << 63) - 1
_LATEST_OPSET = 1000
"""No domain gets there; more is no version of operators."""
_TEXT, _INT, _FLOAT = (str, bytes), int, (float, int)
_PLAIN: dict[AttributeKind, tuple[type, ...]] = {
    AttributeKind.FLOAT: _FLOAT,
    AttributeKind.INT: (_INT,),
    AttributeKind.STRING: _TEXT,
    AttributeKind.FLOATS: _FLOAT,
    AttributeKind.INTS: (_INT,),
    AttributeKind.STRINGS: _TEXT,
}
_LISTS = frozenset({AttributeKind.FLOATS, AttributeKind.INTS, AttributeKind.STRINGS})


class _FaultError(Exception):
    """What is wrong with a graph that was read, as the rest of a sentence."""


class Weights:
    """The constants of the graphs of a package; equal ones lie there once.

    Attributes:
        parts: form the section when concatenated.
    """

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self._size = 0
        self._places: dict[tuple[int, bytes], int] = {}

    def add(self, tensor: Tensor) -> list[Any]:
        """What stands for a constant in a graph."""
        if tensor.dtype is DType.STRING:
            return ["s", [t if isinstance(t, str) else [t.hex()] for t in tensor.payload.reshape(-1).tolist()]]
        payload = tensor.payload
        content = payload.data if payload.size else memoryview(b"")
        key = (payload.nbytes, hashlib.sha256(content).digest())
        offset = self._places.get(key)
        if offset is None:
            offset = self._places[key] = self._size
            gap = -payload.nbytes % ALIGNMENT
            self.parts += (content, bytes(gap))
            self._size += payload.nbytes + gap
        return ["w", offset, payload.nbytes]


def graph_sections(graphs: Mapping[str, Graph]) -> list[NewSection]:
    """The sections of graphs, by name, and of their weights."""
    weights = Weights()
    sections = []
    for name, graph in graphs.items():
        document = encode_graph(graph, weights.add)
        del document["path"]
        text = json.dumps(document, separators=(",", ":")).encode()
        sections.append(NewSection("graph", name, [text], name == OPTIMIZED, {"form": GRAPH_FORM}))
    return [*sections, NewSection("weights", "", weights.parts, is_required=True)]


def read_graph(package: Package, name: str = OPTIMIZED) -> Graph:
    """A graph of a package; its constants are views of the file.

    Raises:
        PackageError: if it has none of this name, or one that is no graph.
    """
    section, weights = package.find("graph", name), package.find("weights", "")
    if section is None or weights is None:
        raise PackageError(f"{package.label} has no graph: it was made by something else than mace")
    if section.facts.get("form") != GRAPH_FORM:
        raise PackageError(
            f"{package.label} holds a graph in the form {section.facts.get('form')!r:.20}, and this version of mace "
            f"reads form {GRAPH_FORM}: update mace, or compile the model again"
        )
    content = package.array(weights)

    def read(dtype: DType, shape: tuple[int, ...], row: list[Any]) -> Tensor:
        if any(type(size) is not int or not 0 <= size <= _LARGEST for size in shape):
            raise _FaultError("a constant has no shape")
        if dtype is DType.STRING:
            return _strings(shape, row)
        form, offset, nbytes = row
        if form != "w" or type(offset) is not int or type(nbytes) is not int:
            raise _FaultError("a constant has no place")
        if offset < 0 or nbytes != dtype.nbytes(math.prod(shape)) or offset + nbytes > content.size:
            raise _FaultError("a constant is not in the weights")
        source = None
        if package.path is not None and package.identity is not None:
            source = FileRange(str(package.path), weights.offset + offset, nbytes, package.identity)
        return Tensor(dtype, shape, content[offset : offset + nbytes], source)

    try:
        document = json.loads(bytes(package.view(section)))
        graph = decode_graph({**document, "path": None}, read)
        _Check(graph, is_source=name == SOURCE or package.find("graph", SOURCE) is None).run()
    except _FaultError as error:
        raise PackageError(f"{package.label} is damaged: in its graph, {error}; compile it again") from error
    except (ModelError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise PackageError(f"{package.label} is damaged: its graph is not one; compile it again") from error
    graph.source_path = None if package.path is None else str(package.path)
    return graph


def _strings(shape: tuple[int, ...], row: list[Any]) -> Tensor:
    import numpy as np

    form, items = row
    if form != "s" or len(items) != math.prod(shape):
        raise _FaultError("a constant of strings has others")
    strings = np.empty(len(items), object)
    strings[:] = [text if isinstance(text, str) else bytes.fromhex(text[0]) for text in items]
    return Tensor(DType.STRING, shape, strings)


class _Check:
    """Looks through a graph that was read: what follows relies on its form."""

    def __init__(self, graph: Graph, *, is_source: bool) -> None:
        """``is_source``: it is the one in which inputs that have defaults are fed."""
        self._graph = graph
        self._is_source = is_source

    def run(self) -> None:
        """Raises _FaultError for what cannot be."""
        graph = self._graph
        self._body(graph, set())
        for versions in (graph.opset_imports, graph.metadata):
            _texts(versions)
        _texts(graph.metadata.values())
        for domain, version in graph.opset_imports.items():
            _integer(version)
            if not 1 <= version <= _LATEST_OPSET:
                raise _FaultError(f"the operators of '{domain:.40}' have version {version}")
        for name, type in graph.defaults.items():
            _texts((name,))
            if self._is_source and name not in graph.initializers:
                raise _FaultError(f"the default '{name!s:.40}' has no value")
            _type(type)
        for computed in graph.computed:
            recipe = computed.recipe
            if recipe.inputs or len(recipe.outputs) != 1:
                raise _FaultError("a computed constant has another recipe")
            self._body(recipe, set())
            made = recipe.outputs[0].type
            if isinstance(made, TensorType) and not _fits(made, computed):
                raise _FaultError("a computed constant has another type than its recipe gives")

    def _body(self, graph: Graph, outer: set[Value]) -> None:
        _texts((graph.name, graph.doc_string))
        known = set(outer)
        for value in graph.inputs:
            self._new(value, known)
            if value.constant is not None or value.producer is not None:
                raise _FaultError(f"the input '{value.name:.40}' is made by the graph")
        for name, value in graph.initializers.items():
            _texts((name,))
            if value.constant is None or value.producer is not None:
                raise _FaultError(f"the constant '{name:.40}' has no value")
            if isinstance(value.type, TensorType) and not _fits(value.type, value.constant):
                raise _FaultError(f"the constant '{name:.40}' has another type")
            if value not in known:
                self._new(value, known)
        for node in graph.nodes:
            self._node(node, known)
        for value in graph.outputs:
            if value not in known and value.constant is None:
                raise _FaultError(f"the output '{value.name!s:.40}' is made by nothing")

    def _new(self, value: Value, known: set[Value]) -> None:
        _texts((value.name,))
        if value in known:
            raise _FaultError(f"the value '{value.name:.40}' is made twice")
        if value.type is not None:
            _type(value.type)
        known.add(value)

    def _node(self, node: Node, known: set[Value]) -> None:
        _texts((node.op_type, node.domain, node.name, *node.source))
        for value in node.inputs:
            if value is not None and value not in known and value.constant is None:
                raise _FaultError(f"the node '{node.name:.40}' reads '{value.name!s:.40}' before it is made")
        for name, attribute in node.attributes.items():
            _texts((name,))
            self._attribute(attribute.kind, attribute.value)
        for body in node.subgraphs():
            self._body(body, known)
        for value in node.outputs:
            if value is None:
                continue
            if value.constant is not None:
                raise _FaultError(f"the node '{node.name:.40}' makes a constant")
            self._new(value, known)

    def _attribute(self, kind: AttributeKind, value: Any) -> None:
        plain = _PLAIN.get(kind)
        if plain is not None:
            items = value if kind in _LISTS else (value,)
            if any(isinstance(item, bool) or not isinstance(item, plain) for item in items):
                raise _FaultError(f"an attribute of the kind {kind.name} has another value")
        elif kind in (AttributeKind.TYPE, AttributeKind.TYPES):
            for type in value if kind is AttributeKind.TYPES else (value,):
                _type(type)
        elif kind in (AttributeKind.SPARSE_TENSOR, AttributeKind.SPARSE_TENSORS):
            for *_, dims in value if kind is AttributeKind.SPARSE_TENSORS else (value,):
                for size in dims:
                    _integer(size)


def _type(type: ValueType) -> None:
    match type:
        case TensorType():
            for size in type.shape or ():
                if size is not None and not isinstance(size, str):
                    _integer(size)
                    if size < 0:
                        raise _FaultError("a size is negative")
        case SequenceType() | OptionalType():
            _type(type.element)
        case MapType():
            _type(type.value)


def _fits(type: TensorType, constant: Tensor) -> bool:
    """Whether a constant is of a type."""
    if type.dtype is not constant.dtype:
        return False
    if type.shape is None:
        return True
    pairs = zip(type.shape, constant.shape, strict=False)
    return len(type.shape) == len(constant.shape) and all(not isinstance(a, int) or a == b for a, b in pairs)


def _texts(items: Iterable[Any]) -> None:
    for item in items:
        if not isinstance(item, str):
            raise _FaultError(f"{item!r:.40} is no text")


def _integer(value: Any) -> None:
    if type(value) is not int or abs(value) > _LARGEST:
        raise _FaultError(f"{value!r:.40} is no integer")
