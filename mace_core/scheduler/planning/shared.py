"""Compiled subgraphs that the plans of many signatures use: those that serve any shape, and those of a padded one."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mace_core.graph import GraphView
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider import CompiledSubgraph, Execution
from mace_core.provider.border import close_all
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import DType, Tensor, TensorType, ValueType

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

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
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
            self._entries.move_to_end(key)
        return _Lease(self, key, entry)

    def _add(self, key: Key, compiled: CompiledSubgraph) -> _Lease:
        entry = _Entry(compiled, 1)
        with self._lock:
            self._entries[key] = entry
            stale = self._stale(key)
        self._close(stale)
        return _Lease(self, key, entry)

    def release(self, key: Key, entry: _Entry) -> None:
        """One user fewer; what nobody uses any more is closed unless it is kept."""
        with self._lock:
            entry.users -= 1
            stale = self._stale(key)
            if not entry.users and self._entries.get(key) is not entry and entry not in stale:
                stale.append(entry)
        self._close(stale)

    def _stale(self, key: Key) -> list[_Entry]:
        """Entries to be closed, taken out: of those like ``key``, what nobody uses."""
        entry = self._entries.get(key)
        if entry is None or entry.users:
            return []
        return [self._entries.pop(key)]

    def _close(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            entry.compiled.close()

    def has(self, device: str, view: GraphView) -> bool:
        """Whether there is a subgraph for ``view``."""
        with self._lock:
            return self._key(device, view) in self._entries

    def _key(self, device: str, view: GraphView) -> Key:
        known = {
            value: constant
            for node in view.nodes
            for value in node_reads(node)
            if value.constant is None and (constant := view.constant(value)) is not None
        }
        contents = tuple((value, content_word(constant)) for value, constant in known.items())
        borders = tuple((value, self._form(view.type(value))) for value in (*view.inputs, *view.outputs))
        return device, view.nodes, len(view.inputs), borders, contents

    def _form(self, type: ValueType | None) -> object:
        """What of a type a subgraph for any shape depends on: all but the sizes."""
        if not isinstance(type, TensorType):
            return str(type)
        return type.dtype, None if type.shape is None else len(type.shape), type.is_concrete


class BucketTable(SharedSubgraphs):
    """What a provider compiled for padded shapes, some of which is kept while no plan uses it.

    Attributes:
        most: how many subgraphs of the same nodes are kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._is_closed = False

    def close(self, device: str, model: str) -> None:
        """Close what nobody uses, and keep nothing from now on."""
        with self._lock:
            self._is_closed = True
        self.give_up_idle(device, model)

    def give_up_idle(self, device: str, model: str) -> int:
        """Close what nobody uses; how many subgraphs that were."""
        with self._lock:
            idle = [key for key, entry in self._entries.items() if not entry.users]
            stale = [self._entries.pop(key) for key in idle]
        close_all((entry.compiled for entry in stale), device, "CompiledSubgraph.close", model)
        return len(stale)

    def _stale(self, key: Key) -> list[_Entry]:
        most = 0 if self._is_closed else self.most
        alike = [other for other in self._entries if other[:2] == key[:2]]
        idle = [other for other in alike if not self._entries[other].users]
        return [self._entries.pop(other) for other in idle[: max(len(alike) - most, 0)]]

    def _form(self, type: ValueType | None) -> object:
        """All of it."""
        return type if isinstance(type, TensorType) else str(type)


def content_word(tensor: Tensor) -> str:
    """What tells a content from others."""
    if tensor.dtype is DType.STRING:
        return f"{tensor.shape}{[str(item) for item in tensor.payload.reshape(-1)]!r}"
    return f"{tensor.dtype.value}{tensor.shape}{hashlib.blake2b(tensor.payload.tobytes(), digest_size=16).hexdigest()}"


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
