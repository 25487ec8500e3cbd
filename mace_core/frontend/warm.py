"""Loading a model that was loaded before: the optimized graph comes from the cache, the model file is not parsed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from mace_core.errors import ModelError
from mace_core.frontend.importing import ImportOptions
from mace_core.frontend.load import check_file, load_model
from mace_core.graph import AttributeKind, Graph
from mace_core.graph.serialize import dump_graph, graph_fingerprint, load_graph
from mace_core.tensor import Tensor
from mace_core.tensor.files import FileIdentity, file_identity, settled_identity

_log = logging.getLogger("mace.frontend")

_LENGTH = struct.Struct("<I")


class Cache(Protocol):
    """Where entries are kept (``mace_core.caching.cache.CheckedCache`` is one)."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, payload: bytes) -> None: ...

    def remove(self, key: str) -> None: ...


def load_cached(
    path: str | os.PathLike[str],
    cache: Cache,
    optimize: Callable[[Graph], object],
    version: str,
    *,
    mmap: bool = True,
    signature: str | None = None,
    dynamic_range: str | None = None,
) -> tuple[Graph, str]:
    """The optimized graph of a model file, and its fingerprint (see ``graph_fingerprint``).

    An entry is good for a file of the same identity (see ``file_identity``), and if the same holds for every other file
    that the model keeps weights in.  It refers to the weights in those files instead of repeating them.  Files that
    were changed so recently that another change might not show are loaded and not cached.

    Args:
        path: the model file.
        cache: where entries are looked for and put.
        optimize: changes a freshly imported graph in place; not called when there is an entry.
        version: of the core and of whatever decides what ``optimize`` does; entries of another one are not used.
        mmap: keep weights as views of the mapped files (see ``Frontend.load``).
        signature, dynamic_range: as of `load_model`.

    Raises:
        ModelError: if the model cannot be read or is not valid.
    """
    model = Path(path)
    check_file(model)
    before = file_identity(model)
    chosen = ImportOptions.of(signature, dynamic_range)
    key = hashlib.blake2b(
        json.dumps([before, version, chosen.signature, chosen.dynamic_range]).encode(), digest_size=16
    ).hexdigest()
    entry = cache.get(key)
    if entry is not None:
        loaded = _unpack(entry, mmap=mmap)
        if loaded is not None:
            loaded[0].source_path = str(model)
            return loaded
        cache.remove(key)
    settled = settled_identity(model)
    graph = load_model(model, mmap=mmap, signature=signature, dynamic_range=dynamic_range)
    files = _opened_files(graph)
    files |= {other: settled_identity(other) for other in graph.other_files}
    optimize(graph)
    fingerprint = graph_fingerprint(graph)
    if settled is not None and settled == before == file_identity(model) and None not in files.values():
        cache.put(key, _pack(graph, fingerprint, files))
    else:
        _log.info("'%s' was changed while it was loaded or just before: its graph is not cached", model)
    return graph, fingerprint


def _pack(graph: Graph, fingerprint: str, files: Mapping[str, FileIdentity | None]) -> bytes:
    header = json.dumps({"fingerprint": fingerprint, "files": files}).encode()
    return b"".join((_LENGTH.pack(len(header)), header, dump_graph(graph)))


def _unpack(entry: bytes, *, mmap: bool) -> tuple[Graph, str] | None:
    """What an entry holds, or None if it cannot be used any more."""
    try:
        (length,) = _LENGTH.unpack_from(entry)
        start = _LENGTH.size
        header = json.loads(entry[start : start + length])
        files = {path: tuple(identity) for path, identity in header["files"].items()}
        for path, identity in files.items():
            if file_identity(path) != identity:
                _log.info("'%s' has changed: the graph cached with it is not used", path)
                return None
        graph = load_graph(memoryview(entry)[start + length :], mmap=mmap)
        for path, opened in _opened_files(graph).items():
            if files[path] != opened:
                _log.info("'%s' is being changed: the graph cached with it is not used", path)
                return None
        return graph, header["fingerprint"]
    except (ModelError, KeyError, IndexError, TypeError, ValueError, AttributeError, struct.error) as error:
        _log.info("a cached graph cannot be used (%s)", error)
        return None


def _opened_files(graph: Graph) -> dict[str, FileIdentity | None]:
    """The files that weights lie in, by absolute path, as they were when they were opened."""
    sources = [constant.source for constant in _constants(graph)]
    opened = {source.path: source.identity for source in sources if source is not None}
    return {str(Path(path).absolute()): identity for path, identity in opened.items()}


def _constants(graph: Graph) -> Iterator[Tensor]:
    """Every constant of the graph, those in attributes and nested graphs included."""
    for tensor in graph.computed:
        yield from _constants(tensor.recipe)
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
