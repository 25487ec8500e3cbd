"""State that stays with a stream of runs: outputs of one run are inputs of the next."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, ProviderError, UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.host.process_end import at_work
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.bound_state import BoundState, bound_states, empty_state, started
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.growing import GrowingArray, growing_copy
from mace_core.scheduler.planning import notify
from mace_core.scheduler.planning.arguments import check_call, output_names
from mace_core.scheduler.running.failures import raise_explained
from mace_core.scheduler.running.feeds import ShapeCheck, collect_feeds, plain_inputs, shape_faults
from mace_core.scheduler.running.results import owned
from mace_core.scheduler.running.runner import GraphRunner
from mace_core.scheduler.running.straight_runs import StraightRuns
from mace_core.scheduler.values import RuntimeValue
from mace_core.symbolic.trace import LARGEST_SIZE

if TYPE_CHECKING:
    from mace_core.scheduler.profile import Profile
    from mace_core.scheduler.running.into import Into
    from mace_core.scheduler.running.session_runners import SessionRunners
    from mace_core.session import Session

_AT_WORK = at_work()

LONGEST_PAUSE = 64
"""Runs after which it is worth trying again whether a stream goes straight on that was fed now so, now otherwise."""

SMALLEST_CAPACITY = 64
"""Entries that there is room for at first, where nobody says how many."""


class Binding:
    """A stream of runs that keeps state: `Session.bind` makes it.

    One binding is one stream of work; any number of them, on any threads, may use one session.

    Attributes:
        in_place: the outputs whose new entries the latest run wrote behind the earlier ones, without copying these.
    """

    def __init__(
        self,
        session: Session,
        pairs: Mapping[str, str],
        start: Mapping[str, Any] | None,
        capacity: int | None,
        limit: int | None,
    ) -> None:
        self._session = session
        self._label, self._graph = session._model.label, session._graph
        self._states = bound_states(self._graph, pairs, self._label)
        self._capacity = _entries("capacity", capacity, SMALLEST_CAPACITY)
        self._limit = None if limit is None else _entries("limit", limit, 0)
        if self._limit is not None:
            self._capacity = min(self._capacity, max(self._limit, 1))
        self._room = np.empty(self._capacity, np.int8)
        self._at = {state.source: state for state in self._states}
        self._bound = {state.output: state for state in self._states}
        self._others = [value for value in self._graph.inputs if value not in self._at]
        self._expected = plain_inputs(self._others)
        self._calls: dict[tuple[str, ...] | None, _Call] = {}
        places = {value: at for at, value in enumerate(self._others)}
        self._feeding = [(self._at.get(value), places.get(value, -1)) for value in self._graph.inputs]
        self._check = ShapeCheck.of(self._graph.inputs)
        self._lock = fork_safe_lock()
        self._closed = False
        self._shapes: list[Any] = []  # of what the latest run was fed
        self.in_place: frozenset[str] = frozenset()
        self._straight: StraightRuns | None = None
        self._pause = self._paused = 0  # runs before it is tried again whether they go straight on
        self._failure: BaseException | None = None  # of a run that is to be taken up with care
        self._given = started(self._states, start, self._label)

    # --- running --------------------------------------------------------------------------------------------------

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        into: Mapping[str, Any] | None = None,
        profile: Profile | None = None,
        cancel: CancelFlag | None = None,
    ) -> dict[str, Any]:
        """Run the model once, and keep its bound outputs for the next run.

        Args:
            feeds: input name -> value, for the inputs that are not bound.
            outputs: names of the outputs wanted, which may be bound ones; by default all that are not bound.
            into: output name -> array that it is written into, as of ``Session.run``; not for bound
                outputs.
            profile: filled with time spans.
            cancel: set it from another thread to stop the run.

        Returns:
            Output name -> numpy array, as ``Session.run``.  They are the caller's.

        Raises:
            InputError: if the feeds do not fit the model, or the state would become longer than its limit.
            UsageError: if another thread is running this binding.
            CancelledError, NumericsError, ProviderError: as ``Session.run``.  The state is what it was before.
        """
        with self._held(), _AT_WORK:
            self._session._check_open()
            try:
                if into is None:
                    if self._straight is not None and outputs is None and profile is None:
                        found = self._run_straight(self._straight, feeds, cancel)
                        if found is not None:
                            return found
                        self._pause = self._paused = min(2 * self._pause + 1, LONGEST_PAUSE)
                    return self._run(feeds, outputs, profile, cancel, None)
                checked = self._session._careful.into(into)
                with checked.reserved():
                    return self._run(feeds, outputs, profile, cancel, checked)
            except (MemoryError, OSError) as error:
                raise_explained(error, self._label)

    def run_into(
        self,
        into: Into,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        profile: Profile | None = None,
        cancel: CancelFlag | None = None,
    ) -> dict[str, Any]:
        """As `run`, with arrays for outputs that have been checked and that the caller holds (`Into.reserve`)."""
        with self._held(), _AT_WORK:
            self._session._check_open()
            try:
                return self._run(feeds, outputs, profile, cancel, into)
            except (MemoryError, OSError) as error:
                raise_explained(error, self._label)

    def read(self, name: str) -> npt.NDArray[Any]:
        """A copy of the state that an output left, or that an input is fed next.

        Raises:
            UsageError: if it is not bound, or there is no state yet.
        """
        with self._held():
            found = next((state for state in self._states if name in (state.output, state.source.name)), None)
            if found is None:
                known = ", ".join(repr(state.output) for state in self._states)
                raise UsageError(f"{self._label}: '{name}' is not bound; bound outputs are {known}")
            self._settle()
            value = found.value if found.value is not None else self._given.get(found.source)
            if value is None:
                raise UsageError(f"{self._label}: there is no state '{name}' before the first run")
            return np.array(value)

    def contents(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of what the inputs of the state are fed next, by their names; those that there are yet."""
        with self._held():
            self._settle()
            now = {state.source.name: state.value for state in self._states if state.value is not None}
            given = {value.name: content for value, content in self._given.items() if value.name not in now}
            return {name: np.array(content) for name, content in {**given, **now}.items()}

    @property
    def lengths(self) -> dict[str, int]:
        """Entries of each state that grows, by the name of its output."""
        return {
            state.output: state.value.shape[state.axis]
            for state in self._states
            if state.axis is not None and state.value is not None
        }

    def rewind(self, entries: int) -> None:
        """Forget the last entries of all states that grow, as if they had not been computed.

        Raises:
            UsageError: if there are not so many, or some state does not grow: what it was is not known any more.
        """
        with self._held():
            entries = _entries("entries", entries, 0)
            for state in self._states:
                state.check_rewind(entries, self._label)
            self._settle()
            self._straight = None
            for state in self._states:
                state.rewind(entries)

    def reset(self, start: Mapping[str, Any] | None = None) -> None:
        """Begin again, with empty states or those given; see `Session.bind`."""
        with self._held():
            self._given = started(self._states, start, self._label)
            for state in self._states:
                state.value = None
            self._shapes, self._straight = [], None

    def close(self) -> None:
        """Give the memory of the state back.  Idempotent."""
        if self._closed:
            return
        with self._held():
            self._closed, self._straight = True, None
            for state in self._states:
                state.forget()
            self._given = {}
            self._room = np.empty(0, np.int8)

    def __enter__(self) -> Binding:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        pairs = ", ".join(f"{state.source.name} <- {state.output}" for state in self._states)
        return f"Binding({self._label}, {pairs}{', closed' if self._closed else ''})"

    # --- private --------------------------------------------------------------------------------------------------

    def _run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None,
        profile: Profile | None,
        cancel: CancelFlag | None,
        into: Into | None,
    ) -> dict[str, Any]:
        self._settle()
        self._straight = None
        failure, self._failure = self._failure, None
        values = self._collected(feeds)
        shapes = [value.shape if isinstance(value, np.ndarray) else None for value in values]
        begun = [state for state in self._states if state.value is None]
        try:
            if begun:
                self._begin(begun, values)
            self._make_room(shapes)
            context = RunContext(cancel or CancelFlag(), profile)
            returned = self._step(values, outputs, context, shapes == self._shapes, into, failure)
        except BaseException:
            for state in begun:  # with other feeds it may begin with another shape
                state.value = None
            raise
        is_usual = shapes == self._shapes and outputs is None
        self._shapes = shapes
        if is_usual and self._paused == 0:
            self._straighten(values)
        self._paused = max(self._paused - 1, 0)
        return returned

    def _run_straight(
        self, straight: StraightRuns, feeds: Mapping[str, Any], cancel: CancelFlag | None
    ) -> dict[str, Any] | None:
        """As `_run`, with nothing but what changes from run to run; None where it is to be run with care."""
        if not self._session._runners.failover.is_calm:
            return None
        try:
            return straight.run(feeds, cancel)
        except (ProviderError, MemoryError) as error:
            self._failure = error
            return None

    def _settle(self) -> None:
        """Look up where straight runs have left the state."""
        if self._straight is not None:
            for state, array in zip(self._states, self._straight.state, strict=True):
                state.value = array

    def _straighten(self, values: Sequence[RuntimeValue]) -> None:
        """Let the next run, fed alike, go straight on, where it can."""
        call = self._calls.get(None)
        if call is None or self._expected is None or self._limit is not None:
            return
        if call.growing or not all(map(BoundState.is_kept, self._states)):
            return
        fed = {value: x for value, x in zip(self._others, values, strict=True) if isinstance(x, np.ndarray)}
        self._straight = StraightRuns.of(call.runner, self._states, self._expected, fed)
        self._settle()

    def _step(
        self,
        values: Sequence[RuntimeValue],
        outputs: Sequence[str] | None,
        context: RunContext,
        is_known: bool,
        into: Into | None,
        failure: BaseException | None,
    ) -> dict[str, Any]:
        """Run with all that is fed, and take over the new state.

        Args:
            is_known: it is fed what the latest run was fed, but for content.
            failure: what a first attempt ended with.
        """
        fed = [values[at] if state is None else state.value for state, at in self._feeding]
        self._check_shapes(fed)
        call = self._call(outputs)
        if is_known and self._limit is not None and not call.runner.has_contents:
            for state in call.growing:
                assert state.value is not None and state.axis is not None  # nothing is written over then
                self._check_limit(state, state.value.shape[state.axis] + state.added)
        if into is not None:
            into.check_names([name for name in call.wanted if name not in self._bound])
            computed = [value for value in self._graph.outputs if value.name not in self._bound]
            named = zip([value.name for value in self._graph.inputs], fed, strict=True)
            context.targets = into.targets(computed, named)
        if call.growing:
            fed.append(self._room)
        profile = context.profile
        if profile is not None:
            profile.start_ns = time.perf_counter_ns()

        def run(runners: SessionRunners) -> list[RuntimeValue]:
            is_usual = runners is self._session._runners
            return (call.runner if is_usual else self._runner(call.growing, call.computed, runners)).run(fed, context)

        results = self._session._runners.failover.run(run, failure)
        if profile is not None:
            profile.end_ns = time.perf_counter_ns()
            notify.profiled(self._label, profile)
        foreign = [value for value in values if isinstance(value, np.ndarray)]
        found = [results[at] for at in call.states]
        given = {} if into is None else into.filled(dict(zip(call.computed, results, strict=True)), context)
        if into is not None:
            foreign += into.arrays.values()
        returned = [
            given[name] if name in given else self._handed_out(name, results[at], foreign)
            for at, name in enumerate(call.wanted)
        ]
        if not self._advanced_in_place(call, found):
            self._advance([owned(result, foreign) for result in found])
        return dict(zip(call.wanted, returned, strict=True))

    def _call(self, outputs: Sequence[str] | None) -> _Call:
        """How to run for these outputs with the states as they are now."""
        key = None if outputs is None else tuple(output_names(outputs) or ())
        growing = tuple(state for state in self._states if state.room is not None)
        found = self._calls.get(key)
        if found is not None and found.growing == growing:
            return found
        names = [value.name for value in self._graph.outputs if value.name not in self._bound] if key is None else key
        wanted = tuple(dict.fromkeys(names))
        computed = (*wanted, *dict.fromkeys(state.output for state in self._states if state.output not in wanted))
        states = tuple(computed.index(state.output) for state in self._states)
        made = self._calls[key] = _Call(
            wanted, computed, states, growing, self._runner(growing, computed, self._session._runners)
        )
        return made

    def _runner(self, growing: Sequence[BoundState], names: tuple[str, ...], runners: SessionRunners) -> GraphRunner:
        """The runner for these outputs, with some states in room to grow; shared by all bindings of the session."""
        if not growing:
            return runners.whole if list(names) == self._session._output_names else runners.of(names)
        growths = tuple((state.source, state.output, state.axis) for state in growing)
        return runners.growing(names, growths)

    def _collected(self, feeds: Mapping[str, Any]) -> list[RuntimeValue]:
        """What is fed for the inputs that are not bound, checked."""
        found = self._collected_quickly(feeds)
        if found is not None:
            return found
        check_call(feeds, None, [value.name for value in self._others], self._label)
        bound = [state for state in self._states if state.source.name in feeds]
        if bound:
            raise InputError(
                f"{self._label}: input '{bound[0].source.name}' is bound to output '{bound[0].output}' and cannot be "
                "fed; give 'start' to bind or reset to begin with values of your own"
            )
        defaults = [spec.name for spec in self._session.inputs if spec.optional and spec.name in feeds]
        if defaults:
            raise InputError(
                f"{self._label}: input '{defaults[0]}' has a default, which holds for all runs of a binding; "
                "leave it out, or run the session itself"
            )
        return collect_feeds(self._others, feeds, self._label)

    def _collected_quickly(self, feeds: Mapping[str, Any]) -> list[RuntimeValue] | None:
        """What is fed, where it is arrays of the right types; None where it is anything else."""
        expected = self._expected
        if expected is None or self._check is None or type(feeds) is not dict or len(feeds) != len(expected):
            return None
        found: list[RuntimeValue] = []
        for value, dtype in expected:
            array = feeds.get(value.name)
            if type(array) is not np.ndarray or array.dtype != dtype:
                return None
            found.append(array.view())  # the caller's own may get another shape while the run looks at it
        return found

    def _check_shapes(self, fed: Sequence[RuntimeValue]) -> None:
        """
        Raises:
            InputError: if sizes of what is fed and of the state do not fit each other.
        """
        if self._check is None or not self._check.holds([value.shape for value in fed]):
            shapes = [value.shape if isinstance(value, np.ndarray) else None for value in fed]
            faults = shape_faults(self._graph.inputs, shapes)
            if faults:
                raise InputError(f"{self._label}: " + "; ".join(faults))

    def _begin(self, states: Sequence[BoundState], values: Sequence[RuntimeValue]) -> None:
        """Give states that have none what they begin with."""
        known = {**dict(zip(self._others, values, strict=True)), **self._given}
        begun = [
            self._given[state.source] if state.source in self._given else empty_state(state, known, self._label)
            for state in states
        ]
        for state, array in zip(states, begun, strict=True):
            state.value = array
            self._grow(state)

    def _grow(self, state: BoundState) -> None:
        """Put a state that grows where there is room."""
        if not state.may_grow or state.value is None:
            return
        if state.axis is None:
            if self._limit is None:  # a result that is refused must not have been written already
                state.place(0)
            return
        while self._capacity < state.value.shape[state.axis]:
            self._enlarge(state.value.shape[state.axis])
        state.place(self._capacity)

    def _make_room(self, shapes: Sequence[Any]) -> None:
        """Enlarge what will not suffice for this run.

        Fed the same shapes, it adds what the latest one added; else a guess must do: as much as the largest size that
        is fed.  Room that is never written to takes no memory, and where it does not suffice after all, the run takes
        memory of its own.
        """
        is_known = shapes == self._shapes
        most = 0 if is_known else max((size for shape in shapes for size in shape or ()), default=0)
        for state in self._states:
            if state.room is None or state.value is None or state.axis is None:
                continue
            length = state.value.shape[state.axis]
            needed = length + (state.added if is_known else most)
            if self._limit is not None:
                needed = min(needed, self._limit)
            if needed > self._capacity:
                self._enlarge(needed)

    def _enlarge(self, needed: int) -> None:
        capacity = max(min(2 * self._capacity, LARGEST_SIZE), needed)
        if self._limit is not None:
            capacity = max(min(capacity, self._limit), needed)
        grown = {
            state: growing_copy(state.value, state.axis, capacity)
            for state in self._states
            if state.room is not None and state.value is not None and state.axis is not None
        }
        for state, array in grown.items():
            state.value, state.room = array, array.room
        self._capacity, self._room = capacity, np.empty(capacity, np.int8)

    def _check_limit(self, state: BoundState, length: int) -> None:
        if self._limit is not None and length > self._limit:
            raise InputError(
                f"{self._label}: output '{state.output}' would have {length} entries, more than the limit of "
                f"{self._limit} that it was bound with; rewind or reset the binding, or bind with a larger limit"
            )

    def _handed_out(self, name: str, result: RuntimeValue, fed: Sequence[npt.NDArray[Any]]) -> RuntimeValue:
        """A result for the caller: a copy of what stays here."""
        if name in self._bound or type(result) is GrowingArray:
            return np.array(result)
        return owned(result, [*fed, *(state.value for state in self._states if state.value is not None)])

    def _advanced_in_place(self, call: _Call, results: Sequence[RuntimeValue]) -> bool:
        """Take over results if all states stayed in their memory; False, with nothing changed, if not."""
        for state, result in zip(self._states, results, strict=True):
            if result is not state.value and not state.is_in_place(result):
                return False
        if self._limit is not None:
            for state, result in zip(self._states, results, strict=True):
                if state.axis is not None:
                    self._check_limit(state, result.shape[state.axis])
        for state, result in zip(self._states, results, strict=True):
            state.move_on(result)
        self.in_place = call.names
        return True

    def _advance(self, results: Sequence[RuntimeValue]) -> None:
        """Take over what a run computed."""
        if all(map(BoundState.is_replaced, self._states, results)):
            for state, result in zip(self._states, results, strict=True):
                state.value = result
            self.in_place = frozenset()
            return
        pairs = list(zip(self._states, results, strict=True))
        for state, result in pairs:
            state.check(result, self._label)
            axis = state.grows_along(result)
            if axis is not None:
                self._check_limit(state, result.shape[axis])
        self.in_place = frozenset(state.output for state, result in pairs if state.is_in_place(result))
        for state, result in pairs:
            state.take(result, self._capacity)
            if state.room is None:
                self._grow(state)

    def _held(self) -> _Held:
        return _Held(self)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the binding of {self._label} is closed")


class _Call:
    """How a binding runs for some outputs.

    Attributes:
        wanted: the outputs that are given to the caller; they come first among those computed.
        computed: all outputs that are.
        states: where among those computed the next content of each state is.
        growing: the states that lie in memory with room to grow.
        names: the outputs of these.
        runner: computes all of it.
    """

    __slots__ = ("computed", "growing", "names", "runner", "states", "wanted")

    def __init__(
        self,
        wanted: tuple[str, ...],
        computed: tuple[str, ...],
        states: tuple[int, ...],
        growing: tuple[BoundState, ...],
        runner: GraphRunner,
    ) -> None:
        self.computed = computed
        self.wanted, self.states, self.growing, self.runner = wanted, states, growing, runner
        self.names = frozenset(state.output for state in growing)


class _Held:
    """A binding in use by one thread."""

    __slots__ = ("_binding",)

    def __init__(self, binding: Binding) -> None:
        self._binding = binding

    def __enter__(self) -> None:
        if not self._binding._lock.acquire(blocking=False):
            raise UsageError(
                f"another thread is using this binding of {self._binding._label}; "
                "make one binding for each stream of work"
            )
        try:
            self._binding._check_open()
        except BaseException:
            self._binding._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._binding._lock.release()


def _entries(name: str, given: int | None, default: int) -> int:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise UsageError(f"{name} is a number of entries, not {given!r}")
    if not 0 <= given <= LARGEST_SIZE:
        raise UsageError(f"{name} is a number of entries up to {LARGEST_SIZE:,} and cannot be {given:,}")
    return int(given)
