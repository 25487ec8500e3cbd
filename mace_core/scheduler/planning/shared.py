"""Subgraphs that serve any shape, compiled once and used by the plans of many signatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mace_core.graph import GraphView
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider import CompiledSubgraph, Execution
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import Tensor, TensorType, ValueType

Key = tuple[Any, ...]
Make = Callable[[Sequence[GraphView]], "list[CompiledSubgraph] | None"]


@dataclass(slots=True, eq=False)
class _Entry:
    compiled: CompiledSubgraph
    users: int = 0


class SharedSubgraphs:
    """What providers of dynamic shapes compiled, for as long as some plan uses it.

    A subgraph is the same if it has the same nodes, element types and ranks, and reads the same content where the
    signature decides it (shape arithmetic).
    """

    def __init__(self, content_word: Callable[[Tensor], str]) -> None:
        """``content_word`` tells contents apart."""
        self._content_word = content_word
        self._entries: dict[Key, _Entry] = {}
        self._lock = fork_safe_lock()

    def take(self, device: str, views: Sequence[GraphView], make: Make) -> list[CompiledSubgraph] | None:
        """A subgraph for each view, to be closed like any other; None where ``make`` gives none.

        ``make`` is called with the views that are new, if there are any.
        """
        keys = [self._key(device, view) for view in views]
        found = [self._lease(key) for key in keys]
        new = [view for view, lease in zip(views, found, strict=True) if lease is None]
        made: list[CompiledSubgraph] | None = []
        if new:
            try:
                made = make(new)
            except BaseException:
                _close(found)
                raise
            if made is None:
                _close(found)
                return None
        fresh = iter(made or ())
        return [
            lease if lease is not None else self._add(key, next(fresh)) for key, lease in zip(keys, found, strict=True)
        ]

    def _lease(self, key: Key) -> _Lease | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            entry.users += 1
        return _Lease(self, key, entry)

    def _add(self, key: Key, compiled: CompiledSubgraph) -> _Lease:
        entry = _Entry(compiled, 1)
        with self._lock:
            self._entries[key] = entry
        return _Lease(self, key, entry)

    def release(self, key: Key, entry: _Entry) -> None:
        """One user fewer; the last one closes the subgraph."""
        with self._lock:
            entry.users -= 1
            last = entry.users == 0
            if last and self._entries.get(key) is entry:
                del self._entries[key]
        if last:
            entry.compiled.close()

    def _key(self, device: str, view: GraphView) -> Key:
        known = {
            value: constant
            for node in view.nodes
            for value in node_reads(node)
            if value.constant is None and (constant := view.constant(value)) is not None
        }
        contents = tuple((value, self._content_word(constant)) for value, constant in known.items())
        borders = tuple((value, _form(view.type(value))) for value in (*view.inputs, *view.outputs))
        return device, view.nodes, len(view.inputs), borders, contents


def _form(type: ValueType | None) -> object:
    """What of a type a subgraph for any shape depends on: all but the sizes."""
    if not isinstance(type, TensorType):
        return str(type)
    return type.dtype, None if type.shape is None else len(type.shape), type.is_concrete


def _close(leases: Sequence[CompiledSubgraph | None]) -> None:
    for lease in leases:
        if lease is not None:
            lease.close()


class _Lease(CompiledSubgraph):
    """One plan's use of a shared subgraph."""

    def __init__(self, owner: SharedSubgraphs, key: Key, entry: _Entry) -> None:
        self._owner, self._key, self._entry = owner, key, entry
        self._is_closed = False
        self.workspace_bytes = entry.compiled.workspace_bytes
        self.consumed_constants = entry.compiled.consumed_constants
        self.source_map: Mapping[str, tuple[str, ...]] = entry.compiled.source_map
        self.notes: Mapping[str, str] = entry.compiled.notes

    def new_execution(self) -> Execution:
        return self._entry.compiled.new_execution()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._owner.release(self._key, self._entry)
