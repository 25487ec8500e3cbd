"""Constants that are stored once: equal ones of a graph and of the graphs nested in it.

Both branches of an If may hold the same weights, each folded from what the model has once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from mace_core.graph import Graph, Value
from mace_core.graph.names import free_name
from mace_core.tensor import DType, Tensor

LEAST_BYTES = 1024
"""Smaller ones are not worth looking at."""


def share_constants(graph: Graph) -> None:
    """Let every node read equal constants from one initializer of the outermost graph, in place."""
    bodies = list(_graphs(graph))[1:]
    if not bodies:
        return
    names = {value.name for one in _graphs(graph) for value in _values(one)}
    kept: dict[tuple[object, ...], Value] = {}
    for value in graph.initializers.values():
        if value.constant is not None and _is_large(value.constant) and value.name not in graph.defaults:
            kept.setdefault(_key(value.constant), value)
    replaced: dict[Value, Value] = {}
    for body in bodies:
        for name, value in list(body.initializers.items()):
            if value.constant is None or not _is_large(value.constant) or value in body.outputs:
                continue
            key = _key(value.constant)
            if key not in kept:
                kept[key] = shared = Value(free_name(value.name, names), value.type, value.constant)
                graph.initializers[shared.name] = shared
            replaced[value] = kept[key]
            del body.initializers[name]
    for body in bodies if replaced else ():
        for node in body.nodes:
            node.inputs = [replaced.get(v, v) if v is not None else None for v in node.inputs]


def _graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for body in node.subgraphs():
            yield from _graphs(body)


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph.nodes:
        yield from (value for value in node.outputs if value is not None)


def _is_large(constant: Tensor) -> bool:
    return constant.dtype is not DType.STRING and constant.nbytes >= LEAST_BYTES


def _key(constant: Tensor) -> tuple[object, ...]:
    return constant.dtype, constant.shape, hashlib.sha256(constant.payload.data).digest()
