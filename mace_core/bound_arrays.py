"""Runs that read and write the same arrays of the caller again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.errors import InputError, InputTypeError, UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.running.feeds import convert_feed
from mace_core.tensor.foreign import DmaBuf

if TYPE_CHECKING:
    from mace_core.requests.future import RunFuture
    from mace_core.scheduler.profile import Profile
    from mace_core.session import Session


class BoundArrays:
    """Arrays that stay bound to inputs and outputs: `Session.bind` makes it.

    A run reads what is in the arrays of the inputs at that time, and writes those of the outputs.  They are the
    caller's before, between and after the runs.  While a run is under way, nobody else may write to any of them, nor
    read those of the outputs.
    """

    def __init__(self, session: Session, inputs: Mapping[str, Any] | None, outputs: Mapping[str, Any] | None) -> None:
        self._session = session
        self._label = session._model.label
        self._inputs = _read_where_they_lie(session, inputs or {}, self._label)
        self._into = session._careful.into(outputs or {})
        self._into.lasts = self._inputs.keys() == {value.name for value in session._graph.inputs}
        self._lock = fork_safe_lock()
        self._closed = False

    @property
    def copied(self) -> dict[str, str]:
        """The outputs that the latest run did not compute in the arrays themselves, but copied into them, and why."""
        return dict(self._into.copied)

    def run(
        self,
        feeds: Mapping[str, Any] | None = None,
        *,
        profile: Profile | None = None,
        cancel: CancelFlag | None = None,
    ) -> dict[str, Any]:
        """Run the model once.

        Args:
            feeds: input name -> value, for the inputs that are not bound.
            profile, cancel: as of `Session.run`.

        Returns:
            Output name -> array: the one that is bound, or a new one.

        Raises:
            UsageError: if another run of these arrays is not over.
            MaceError: as `Session.run`.
        """
        with self._lock:  # against another thread that closes it
            self._check_open()
            held = self._into.reserve()
        try:
            return self._session.run_into(self._into, self._fed(feeds), profile=profile, cancel=cancel)
        finally:
            held.end()

    def run_async(
        self,
        feeds: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        deadline: float | None = None,
        cancel: CancelFlag | None = None,
        wait: float | None = 0.0,
    ) -> RunFuture:
        """Ask for a run and return at once; arguments as of `run` and `Session.run_async`.

        Raises:
            QueueFullError: if there was no room.
            UsageError: if another run of these arrays is not over.
        """
        from mace_core.requests.asking import ask_into

        self._check_open()
        self._session._check_open()
        return ask_into(self._session, self._into, self._fed(feeds), None, priority, deadline, cancel, wait)

    def close(self) -> None:
        """Let go of the arrays; a run that is under way ends as it would.  Idempotent."""
        with self._lock:
            self._closed = True
            self._inputs = {}
            self._into.forget()

    def __enter__(self) -> BoundArrays:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join([*self._inputs, "->", *self._into.arrays])
        return f"BoundArrays({self._label}, {names}{', closed' if self._closed else ''})"

    def _fed(self, feeds: Mapping[str, Any] | None) -> dict[str, Any]:
        if not feeds:
            return self._inputs
        if not isinstance(feeds, Mapping):
            raise InputTypeError(
                f"{self._label}: feeds are a mapping from input name to value, not {type(feeds).__name__}"
            )
        twice = [name for name in feeds if name in self._inputs]
        if twice:
            raise InputError(f"{self._label}: input '{twice[0]}' is bound to an array and cannot be fed; write to that")
        return {**self._inputs, **feeds}

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the arrays bound to {self._label} have been let go of: the binding is closed")


def _read_where_they_lie(session: Session, given: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Views of the arrays, which keep their shapes whatever becomes of the caller's objects.

    Raises:
        InputError: if one is not an array that can be fed.
    """
    if not isinstance(given, Mapping):
        raise InputTypeError(f"{model}: bind takes inputs as a mapping from input name to array, not {given!r}")
    declared = {value.name: value.type for value in session._graph.inputs}
    found: dict[str, Any] = {}
    for name, array in given.items():
        if name not in declared and name not in {spec.name for spec in session.inputs}:
            known = ", ".join(repr(spec.name) for spec in session.inputs) or "none"
            raise InputError(f"{model} has no input {name!r} to bind; its inputs are {known}")
        if not isinstance(array, np.ndarray | DmaBuf) and not hasattr(array, "__dlpack__"):
            raise InputTypeError(
                f"{model}: input '{name}' is bound to an array whose content changes, and not to a "
                f"{type(array).__name__}"
            )
        try:
            converted = convert_feed(array, declared.get(name))
        except (TypeError, ValueError) as error:
            raise InputTypeError(f"{model}: input '{name}' {error}") from error
        if isinstance(array, np.ndarray):
            found[name] = array.view()
        else:
            found[name] = array if isinstance(array, DmaBuf) else converted
    return found
