"""State that a session keeps by itself: what a model remembers from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.binding import Binding
from mace_core.errors import UsageError
from mace_core.graph import Graph
from mace_core.graph.kept import KeptState, kept_state
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider.execution import CancelFlag
from mace_core.tensor import TensorType

if TYPE_CHECKING:
    from mace_core.scheduler.profile import Profile
    from mace_core.scheduler.running.into import Into
    from mace_core.session import Session


class SessionState:
    """The state of a session: one stream of runs.  Runs of several threads come one after the other.

    Attributes:
        pairs: input name -> name of the output that feeds it next.
        names: of these inputs and outputs.
    """

    @classmethod
    def of(cls, session: Session, graph: Graph) -> SessionState | None:
        """That of a model; None where it keeps none.

        Raises:
            ModelError: if the model says what does not fit it.
        """
        states = kept_state(graph)
        return cls(session, graph, states) if states else None

    def __init__(self, session: Session, graph: Graph, states: Mapping[str, KeptState]) -> None:
        self._session = session
        self._types = {value.name: value.type for value in graph.inputs if value.name in states}
        self._start = {name: state.start for name, state in states.items() if state.start is not None}
        self.pairs = {name: state.output for name, state in states.items()}
        self.names = frozenset(self.pairs) | frozenset(self.pairs.values())
        self._lock = fork_safe_lock()
        self._binding: Binding | None = None
        self._on: Session | None = None  # where it runs

    def is_fed(self, feeds: object) -> bool:
        """Whether a run is given state by its caller, so that what is kept here stays as it is."""
        return isinstance(feeds, Mapping) and not self.pairs.keys().isdisjoint(feeds)

    def start(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """What those of ``names`` that are state are fed in a first run, where that is not zeros."""
        return {name: value for name, value in self._start.items() if name in names}

    def first(self) -> dict[str, Any]:
        """What the inputs are fed in a first run.

        Raises:
            UsageError: if the model does not say the shape of one.
        """
        found: dict[str, Any] = {}
        for name, type in self._types.items():
            if name in self._start:
                found[name] = self._start[name]
            elif isinstance(type, TensorType) and type.is_concrete:
                found[name] = np.zeros(type.concrete_shape, type.dtype.numpy)
            else:
                raise UsageError(f"the state '{name}' has free sizes ({type}): give its first content where it is run")
        return found

    def with_shapes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
        """Shapes of inputs, with those of the state where the model says them."""
        found: dict[str, Sequence[int]] = dict(shapes)
        for name, type in self._types.items():
            if isinstance(type, TensorType) and type.is_concrete:
                found.setdefault(name, type.concrete_shape)
        return found

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None,
        *,
        into: Into | None,
        profile: Profile | None,
        cancel: CancelFlag | None,
    ) -> dict[str, Any]:
        """Run once, and keep the state; see `Binding.run`."""
        with self._lock:
            stream = self._bound()
            if into is None:
                return stream.run(feeds, outputs, profile=profile, cancel=cancel)
            return stream.run_into(into, feeds, outputs, profile=profile, cancel=cancel)

    def reset(self) -> None:
        """Begin again."""
        with self._lock:
            if self._binding is not None:
                self._binding.reset(self._start)

    def close(self) -> None:
        """Give its memory back."""
        with self._lock:
            if self._binding is not None:
                self._binding.close()
                self._binding = None

    def _bound(self) -> Binding:
        """The stream, where the session runs now; the state moves with it."""
        there = self._session._elsewhere or self._session
        if self._binding is None or self._on is not there:
            start = self._start
            if self._binding is not None:
                start = {**start, **self._binding.contents()}
                self._binding.close()
            self._binding, self._on = Binding(there, self.pairs, start, None, None), there
        return self._binding
