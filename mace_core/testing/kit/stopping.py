"""Runs that are stopped, and runs that are looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest

from mace_core.errors import CancelledError
from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.provider import Backend, CompiledSubgraph, Execution
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.cases import OPSET
from mace_core.testing.kit.base import Array, KitBase
from mace_core.testing.kit.waiting import PATIENCE_SECONDS, Started
from mace_core.testing.runner import BoundRun, bind, run_once, view_of

LONG_ENOUGH_SECONDS = 0.15
"""A run that takes this long can be stopped in the middle."""

LONGEST_CHAIN = 512
WIDTH = 384
ATTEMPTS = 8
PROMPT_STOPS = 2
PROMPT_SHARE = 0.75
"""A machine that is busy with something else may let a prompt stop look late; in so many tries, twice it does not."""

CLOCK_SLACK_NS = 10_000_000_000
"""Spans are told in time.perf_counter_ns: another clock is further away than this."""


class CallbackError(Exception):
    """What the kit's own callback raises."""


class Prepared(NamedTuple):
    """One run that can be started."""

    view: GraphView
    compiled: CompiledSubgraph
    execution: Execution
    bound: BoundRun


class StoppingChecks(KitBase):
    """A run can be cancelled and profiled, and neither leaves anything broken."""

    def test_a_set_cancel_flag_stops_the_run(self, backend: Backend) -> None:
        with self.prepared(backend) as (_, _, execution, bound):
            bound.bindings.cancel.set()
            with pytest.raises(CancelledError):
                execution.run(bound.bindings)
            bound.bindings.cancel.clear()
            execution.run(bound.bindings)

    def test_a_run_is_cancelled_in_the_middle_not_at_the_end(self, backend: Backend) -> None:
        """The flag is set while a long run is under way, which then ends well before the quickest run did."""
        if not self.declaration.interruptible:
            pytest.skip("the declaration says that the device cannot stop what it has begun")
        graph, feeds = self.long_run(backend)
        view = view_of(graph, feeds)
        (compiled,) = backend.compile([view])
        bound, execution = bind(backend, view, compiled, feeds), compiled.new_execution()
        whole, prompt, last = PATIENCE_SECONDS, 0, ""
        try:
            for _ in range(ATTEMPTS):
                whole = min(whole, _timed(execution, bound))
                seconds = _timed(execution, bound, cancelled_after=whole / 4)
                whole = min(whole, _timed(execution, bound))  # the machine may have been busy before, and not now
                prompt += seconds < PROMPT_SHARE * whole
                last = f"it took {seconds / whole:.0%} of its time"
                if prompt == PROMPT_STOPS:
                    return
        finally:
            execution.close()
            bound.free()
            compiled.close()
        raise AssertionError(
            f"{graph.nodes[0].op_type}: a run of {len(graph.nodes)} nodes was cancelled after a quarter of its time, "
            f"and {last} all the same; poll bindings.cancel between steps, or declare interruptible=False"
        )

    def test_profiled_runs_tell_their_steps(self, backend: Backend) -> None:
        with self.prepared(backend) as (view, _, execution, bound):
            spans: list[tuple[str, tuple[str, ...], int, int]] = []
            bound.bindings.profile = lambda *span: spans.append(span)
            before = time.perf_counter_ns()
            execution.run(bound.bindings)
            after = time.perf_counter_ns()
            if not spans:
                pytest.skip("the backend tells nothing of the time of its steps")
            nodes = {node.name for node in view.nodes}
            for name, source, start, end in spans:
                assert start <= end, f"step '{name}' ends before it begins"
                assert set(source) <= nodes, f"step '{name}' names nodes that are not in the subgraph: {source}"
                assert before - CLOCK_SLACK_NS < start and end < after + CLOCK_SLACK_NS, (
                    f"step '{name}' is not told in the time of time.perf_counter_ns"
                )
            told = {node for _, source, _, _ in spans for node in source}
            assert told == nodes, f"no step stands for {sorted(nodes - told)}"

    def test_a_profile_callback_that_raises_breaks_nothing(self, backend: Backend) -> None:
        """Its error reaches the caller, and the execution and the queue work afterwards."""
        with self.prepared(backend) as (view, compiled, execution, bound):
            right = list(run_once(backend, view, compiled, self.some_case().feeds()).values())
            called: list[str] = []

            def raising(name: str, source: tuple[str, ...], start: int, end: int) -> None:
                called.append(name)
                raise CallbackError(f"told of '{name}'")

            bound.bindings.profile = raising
            error = Started(lambda: execution.run(bound.bindings)).error("a run whose profile callback raises")
            if not called and error is None:
                pytest.skip("the backend tells nothing of the time of its steps")
            self.must_be_told(error, "run")
            bound.bindings.profile = None
            bound.fill_outputs(0)
            execution.run(bound.bindings)
            self.must_be_right(bound, right)
            stream = backend.create_stream()
            if stream is None:
                return
            bound.bindings.profile = raising
            error = Started(lambda: execution.enqueue(stream, bound.bindings, ()).wait()).error("an event")
            self.must_be_told(error, "the event of queued work")
            Started(stream.synchronize).error("synchronize after a profile callback that raised")
            bound.bindings.profile = None
            bound.fill_outputs(0)
            Started(lambda: execution.enqueue(stream, bound.bindings, ()).wait()).finish(
                "work queued after a profile callback that raised"
            )
            self.must_be_right(bound, right)
            stream.close()

    # --- helpers ----------------------------------------------------------------------------------------------------

    def must_be_told(self, error: BaseException | None, who: str) -> None:
        chain = []
        while error is not None:
            chain.append(error)
            error = error.__cause__ or error.__context__
        assert any(isinstance(each, CallbackError) for each in chain), (
            f"{self.some_case().op_type}: the error of a profile callback did not come out of {who} "
            f"(got {type(chain[0]).__name__ if chain else 'no error'})"
        )

    def must_be_right(self, bound: BoundRun, right: list[Array]) -> None:
        for mine, array in zip(bound.outputs(), right, strict=True):
            assert mine is not None
            np.testing.assert_array_equal(
                mine, array, f"{self.some_case().op_type}: wrong results after a profile callback that raised"
            )

    @contextmanager
    def prepared(self, backend: Backend) -> Iterator[Prepared]:
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        bound, execution = bind(backend, view, compiled, case.feeds()), compiled.new_execution()
        try:
            yield Prepared(view, compiled, execution, bound)
        finally:
            execution.close()
            bound.free()
            compiled.close()

    def long_run(self, backend: Backend) -> tuple[Graph, dict[str, Array]]:
        """A chain of nodes that takes long enough to be stopped in the middle."""
        for op_type in ("MatMul", "Gemm", "Softmax", "Sigmoid", "Tanh", "Relu", "Add", "Mul"):
            length = 16
            while length <= LONGEST_CHAIN:
                graph, feeds = chain(op_type, length)
                view = view_of(graph, feeds)
                if len({n for claim in backend.capability(view).claims for n in claim.nodes}) < length:
                    break
                seconds = _seconds_of(backend, view, feeds)
                if seconds >= LONG_ENOUGH_SECONDS:
                    return graph, feeds
                length *= 4 if seconds < LONG_ENOUGH_SECONDS / 4 else 2
        pytest.skip("no chain of nodes that the backend claims takes long enough to be stopped in the middle")


def _seconds_of(backend: Backend, view: GraphView, feeds: dict[str, Array]) -> float:
    """How long a run takes when it has run before."""
    (compiled,) = backend.compile([view])
    bound, execution = bind(backend, view, compiled, feeds), compiled.new_execution()
    try:
        return min(_timed(execution, bound) for _ in range(2))
    finally:
        execution.close()
        bound.free()
        compiled.close()


def _timed(execution: Execution, bound: BoundRun, cancelled_after: float | None = None) -> float:
    """The seconds that a run takes, which is cancelled after so many."""
    cancel = bound.bindings.cancel
    cancel.clear()
    timer = None if cancelled_after is None else threading.Timer(cancelled_after, cancel.set)
    if timer is not None:
        timer.start()
    start = time.perf_counter()
    try:
        execution.run(bound.bindings)
    except CancelledError:
        pass
    finally:
        seconds = time.perf_counter() - start
        if timer is not None:
            timer.cancel()
            timer.join()
        cancel.clear()
    return seconds


def chain(op_type: str, length: int) -> tuple[Graph, dict[str, Array]]:
    """So many nodes of one operator, one after the other, on large square matrices."""
    graph = Graph(f"chain of {length} {op_type}")
    graph.opset_imports = {"": OPSET}
    shape = (WIDTH, WIDTH) if op_type in ("MatMul", "Gemm") else (2 * WIDTH, 2 * WIDTH)
    value = Value("x", TensorType(DType.FLOAT32, shape))
    graph.inputs = [value]
    for number in range(length):
        operands: list[Value | None] = [value]
        if op_type in ("MatMul", "Gemm", "Add", "Mul"):
            random = np.random.default_rng(number)
            weights = random.uniform(-1, 1, shape).astype(np.float32) * np.float32(0.08)
            if number < 2:  # two sets of weights, so that a long chain needs no more memory than a short one
                constant = Value(f"w{number}", None, Tensor.from_numpy(weights))
                graph.initializers[constant.name] = constant
            operands.append(graph.initializers[f"w{number % 2}"])
        value = Value(f"v{number}")
        graph.nodes.append(Node(op_type, operands, [value], name=f"{op_type.lower()} {number}"))
    graph.outputs = [value]
    return graph, {"x": np.random.default_rng(9).uniform(-1, 1, shape).astype(np.float32)}
