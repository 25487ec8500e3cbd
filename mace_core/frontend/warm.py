"""Loading a model that was loaded before: the optimised graph comes from the cache, the model file is not parsed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from mace_core.errors import ModelError
from mace_core.frontend.load import check_file, load_model
from mace_core.graph import AttributeKind, Graph
from mace_core.graph.serialize import dump_graph, graph_fingerprint, load_graph
from mace_core.tensor import Tensor
from mace_core.tensor.files import file_identity

_log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")


class Cache(Protocol):
    """Where entries are kept (``mace_core.cache.CheckedCache`` is one)."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, payload: bytes) -> None: ...

    def remove(self, key: str) -> None: ...


def load_cached(
    path: str | os.PathLike[str],
    cache: Cache,
    optimise: Callable[[Graph], object],
    version: str,
    *,
    mmap: bool = True,
) -> tuple[Graph, str]:
    """The optimised graph of a model file, and its fingerprint (see ``graph_fingerprint``).

    An entry is good for a file of the same path, size, modification time and inode, and if the same holds for every
    other file that the model keeps weights in.  It refers to the weights in those files instead of repeating them.

    Args:
        path: the model file.
        cache: where entries are looked for and put.
        optimise: changes a freshly imported graph in place; not called when there is an entry.
        version: of the core and of whatever decides what ``optimise`` does; entries of another one are not used.
        mmap: keep weights as views of the mapped files (see ``Frontend.load``).

    Raises:
        ModelError: if the model can not be read or is not valid.
    """
    model = Path(path)
    check_file(model)
    before = file_identity(model)
    key = hashlib.blake2b(json.dumps([before, version]).encode(), digest_size=16).hexdigest()
    entry = cache.get(key)
    if entry is not None:
        loaded = _unpack(entry, mmap=mmap)
        if loaded is not None:
            loaded[0].source_path = str(model)
            return loaded
        cache.remove(key)
    graph = load_model(model, mmap=mmap)
    others = sorted({t.source.path for t in _constants(graph) if t.source is not None})
    files = [identity for identity in map(file_identity, others) if identity is not None and identity != before]
    optimise(graph)
    fingerprint = graph_fingerprint(graph)
    if before is not None and file_identity(model) == before:
        cache.put(key, _pack(graph, fingerprint, files))
    else:
        _log.info("'%s' changed while it was loaded: its graph is not cached", model)
    return graph, fingerprint


def _pack(graph: Graph, fingerprint: str, files: list[list[Any]]) -> bytes:
    header = json.dumps({"fingerprint": fingerprint, "files": files}).encode()
    return b"".join((_LENGTH.pack(len(header)), header, dump_graph(graph)))


def _unpack(entry: bytes, *, mmap: bool) -> tuple[Graph, str] | None:
    """What an entry holds, or None if it can not be used any more."""
    try:
        (length,) = _LENGTH.unpack_from(entry)
        start = _LENGTH.size
        header = json.loads(entry[start : start + length])
        for identity in header["files"]:
            if file_identity(identity[0]) != identity:
                _log.info("'%s' has changed: the graph cached with it is not used", identity[0])
                return None
        return load_graph(memoryview(entry)[start + length :], mmap=mmap), header["fingerprint"]
    except (ModelError, KeyError, IndexError, TypeError, ValueError, struct.error) as error:
        _log.info("a cached graph can not be used (%s)", error)
        return None


def _constants(graph: Graph) -> Iterator[Tensor]:
    """Every constant of the graph, those in attributes and nested graphs included."""
    for value in graph.initializers.values():
        if value.constant is not None:
            yield value.constant
    for node in graph.nodes:
        for attribute in node.attributes.values():
            match attribute.kind:
                case AttributeKind.TENSOR:
                    yield attribute.value
                case AttributeKind.TENSORS:
                    yield from attribute.value
                case AttributeKind.SPARSE_TENSOR:
                    yield from attribute.value[:2]
                case AttributeKind.SPARSE_TENSORS:
                    for sparse in attribute.value:
                        yield from sparse[:2]
        for nested in node.subgraphs():
            yield from _constants(nested)
