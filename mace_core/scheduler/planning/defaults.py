"""Inputs that the model has defaults for: constants, until somebody feeds one.

A session runs the model with its defaults as constants, folded and packed like all others.  For a set of them that is
fed, the model is loaded again with these as inputs.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from mace_core.errors import ModelError
from mace_core.graph import Graph
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.scheduler.planning.specs import optional_spec
from mace_core.tensor import ValueType
from mace_core.tensor.files import file_identity

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.session import Session

LoadAgain = Callable[[], Graph]

MOST_VARIANTS = 8
"""Sets of fed defaults that a session keeps ready; the least recently used one is dropped."""


class OptionalInputs:
    """The inputs of a session that have defaults, and the sessions in which some of them are fed.

    Attributes:
        specs: one for each of them.
    """

    def __init__(
        self, defaults: Mapping[str, ValueType], load_again: LoadAgain, open_session: Callable[[Graph], Session]
    ) -> None:
        self.specs = tuple(optional_spec(name, type) for name, type in defaults.items())
        self._names = frozenset(defaults)
        self._load_again = load_again
        self._open_session = open_session
        self._variants: OrderedDict[frozenset[str], Session] = OrderedDict()
        self._lock = fork_safe_lock()

    def session_fed(self, names: Iterable[object]) -> Session | None:
        """The session in which those of ``names`` that have defaults are inputs; None where none of them has.

        Raises:
            MaceError: if the model cannot be loaded again.
        """
        fed = self._names.intersection(name for name in names if isinstance(name, str))
        if not fed:
            return None
        with self._lock:
            found = self._variants.get(fed)
            if found is None:
                graph = without_defaults(self._load_again(), sorted(fed))
                found = self._variants[fed] = self._open_session(graph)
                if len(self._variants) > MOST_VARIANTS:
                    self._variants.popitem(last=False)  # closes itself once no run uses it any more
            self._variants.move_to_end(fed)
            return found

    def close(self) -> None:
        """Close those sessions."""
        with self._lock:
            while self._variants:
                self._variants.popitem()[1].close()


def reloading(model: Model, *, mmap: bool) -> LoadAgain:
    """How to load ``model`` once more as it is now: what a caller could change meanwhile is copied.

    For a `Graph`, to be called before it is optimized, which changes it.
    """
    from mace_core.frontend.load import load_model, model_path

    if isinstance(model, str | os.PathLike):
        path = model_path(model)
        identity = file_identity(path)

        def from_file() -> Graph:
            if file_identity(path) != identity:
                raise ModelError(f"'{path}' has changed since the session was opened: open a new one")
            return load_model(path, mmap=mmap)

        return from_file
    if isinstance(model, Graph):
        from mace_core.graph.serialize import dump_graph, load_graph

        stored, source_path = dump_graph(model), model.source_path

        def from_graph() -> Graph:
            graph = load_graph(stored, mmap=mmap)
            graph.source_path = source_path
            return graph

        return from_graph
    if isinstance(model, bytes):
        return lambda: load_model(model, mmap=mmap)
    content = bytes(model) if isinstance(model, bytearray | memoryview) else model.SerializeToString()
    return lambda: load_model(content, mmap=mmap)


def without_defaults(graph: Graph, names: Iterable[str]) -> Graph:
    """``graph``, freshly loaded, with some of its defaults turned into inputs."""
    for name in names:
        value = graph.initializers.pop(name)
        value.constant, value.type = None, graph.defaults.pop(name)
        graph.inputs.append(value)
    return graph
