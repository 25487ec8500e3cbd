"""Resolutions as plain data, by value and node names, so that a warm start resolves nothing.

Sizes that are not decided are expressions (`mace_core.symbolic.stored`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.graph.graph import Graph, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.tensor import DType, MapType, OptionalType, SequenceType, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor, as_objects

if TYPE_CHECKING:
    from mace_core.symbolic.stored import SizeReader, SizeWriter

_FORMAT = 1


def dump_resolution(graph: Graph, resolution: Resolution) -> bytes:
    """The resolution of ``graph`` as bytes.

    Raises:
        ValueError: as `describe_resolution`.
    """
    return json.dumps(describe_resolution(graph, resolution), separators=(",", ":")).encode()


def describe_resolution(graph: Graph, resolution: Resolution, sizes: SizeWriter | None = None) -> dict[str, Any]:
    """The resolution of ``graph`` as data for JSON.

    Constants are left out: the graph itself has them.

    Args:
        graph: what was resolved.
        resolution: speaks of its values alone.
        sizes: writes sizes that are expressions; None where all are numbers.

    Raises:
        ValueError: if the resolution speaks of values that the graph does not have, or of sizes of another plan.
    """
    values, nodes = _index(graph)
    value_keys = {value: key for key, value in values.items()}
    node_keys = {node: key for key, node in nodes.items()}
    try:
        return {
            "format": _FORMAT,
            "types": {value_keys[v]: _dump_type(t, sizes) for v, t in resolution.types.items() if v.constant is None},
            "known": {value_keys[v]: _dump_tensor(t, sizes) for v, t in resolution.known.items()},
            "blocked": {node_keys[n]: [value_keys[v] for v in vs] for n, vs in resolution.blocked.items()},
        }
    except KeyError as unknown:
        raise ValueError(f"the resolution is not one of this graph: it speaks of {unknown}") from None


def load_resolution(graph: Graph, blob: bytes) -> Resolution:
    """The resolution that :func:`dump_resolution` wrote for ``graph`` or an equal one.

    Raises:
        ValueError: if the bytes are damaged, of another version or of another graph.
    """
    try:
        document = json.loads(blob)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"the stored resolution does not fit this graph ({type(error).__name__}: {error})") from None
    return read_resolution(graph, document)


def read_resolution(graph: Graph, document: Any, sizes: SizeReader | None = None) -> Resolution:
    """The resolution that :func:`describe_resolution` described for ``graph`` or an equal one.

    Args:
        graph: what was resolved.
        document: its description.
        sizes: reads sizes that are expressions; None where all are numbers.

    Raises:
        ValueError: if it is damaged, of another version or of another graph.
    """
    values, nodes = _index(graph)
    try:
        if document["format"] != _FORMAT:
            raise ValueError(f"the stored resolution has format {document['format']}, not {_FORMAT}")
        types = {value: TensorType(c.dtype, c.shape) for value in values.values() if (c := value.constant) is not None}
        return Resolution(
            {**types, **{values[key]: _load_type(stored, sizes) for key, stored in document["types"].items()}},
            {values[key]: _load_tensor(stored, sizes) for key, stored in document["known"].items()},
            {nodes[key]: tuple(values[v] for v in stored) for key, stored in document["blocked"].items()},
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"the stored resolution does not fit this graph ({type(error).__name__}: {error})") from None


def _index(graph: Graph) -> tuple[dict[str, Value], dict[str, Node]]:
    """Every value and node, nested graphs included, by a key that an equal graph gives the same.

    Names are unique in what importers make; a number keeps keys apart where a graph built by hand repeats one.
    """
    values: dict[str, Value] = {}
    nodes: dict[str, Node] = {}
    seen: set[Value] = set()
    for item in _items(graph):
        if isinstance(item, Node):
            nodes[_free_key(item.name, nodes)] = item
        elif item not in seen:
            seen.add(item)
            values[_free_key(item.name, values)] = item
    return values, nodes


def _free_key(name: str, taken: dict[str, Any]) -> str:
    key, number = name, 1
    while key in taken:
        number += 1
        key = f"{name}\0{number}"
    return key


def _items(graph: Graph) -> Iterator[Value | Node]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph.nodes:
        yield node
        yield from (value for value in (*node.inputs, *node.outputs) if value is not None)
        for body in node.subgraphs():
            yield from _items(body)
    yield from graph.outputs


def _dump_type(found: ValueType, sizes: SizeWriter | None) -> Any:
    if isinstance(found, TensorType):
        if found.shape is None:
            return [found.dtype.value, None]
        return [found.dtype.value, list(found.shape) if sizes is None else [sizes.size(dim) for dim in found.shape]]
    if isinstance(found, SequenceType):
        return ["sequence", _dump_type(found.element, sizes)]
    if isinstance(found, OptionalType):
        return ["optional", _dump_type(found.element, sizes)]
    return ["map", found.key.value, _dump_type(found.value, sizes)]


def _load_type(stored: Any, sizes: SizeReader | None) -> ValueType:
    kind = stored[0]
    if kind == "sequence":
        return SequenceType(_load_type(stored[1], sizes))
    if kind == "optional":
        return OptionalType(_load_type(stored[1], sizes))
    if kind == "map":
        return MapType(DType(stored[1]), _load_type(stored[2], sizes))
    if stored[1] is None:
        return TensorType(DType(kind), None)
    return TensorType(DType(kind), tuple(stored[1] if sizes is None else map(sizes.size, stored[1])))


def _dump_tensor(tensor: Tensor, sizes: SizeWriter | None) -> Any:
    if isinstance(tensor, SymbolicTensor) and sizes is not None:
        return [tensor.dtype.value, list(tensor.shape), [sizes.item(item) for item in tensor.tolist()], "sizes"]
    if tensor.dtype is DType.STRING:
        strings = [s if isinstance(s, str) else s.decode("latin-1") for s in tensor.payload.reshape(-1)]
        return [tensor.dtype.value, list(tensor.shape), strings]
    return [tensor.dtype.value, list(tensor.shape), base64.b85encode(tensor.payload.tobytes()).decode()]


def _load_tensor(stored: Any, sizes: SizeReader | None) -> Tensor:
    dtype, shape, payload = DType(stored[0]), tuple(stored[1]), stored[2]
    if len(stored) > 3 and sizes is not None:
        return SymbolicTensor(dtype, as_objects([sizes.item(item) for item in payload], shape))
    if dtype is DType.STRING:
        return Tensor(dtype, shape, np.array(payload, object))
    return Tensor(dtype, shape, np.frombuffer(base64.b85decode(payload), np.uint8))
