"""Queues and events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from mace_core.errors import CancelledError, ProviderError
from mace_core.provider import Backend, Event, Execution, Stream
from mace_core.testing.kit.base import Array, KitBase, shifted
from mace_core.testing.kit.waiting import Gate, Started
from mace_core.testing.runner import BoundRun, bind, run_chained, run_enqueued, run_once, view_of

QUEUED_RUNS = 4
SHORTEST_LOOK_SECONDS = 0.05
"""How long work is given to start too early, at least; ten times what a run takes, where that is more."""

UNTOUCHED = 0xA5
"""Fills the bytes of outputs that nothing may write yet."""


@dataclass
class Queued:
    """One run prepared for a queue, and how long the same run took when nobody waited for anything."""

    stream: Stream
    execution: Execution
    bound: BoundRun
    right: list[Array]
    seconds: float
    op_type: str

    def enqueue(self, *wait: Event) -> Event:
        return self.execution.enqueue(self.stream, self.bound.bindings, wait)

    def look(self) -> None:
        """Give work that should not have started the time to show itself."""
        time.sleep(max(SHORTEST_LOOK_SECONDS, 10 * self.seconds))

    def is_untouched(self) -> bool:
        """Whether no byte of an output has been written."""
        outputs = [array for array in self.bound.outputs() if array is not None]
        return all((array.reshape(-1).view(np.uint8) == UNTOUCHED).all() for array in outputs)

    def is_right(self) -> bool:
        outputs = [array for array in self.bound.outputs() if array is not None]
        return all(np.array_equal(mine, right) for mine, right in zip(outputs, self.right, strict=True))


class QueueChecks(KitBase):
    """What is queued runs in order, and after what it waits for."""

    def test_enqueued_runs_agree(self, backend: Backend) -> None:
        stream = backend.create_stream()
        if not self.declaration.streams:
            assert stream is None, "the backend offers queues, but the declaration says it does not"
            return
        assert stream is not None, "the declaration says that the backend offers queues"
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        feeds = [shifted(case, step) for step in range(QUEUED_RUNS)]
        for each, found in zip(feeds, run_enqueued(backend, view, compiled, feeds, stream), strict=True):
            for name, array in run_once(backend, view, compiled, each).items():
                np.testing.assert_array_equal(found[name], array)
        stream.synchronize()
        for _ in range(2):
            stream.close()
        compiled.close()

    def test_enqueued_runs_keep_their_order_and_wait_for_events(self, backend: Backend) -> None:
        """Each run reads what the one before it wrote: in one queue by order, in two by the events waited for."""
        if not self.declaration.streams:
            pytest.skip("the declaration says that the backend offers no queues")
        case = self.repeatable_case()
        view = view_of(case.graph(), case.feeds())
        (compiled,) = backend.compile([view])
        expected, feeds = [], dict(case.feeds())
        for _ in range(QUEUED_RUNS):
            (result,) = run_once(backend, view, compiled, feeds).values()
            expected.append(result)
            feeds = dict.fromkeys(feeds, result)
        assert any(not np.array_equal(a, b) for a, b in pairwise(expected)), "the case does not tell runs apart"
        for count in (1, 2):
            streams = [backend.create_stream() for _ in range(count)]
            found = run_chained(
                backend, view, compiled, case.feeds(), [s for s in streams if s is not None], QUEUED_RUNS
            )
            for step, (mine, right) in enumerate(zip(found, expected, strict=True)):
                np.testing.assert_array_equal(mine, right, f"run {step + 1} of {QUEUED_RUNS} over {count} queues")
            for stream in streams:
                assert stream is not None, "the declaration says that the backend offers queues"
                stream.close()
        compiled.close()

    def test_queued_work_waits_for_the_events_it_is_given(self, backend: Backend) -> None:
        """The event is the kit's own, so that it is open when the kit says so and not before."""
        with self.queued(backend) as run:
            gate = Gate()
            work = Started(lambda: run.enqueue(gate).wait())
            run.look()
            assert work.is_alive() and run.is_untouched(), (
                f"{run.op_type}: queued work did not wait for the event it was given"
            )
            gate.open()
            work.finish("an event whose work could start")
            assert run.is_right(), f"{run.op_type}: wrong results of work that waited for an event"

    def test_synchronize_waits_for_what_is_queued(self, backend: Backend) -> None:
        with self.queued(backend) as run:
            gate = Gate()
            events: list[Event] = []
            work = Started(lambda: events.append(run.enqueue(gate)))
            assert gate.awaited.wait(30) or events, "work that was queued never looked at the event it was given"
            if not events:
                work.join(SHORTEST_LOOK_SECONDS)

            def synchronize() -> None:
                work.join()
                run.stream.synchronize()

            synchronized = Started(synchronize)
            run.look()
            assert synchronized.is_alive(), f"{run.op_type}: synchronize came back while work was queued"
            gate.open()
            work.finish("enqueue")
            synchronized.finish("synchronize")
            assert events[0].is_done, f"{run.op_type}: an event is not done although its queue was synchronized"
            assert run.is_right(), f"{run.op_type}: synchronize came back before the results were there"

    def test_events_and_queues_tell_of_failures(self, backend: Backend) -> None:
        """Cancelled work fails: who waits for its event is told, and so is who waits for the queue."""
        with self.queued(backend) as run:
            run.bound.bindings.cancel.set()
            for teller in ("wait", "synchronize"):
                error = Started(partial(self.told, run, teller)).error(f"{teller} after a failure")
                assert isinstance(error, CancelledError), (
                    f"{run.op_type}: {teller} swallowed the failure of queued work (expected CancelledError, "
                    f"got {type(error).__name__ if error else 'no error'})"
                )
            run.bound.bindings.cancel.clear()
            run.enqueue().wait()
            assert run.is_right(), f"{run.op_type}: wrong results after a failure in the same queue"

    def told(self, run: Queued, teller: str) -> None:
        """Queue work, and ask for its outcome in one of two ways; the queue is cleared in the end."""
        try:
            event = run.enqueue()
            if teller == "wait":
                event.wait()
            else:
                run.stream.synchronize()
        finally:
            with contextlib.suppress(CancelledError):
                run.stream.synchronize()

    def test_nothing_runs_after_what_it_waits_for_has_failed(self, backend: Backend) -> None:
        class LostError(ProviderError):
            """What the kit's event fails with."""

        with self.queued(backend) as run:
            gate = Gate()
            gate.open(LostError("the work that this waits for has failed"))
            error = Started(lambda: run.enqueue(gate).wait()).error("work that waits for failed work")
            with contextlib.suppress(LostError):
                run.stream.synchronize()
            assert run.is_untouched(), f"{run.op_type}: work went on although what it waits for has failed"
            assert error is not None, f"{run.op_type}: the event of work that could not start swallowed the failure"
            run.enqueue().wait()
            assert run.is_right(), f"{run.op_type}: wrong results after a failure in the same queue"

    @contextmanager
    def queued(self, backend: Backend) -> Iterator[Queued]:
        """A run of some case, bound to outputs that show whether it has written anything."""
        stream = backend.create_stream()
        if not self.declaration.streams or stream is None:
            pytest.skip("the declaration says that the backend offers no queues")
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        right = list(run_once(backend, view, compiled, case.feeds()).values())
        bound, execution = bind(backend, view, compiled, case.feeds()), compiled.new_execution()
        start = time.perf_counter()
        execution.enqueue(stream, bound.bindings, ()).wait()
        seconds = time.perf_counter() - start
        bound.fill_outputs(UNTOUCHED)
        try:
            yield Queued(stream, execution, bound, right, seconds, case.op_type)
        finally:
            stream.close()
            execution.close()
            bound.free()
            compiled.close()
