"""Devices that fail in runs: the caller gets the right result, and a device that keeps failing rests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scheduler_models import chain
from scheduler_stand_ins import StandInProvider, make_provider, registry_of

from mace_core import Session, activity
from mace_core.errors import (
    CancelledError,
    DataError,
    DeviceLostError,
    OutOfMemoryError,
    ProviderBugError,
    ProviderError,
    QueueFullError,
    TransientError,
    UnsupportedError,
    UsageError,
)
from mace_core.faults import FaultLimits
from mace_core.requests.future import RunFuture
from mace_core.requests.queue import QueueLimits, queue_of, set_queue_limits
from mace_core.scheduler.running.breakers import Breaker
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)
KINDS = [ProviderError, ProviderBugError, UnsupportedError, DeviceLostError]
AT_ONCE = FaultLimits(rest_seconds=0.0, longest_rest_seconds=0.0)
LONG = FaultLimits(rest_seconds=1e6, longest_rest_seconds=1e6)


def pair(**attributes: Any) -> tuple[type[StandInProvider], type[StandInProvider]]:
    return make_provider("one", **attributes), make_provider("two")


def opened(
    one: type[StandInProvider], two: type[StandInProvider], *nodes: str, faults: FaultLimits, **arguments: Any
) -> Session:
    return Session(chain(*nodes), devices=["one", "two"], registry=registry_of(one, two), faults=faults, **arguments)


def used(session: Session) -> set[str]:
    return set(session.explain().nodes_per_device)


# --- one failure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [MemoryKind.HOST, MemoryKind.DEVICE])
@pytest.mark.parametrize("nodes", [["Neg"], ["Neg", "Exp", "Neg"]], ids=["one subgraph", "several"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_elsewhere(
    kind: type[ProviderError], nodes: list[str], memory: MemoryKind, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = pair(claims={"Neg"}, memory=memory)
    with opened(one, two, *nodes, faults=LONG) as session:
        expected = session.run({"x": X})["y"]
        one.faults[:] = [kind("out of order")]
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected)
        np.testing.assert_array_equal(session.run({"x": X}, ["y"])["y"], expected)
        (counts,) = [each for each in activity.sessions() if "one:0" in each.devices]
        assert (counts.moved, counts.failures) == (1, 0)
        assert ("one:0" in session.explain().refused) == (kind is DeviceLostError)
    told = [record.getMessage() for record in caplog.records if "out of order" in record.getMessage()]
    assert len(told) == 1 and "one:0" in told[0] and "'small'" in told[0], told


def test_where_every_device_fails_the_first_error_is_raised() -> None:
    one, two = pair()
    with opened(one, two, "Neg", faults=LONG) as session:
        session.run({"x": X})
        one.faults[:], two.faults[:] = [ProviderError("first")], [ProviderError("second")]
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)  # on the reference
    only = make_provider("one", claims={"Neg"})
    with Session(chain("Neg"), devices=["one"], strict=True, registry=registry_of(only), faults=LONG) as session:
        session.run({"x": X})
        only.faults[:] = [ProviderError("first")]
        with pytest.raises(ProviderError, match="first"):
            session.run({"x": X})


def test_what_the_values_are_to_blame_for_is_raised_and_held_against_no_device() -> None:
    one, two = pair()
    with opened(one, two, "Neg", faults=FaultLimits(failures=1, rest_seconds=1e3, longest_rest_seconds=1e3)) as session:
        session.run({"x": X})
        one.faults[:] = [DataError("index 7 of an axis of 3")]
        with pytest.raises(DataError, match="index 7"):
            session.run({"x": X})
        assert used(session) == {"one:0"} and not any(backend.runs for backend in two.opened)


def test_a_session_that_may_not_move_raises() -> None:
    one, two = pair()
    with opened(one, two, "Neg", faults=FaultLimits(move=False)) as session:
        one.faults[:] = [ProviderError("out of order")] * 5
        for _ in range(5):
            with pytest.raises(ProviderError, match="out of order"):
                session.run({"x": X})
        session.run({"x": X})
        assert used(session) == {"one:0"}


def test_state_of_a_stream_outlasts_a_device() -> None:
    one, two = pair()
    with opened(one, two, "Neg", faults=LONG) as session, session.bind({"x": "y"}, {"x": X}) as stream:
        stream.run({})
        one.faults[:] = [ProviderError("out of order")]
        stream.run({})
        np.testing.assert_array_equal(stream.run({}, ["y"])["y"], -X)


# --- devices that keep failing ----------------------------------------------------------------------------------------


def test_a_device_that_keeps_failing_rests_and_is_tried_later() -> None:
    one, two = pair()
    limits = FaultLimits(failures=3, rest_seconds=1e3, longest_rest_seconds=1e6)
    with opened(one, two, "Neg", faults=limits) as session:
        session.run({"x": X})
        clock = [0.0]
        session._runners.failover.breakers["one:0"] = Breaker(limits, lambda: clock[0])
        one.faults[:] = [ProviderError("out of order")] * 3
        for _ in range(3):
            session.run({"x": X})
        runs = one.opened[0].runs
        for _ in range(5):
            session.run({"x": X})
        assert one.opened[0].runs == runs, "it rests"
        assert "3 failed runs" in session.explain().refused["one:0"] and "1e+03 s" in session.explain().refused["one:0"]
        assert used(session) == {"two:0"}
        one.faults[:] = [ProviderError("still out of order")]
        clock[0] = 1001.0
        session.run({"x": X})  # tries it
        assert one.opened[0].runs == runs + 1
        clock[0] = 2500.0
        session.run({"x": X})
        assert one.opened[0].runs == runs + 1, "the second rest is longer"
        clock[0] = 3100.0
        compiled = two.opened[0].compile_calls, one.opened[0].compile_calls
        session.run({"x": X})
        assert one.opened[0].runs == runs + 2 and used(session) == {"one:0"}
        assert (two.opened[0].compile_calls, one.opened[0].compile_calls) == compiled, "the plans were kept"


def test_a_device_is_used_while_it_rests_where_there_is_no_other() -> None:

    one = make_provider("one")
    registry = registry_of(one)
    registry.unregister("reference")
    with Session(chain("Neg"), devices=["one"], registry=registry, faults=LONG) as session:
        session.run({"x": X})
        one.faults[:] = [ProviderError("out of order")] * 4
        for _ in range(4):
            with pytest.raises(ProviderError, match="out of order"):
                session.run({"x": X})
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)


@pytest.mark.parametrize("strict", [False, True])
def test_a_lost_device_is_opened_again_after_its_rest_and_the_old_one_closed(strict: bool) -> None:
    one, two = pair()
    with opened(one, two, "Neg", faults=AT_ONCE, strict=strict) as session:
        session.run({"x": X})
        one.faults[:] = [DeviceLostError("unplugged")]
        if strict:
            with pytest.raises(DeviceLostError, match="unplugged"):
                session.run({"x": X})
        else:
            np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert used(session) == {"one:0"} and len(one.opened) == 2
        assert one.opened[0].closed and not one.opened[1].closed
    assert one.opened[1].closed


def test_a_lost_device_that_cannot_be_opened_again_rests_on() -> None:
    one, two = pair()
    with opened(one, two, "Neg", faults=AT_ONCE) as session:
        session.run({"x": X})
        one.faults[:] = [DeviceLostError("unplugged")]
        one.open_fault = ProviderError("nothing is plugged in")
        for _ in range(3):
            np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert "nothing is plugged in" in session.explain().refused["one:0"]
        one.open_fault = None
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert used(session) == {"one:0"}


# --- the breaker ------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["fail", "succeed", "wait"]), max_size=60), st.integers(1, 4))
def test_one_run_at_a_time_tries_a_device_that_rests(deeds: list[str], failures: int) -> None:
    now = [0.0]
    breaker = Breaker(FaultLimits(failures=failures, rest_seconds=1, longest_rest_seconds=8), lambda: now[0])
    rest_until = 0.0
    for deed in deeds:
        if deed == "wait":
            now[0] += 1.0
            continue
        admitted = breaker.admits()
        assert (admitted is False) == (now[0] < rest_until)
        if admitted is False:
            continue
        if admitted is None:
            assert breaker.admits() is False, "another run tries it"
        if deed == "succeed":
            breaker.succeeded(is_trial=admitted is None)
            assert not breaker.is_resting
        elif breaker.failed("x", is_trial=admitted is None):
            assert 1 <= breaker._until - now[0] <= 8  # type: ignore[operator]
            rest_until = breaker._until  # type: ignore[assignment]


def test_a_device_that_fails_now_and_then_does_not_rest_and_one_that_fails_every_other_run_does() -> None:
    rare, often = (Breaker(FaultLimits(rest_seconds=1e3, longest_rest_seconds=1e3)) for _ in range(2))
    for _ in range(100):
        assert not rare.failed("x")
        for _ in range(9):
            rare.succeeded()
    rested = False
    for _ in range(10):
        rested |= often.failed("x")
        often.succeeded()
    assert rare.is_calm and rested


@pytest.mark.parametrize("text", ["failures=0", "rests=3", "rest_seconds=x", "growth=0.5", "rest_seconds=400", "move"])
def test_limits_that_cannot_be_are_errors(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_FAULT_LIMITS", text)
    with pytest.raises(UsageError):
        FaultLimits.from_environment()


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_FAULT_LIMITS", "failures=5, rest_seconds=0.5, move=0")
    assert FaultLimits.from_environment() == FaultLimits(move=False, failures=5, rest_seconds=0.5)


# --- laws -------------------------------------------------------------------------------------------------------------


class Schedule:
    """Faults by the number of the run, for any number of threads; a `faults` of a stand-in."""

    def __init__(self, faults: list[type[Exception] | None]) -> None:
        self._left: Iterator[type[Exception] | None] = iter(faults)
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return True

    def pop(self, index: int) -> Exception | None:
        with self._lock:
            kind = next(self._left, None)
        return None if kind is None else kind("injected")


FAULTS = st.lists(st.sampled_from([None, None, TransientError, OutOfMemoryError, MemoryError, *KINDS]), max_size=40)


@settings(max_examples=25, deadline=None)
@given(
    one_fails=FAULTS,
    two_fails=FAULTS,
    cancelled=st.sets(st.integers(0, 23), max_size=8),
    memory=st.sampled_from([MemoryKind.HOST, MemoryKind.DEVICE]),
    has_queue=st.booleans(),
    at_once=st.integers(1, 4),
    rest=st.sampled_from([0.0, 0.002]),
)
def test_no_request_is_lost_or_answered_twice_whatever_fails(
    one_fails: list[type[Exception] | None],
    two_fails: list[type[Exception] | None],
    cancelled: set[int],
    memory: MemoryKind,
    has_queue: bool,
    at_once: int,
    rest: float,
) -> None:
    if memory is MemoryKind.HOST:  # what has no room there has none elsewhere
        one_fails, two_fails = (
            [kind for kind in fails if kind is None or not issubclass(kind, MemoryError)]
            for fails in (one_fails, two_fails)
        )
    one = make_provider("one", claims={"Neg"}, memory=memory, has_queue=has_queue)
    two = make_provider("two", memory=memory)
    limits = FaultLimits(failures=2, rest_seconds=rest, longest_rest_seconds=1.0)
    answers: Counter[RunFuture] = Counter()
    bound = 5

    def counted(answer: Any) -> Any:
        def method(future: RunFuture, *arguments: Any) -> None:
            answers[future] += 1
            answer(future, *arguments)

        return method

    with (
        mock.patch.object(RunFuture, "succeed", counted(RunFuture.succeed)),
        mock.patch.object(RunFuture, "fail", counted(RunFuture.fail)),
        opened(one, two, "Neg", "Exp", "Neg", faults=limits) as session,
    ):
        session.run({"x": X})
        one.faults, two.faults = Schedule(one_fails), Schedule(two_fails)  # type: ignore[assignment]
        queue = queue_of("one:0")
        before = queue.limits
        set_queue_limits("one:0", QueueLimits(waiting=bound, running=at_once))
        try:
            futures = []
            for number in range(24):
                future = session.run_async({"x": X + number}, wait=None)
                assert queue.waiting <= bound
                futures.append(future)
                if number in cancelled:
                    future.cancel()
            for number, future in enumerate(futures):
                try:
                    found = future.result(timeout=60)["y"]
                except CancelledError:
                    assert number in cancelled
                else:
                    np.testing.assert_allclose(found, -np.exp(-(X + number)), rtol=1e-6)
        finally:
            set_queue_limits("one:0", before)
        with pytest.raises(QueueFullError):  # the bound holds where nobody waits for room
            while True:
                futures.append(session.run_async({"x": X}, wait=0))
        session._runners.give_up_kept()
    assert set(answers.values()) == {1} and answers.keys() >= set(futures)
    for backend in (*one.opened, *two.opened):
        assert backend.closed and backend.device_memory.alive == 0
        assert backend.executions == backend.compiled_alive == 0


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_pressure_shrinks_what_is_kept_before_it_fails() -> None:
    one, two = pair(memory=MemoryKind.DEVICE, claims={"Neg"})
    other = make_provider("other", memory=MemoryKind.DEVICE)
    with (
        Session(chain("Neg"), devices=["other"], registry=registry_of(other)) as idle,
        opened(one, two, "Neg", "Exp", faults=LONG) as session,
    ):
        rows = [np.repeat(X, count, axis=0) for count in range(1, 5)]
        expected = [session.run({"x": each})["y"] for each in rows]
        kept, others = one.opened[0].executions, other.opened
        idle.run({"x": X})
        assert kept == 4 and others[0].executions == 1
        one.faults[:] = [OutOfMemoryError("no room")]
        np.testing.assert_array_equal(session.run({"x": rows[0]})["y"], expected[0])
        assert one.opened[0].executions < kept and one.opened[0].device_memory.alive > 0
        assert others[0].executions == 1, "its own come first"
        one.faults[:] = [OutOfMemoryError("no room"), MemoryError()]
        np.testing.assert_array_equal(session.run({"x": rows[1]})["y"], expected[1])
        assert others[0].executions == 0 and not two.faults
        assert used(session) == {"one:0", "two:0"}, "it had room then"


def test_nothing_is_given_up_for_what_this_machine_can_never_hold() -> None:
    one = make_provider("one")
    with Session(chain("Neg"), devices=["one"], registry=registry_of(one)) as session:
        session.run({"x": X})
        error = OutOfMemoryError("3 EB")
        error.needed_bytes = 3 << 60
        one.faults[:] = [error]
        runs = one.opened[0].runs
        with pytest.raises(OutOfMemoryError, match="3 EB"):
            session.run({"x": X})
        assert one.opened[0].runs == runs + 1


def test_a_compilation_is_tried_once_more_with_less_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    one = make_provider("one", claims={"Neg"})
    with Session(chain("Neg", shape=("n", 4)), devices=["one"], registry=registry_of(one)) as session:
        session.run({"x": X})
        session.run({"x": np.repeat(X, 2, axis=0)})
        backend = one.opened[0]
        honest, fails = type(backend).compile, [MemoryError()]

        def compile_(self: Any, views: Any) -> Any:
            if fails:
                raise fails.pop()
            return honest(self, views)

        monkeypatch.setattr(type(backend), "compile", compile_)
        session.run({"x": np.repeat(X, 3, axis=0)})
        assert not fails and used(session) == {"one:0"}
