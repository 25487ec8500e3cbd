"""Plans: many kernels in one native call."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.errors import CancelledError, ProviderBugError
from mace_core.native.plan import NativePlan, PlanInstance, PlanStep, gate
from mace_core.native.pool import ThreadPool
from mace_core.native.runner_ir import GATE
from mace_core.native.sizes import PlanSizes
from mace_core.provider.execution import CancelFlag
from mace_core.symbolic import SizeProgram
from mace_core.symbolic.program import Op

ENDLESS = 20_000
"""Steps of 10 ms each: more than any test waits for."""

ATTEMPTS = 30
"""What needs several threads to get a turn at once is tried so often: a busy machine may refuse them."""


@pytest.fixture(scope="module", params=["futex", "semaphore"])
def pool(request: pytest.FixtureRequest) -> Iterator[ThreadPool]:
    from mace_core.native.system_ir import has_futex
    from mace_core.native.target import host_target

    if request.param == "futex" and not has_futex(host_target()):
        pytest.skip("this system has no futex")
    with ThreadPool(4, parking=request.param) as made:
        yield made


def counting(kernel: int, extent: int, chunks: int, steps: int = 1) -> PlanInstance:
    """Each step adds 1 to each of ``extent`` counters at the address in slot 0."""
    plan = NativePlan([PlanStep(kernel, 0, extent, chunks, "count")] * steps, [0, 0], [(0, 0, 0)])
    return plan.new_instance()


class TestGates:
    @pytest.mark.parametrize(
        ("outer", "inner", "ran"),
        [(0, 0, {0, 5}), (0, 1, {0, 5}), (1, 0, {0, 2, 4, 5}), (255, 7, {0, 2, 5})],
    )
    def test_steps_behind_a_gate_run_where_the_condition_holds(
        self, count_kernel: int, pool: ThreadPool, outer: int, inner: int, ran: set[int]
    ) -> None:
        """Six steps, of which 1 and 3 are gates; each of the others adds 1 to counters of its own."""
        chunks, gates = 5, {1: (True, 0), 3: (False, 1)}
        steps = [
            gate(2 * number, runs_if=gates[number][0], until=5)
            if number in gates
            else PlanStep(count_kernel, 2 * number, chunks, chunks)
            for number in range(6)
        ]
        relocations = [
            (2 * number, 1, gates[number][1]) if number in gates else (2 * number, 0, 8 * chunks * number)
            for number in range(6)
        ]
        instance = NativePlan(steps, np.zeros(12, np.int64), relocations).new_instance()
        counts, conditions = np.zeros((6, chunks), np.int64), np.array([outer, inner], np.uint8)
        for workers in (None, pool):
            for is_profiled in (False, True):
                counts.fill(0)
                instance.run([counts.ctypes.data, conditions.ctypes.data], pool=workers, profile=is_profiled)
                assert counts.tolist() == [[int(number in ran)] * chunks for number in range(6)]
            assert {index for index, _, _ in instance.timings()} == ran
            assert {chunk.step for chunk in instance.chunk_times()} == ran

    @pytest.mark.parametrize("condition", [0, 1])
    def test_a_last_gate_ends_the_plan_or_does_not(self, count_kernel: int, condition: int) -> None:
        steps = [gate(2, runs_if=False, until=2), PlanStep(count_kernel, 0, 1)]
        instance = NativePlan(steps, [0, 0, 0], [(0, 0, 0), (2, 1, 0)]).new_instance()
        counts, flags = np.zeros(1, np.int64), np.array([condition], np.uint8)
        instance.run([counts.ctypes.data, flags.ctypes.data])
        assert counts[0] == 1 - condition


class TestArguments:
    def test_relocations_add_an_offset_to_the_base_of_a_slot(self, count_kernel: int) -> None:
        first, second = np.zeros(4, np.int64), np.zeros(4, np.int64)
        steps = [PlanStep(count_kernel, 0, 2), PlanStep(count_kernel, 2, 1)]
        plan = NativePlan(steps, [-1, 0, -1, 1], [(0, 1, 8), (2, 0, 16)])
        plan.new_instance().run([first.ctypes.data, second.ctypes.data])
        assert list(second) == [0, 1, 1, 0]
        assert list(first) == [0, 0, 0, 1]

    def test_each_run_has_its_own_addresses(self, count_kernel: int) -> None:
        instance = counting(count_kernel, 3, 1)
        for _ in range(3):
            counts = np.zeros(3, np.int64)
            instance.run(np.array([counts.ctypes.data]))
            assert list(counts) == [1, 1, 1]

    def test_instances_do_not_share_words(self, count_kernel: int) -> None:
        plan = NativePlan([PlanStep(count_kernel, 0, 1)], [0, 0], [(0, 0, 0)])
        before = plan.words.copy()
        counts = np.zeros((2, 1), np.int64)
        instances = [plan.new_instance(), plan.new_instance()]
        for instance, row in zip(instances, counts, strict=True):
            instance.run([row.ctypes.data])
        assert counts.tolist() == [[1], [1]]
        assert np.array_equal(plan.words, before)

    def test_an_empty_plan_does_nothing(self) -> None:
        instance = NativePlan([], [], []).new_instance()
        instance.run([], profile=True)
        assert instance.timings() == []

    def test_the_number_of_bases_is_checked(self, count_kernel: int) -> None:
        with pytest.raises(ProviderBugError, match="1 base slots, 2 addresses"):
            counting(count_kernel, 1, 1).run([0, 0])

    @pytest.mark.parametrize(
        ("step", "relocation", "message"),
        [
            ((0, 0, 1, 1), (0, 0, 0), "has no kernel"),
            ((1, 9, 1, 1), (0, 0, 0), "argument index 9"),
            ((GATE, 0, 0, 1), (0, 0, 0), "leads to itself"),
            ((GATE, 0, 2, 1), (0, 0, 0), "no gate between steps"),
            ((GATE, 2, 1, 1), (0, 0, 0), "word 2"),
            ((1, 0, 1, 0), (0, 0, 0), "0 chunks"),
            ((1, 0, -1, 1), (0, 0, 0), "-1 units"),
            ((1, 0, 1, 1), (2, 0, 0), "relocation"),
            ((1, 0, 1, 1), (0, -1, 0), "relocation"),
        ],
    )
    def test_an_impossible_plan_is_refused(
        self, step: tuple[int, int, int, int], relocation: tuple[int, int, int], message: str
    ) -> None:
        with pytest.raises(ProviderBugError, match=message):
            NativePlan([PlanStep(*step)], [0, 0], [relocation])


class TestChunks:
    @settings(max_examples=80)
    @given(data=st.data())
    def test_every_unit_is_done_once_whatever_the_chunks_and_threads(
        self, data: st.DataObject, pool: ThreadPool, count_kernel: int
    ) -> None:
        shapes = data.draw(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), min_size=1, max_size=6))
        threads = data.draw(st.integers(1, 6))
        counts = np.zeros(302, np.int64)
        steps = [PlanStep(count_kernel, 0, extent, chunks) for extent, chunks in shapes]
        NativePlan(steps, [0, 1], [(0, 0, 0)]).new_instance().run([counts.ctypes.data], pool=pool, threads=threads)
        expected = np.zeros(302, np.int64)
        for extent, _ in shapes:
            expected[1 : 1 + extent] += 1
        np.testing.assert_array_equal(counts, expected)

    @settings(max_examples=40)
    @given(extent=st.integers(1, 2000), chunks=st.integers(1, 64), steps=st.integers(1, 30), threads=st.integers(1, 4))
    def test_a_step_sees_all_of_the_step_before(
        self, extent: int, chunks: int, steps: int, threads: int, pool: ThreadPool, triple_kernel: int
    ) -> None:
        a, b = np.arange(extent, dtype=np.int64), np.zeros(extent, np.int64)
        words = [0, 0, extent, 0, 0, extent]
        plan = NativePlan(
            [PlanStep(triple_kernel, 3 * (i % 2), extent, chunks) for i in range(steps)],
            words,
            [(0, 0, 0), (1, 1, 0), (3, 1, 0), (4, 0, 0)],
        )
        plan.new_instance().run([a.ctypes.data, b.ctypes.data], pool=pool, threads=threads)
        expected, index = np.arange(extent, dtype=np.int64), np.arange(extent)
        with np.errstate(over="ignore"):
            for _ in range(steps):
                expected = expected[::-1] * 3 + index
        np.testing.assert_array_equal(b if steps % 2 else a, expected)

    def test_chunks_run_beside_each_other(self, pool: ThreadPool, sleep_kernel: int) -> None:
        marks = np.zeros(4, np.int64)
        instance = NativePlan([PlanStep(sleep_kernel, 0, 4, 4)], [40_000, 0], [(1, 0, 0)]).new_instance()
        instance.run([marks.ctypes.data], pool=pool)  # the first run starts the workers
        instance.run([marks.ctypes.data], pool=pool, threads=1, profile=True)
        assert not overlapping(instance)
        assert any(overlapping_in_a_run(instance, marks, pool) for _ in range(ATTEMPTS))
        assert len(set(marks)) == 1

    def test_no_more_threads_take_part_than_asked_for(self, pool: ThreadPool, sleep_kernel: int) -> None:
        marks = np.zeros(4, np.int64)
        instance = NativePlan([PlanStep(sleep_kernel, 0, 4, 4)], [20_000, 0], [(1, 0, 0)]).new_instance()
        instance.run([marks.ctypes.data], pool=pool)
        instance.run([marks.ctypes.data], pool=pool, threads=2, profile=True)
        assert len({each.thread for each in instance.chunk_times()}) <= 2


class TestConcurrency:
    def test_eight_threads_with_instances_of_one_plan(self, pool: ThreadPool, count_kernel: int) -> None:
        plan = NativePlan([PlanStep(count_kernel, 0, 100, 7)] * 20, [0, 0], [(0, 0, 0)])
        results: list[bool] = []

        def work() -> None:
            instance, counts = plan.new_instance(), np.zeros(100, np.int64)
            for _ in range(50):
                instance.run([counts.ctypes.data], pool=pool)
            results.append(bool((counts == 1000).all()))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 8

    def test_one_instance_refuses_two_runs_at_a_time(self, sleep_kernel: int) -> None:
        marks = np.zeros(1, np.int64)
        flag = CancelFlag()
        instance = NativePlan([PlanStep(sleep_kernel, 0)] * ENDLESS, [10_000, 0], [(1, 0, 0)]).new_instance()
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(instance.run, [marks.ctypes.data], cancel=flag)
            until_started(marks)
            with pytest.raises(ProviderBugError, match="one instance for each request"):
                instance.run([marks.ctypes.data])
            flag.set()
            with pytest.raises(CancelledError):
                running.result()

    def test_the_gil_is_free_during_a_run(self, count_kernel: int, sleep_kernel: int) -> None:
        """A first step counts, a second sleeps: where this thread sees the one and not yet the other, it was let in."""

        def seen_in_between() -> bool:
            marks = np.zeros(2, np.int64)
            steps = [PlanStep(count_kernel, 0), PlanStep(sleep_kernel, 2)]
            relocations = [(0, 0, 0), (3, 0, marks.itemsize)]
            instance = NativePlan(steps, [0, 0, 100_000, 0], relocations).new_instance()
            thread = threading.Thread(target=instance.run, args=([marks.ctypes.data],))
            thread.start()
            while not marks[0]:
                time.sleep(0)
            between = not marks[1]
            thread.join()
            return between

        assert any(seen_in_between() for _ in range(ATTEMPTS))


class TestCancel:
    def test_a_flag_set_before_stops_before_the_first_step(self, count_kernel: int) -> None:
        counts, flag = np.zeros(1, np.int64), CancelFlag()
        instance = counting(count_kernel, 1, 1)
        flag.set()
        with pytest.raises(CancelledError):
            instance.run([counts.ctypes.data], cancel=flag)
        assert counts[0] == 0
        flag.clear()
        instance.run([counts.ctypes.data], cancel=flag)
        assert counts[0] == 1

    def test_a_flag_set_during_a_run_stops_between_chunks(self, pool: ThreadPool, sleep_kernel: int) -> None:
        marks, flag = np.zeros(2, np.int64), CancelFlag()
        plan = NativePlan([PlanStep(sleep_kernel, 0, 2, 2)] * ENDLESS, [10_000, 0], [(1, 0, 0)])
        instance = plan.new_instance()
        once_started(marks, flag.set)
        with pytest.raises(CancelledError):
            instance.run([marks.ctypes.data], pool=pool, cancel=flag)
        assert 0 < marks[0] < ENDLESS
        assert abs(marks[0] - marks[1]) <= 1  # the last step may have one of its two chunks done
        settled = marks.copy()
        time.sleep(0.03)
        assert np.array_equal(marks, settled)

    def test_ctrl_c_is_seen_within_a_run_and_the_instance_stays_usable(self, sleep_kernel: int) -> None:
        marks = np.zeros(1, np.int64)
        instance = NativePlan([PlanStep(sleep_kernel, 0)] * ENDLESS, [10_000, 0], [(1, 0, 0)]).new_instance()
        main = threading.main_thread().ident
        assert main is not None
        interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
        once_started(marks, lambda: interrupt(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt)))
        with pytest.raises(KeyboardInterrupt):
            instance.run([marks.ctypes.data])
        done = int(marks[0])
        assert 0 < done < ENDLESS
        short = NativePlan([PlanStep(sleep_kernel, 0)] * 300, [1, 0], [(1, 0, 0)]).new_instance()
        short.run([marks.ctypes.data])
        assert marks[0] == done + 300

    def test_a_run_longer_than_a_slice_goes_on_where_it_was(self, sleep_kernel: int) -> None:
        marks = np.zeros(1, np.int64)
        instance = NativePlan([PlanStep(sleep_kernel, 0)] * 30, [10_000, 0], [(1, 0, 0)]).new_instance()
        instance.run([marks.ctypes.data])
        assert marks[0] == 30


class TestPieces:
    @pytest.mark.parametrize(
        ("extent", "chunks", "piece"), [(1, 1, 1), (10, 1, 3), (10, 4, 1), (7, 3, 100), (64, 5, 2)]
    )
    def test_every_unit_is_computed_once(
        self, pool: ThreadPool, count_kernel: int, extent: int, chunks: int, piece: int
    ) -> None:
        for helpers in (None, pool):
            counts = np.zeros(extent, np.int64)
            plan = NativePlan([PlanStep(count_kernel, 0, extent, chunks, piece=piece)], [0, 0], [(0, 0, 0)])
            plan.new_instance().run([counts.ctypes.data], pool=helpers)
            assert (counts == 1).all()

    def test_a_run_stops_between_the_pieces_of_one_chunk(self, sleep_kernel: int) -> None:
        marks, flag = np.zeros(500, np.int64), CancelFlag()
        plan = NativePlan([PlanStep(sleep_kernel, 0, 500, 1, piece=1)], [10_000, 0], [(1, 0, 0)])
        once_started(marks, flag.set)
        with pytest.raises(CancelledError):
            plan.new_instance().run([marks.ctypes.data], cancel=flag)
        assert 0 < marks.sum() < 250

    def test_the_last_step_too_counts_as_left_undone(self, count_kernel: int, polling_kernel: int) -> None:
        """A kernel that was told to stop is not taken for one that is done, though the flag is clear again."""
        flag, has_ended = CancelFlag(), threading.Event()
        instance, marks = counting_then(count_kernel, polling_kernel)

        def touch() -> None:
            while not has_ended.is_set():  # again, should the kernel not have had its turn meanwhile
                flag.set()
                time.sleep(0.05)
                flag.clear()

        once_started(marks, touch)
        try:
            with pytest.raises(CancelledError):
                instance.run([marks.ctypes.data], cancel=flag)
        finally:
            has_ended.set()

    def test_a_kernel_that_polls_ends_in_whatever_thread_it_is(
        self, pool: ThreadPool, count_kernel: int, polling_kernel: int
    ) -> None:
        flag = CancelFlag()
        instance, marks = counting_then(count_kernel, polling_kernel, 4)
        for _ in range(2):
            flag.clear()
            marks.fill(0)
            once_started(marks, flag.set)
            with pytest.raises(CancelledError):
                instance.run([marks.ctypes.data], pool=pool, cancel=flag)

    @pytest.mark.parametrize("chunks", [1, 4])
    def test_a_signal_is_heard_within_a_kernel(
        self, pool: ThreadPool, count_kernel: int, polling_kernel: int, chunks: int
    ) -> None:
        """It is sent once native code runs: one that came before would end the process that runs the tests."""
        instance, marks = counting_then(count_kernel, polling_kernel, chunks)
        for _ in range(2):  # and again by the same instance
            marks.fill(0)
            once_started(marks, interrupt)
            with pytest.raises(KeyboardInterrupt):
                instance.run([marks.ctypes.data], pool=pool)

    def test_a_signal_handler_that_does_not_raise_stops_nothing(self, sleep_kernel: int) -> None:
        marks, seen = np.zeros(100, np.int64), []
        plan = NativePlan([PlanStep(sleep_kernel, 0, 100, 1, piece=1)], [10_000, 0], [(1, 0, 0)])
        before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(int(marks.sum())))
        try:
            once_started(marks, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            plan.new_instance().run([marks.ctypes.data])
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert marks.sum() == 100
        assert seen and seen[0] < 100

    def test_another_thread_than_the_main_one_does_not_look_at_signals(
        self, count_kernel: int, polling_kernel: int
    ) -> None:
        flag = CancelFlag()
        instance, marks = counting_then(count_kernel, polling_kernel)
        raised: list[BaseException] = []

        def work() -> None:
            try:
                instance.run([marks.ctypes.data], cancel=flag)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        until_started(marks)
        with pytest.raises(KeyboardInterrupt):
            interrupt()
            time.sleep(60)
        flag.set()
        thread.join()
        assert [type(error) for error in raised] == [CancelledError]
        marks.fill(0)
        once_started(marks, interrupt)
        with pytest.raises(KeyboardInterrupt):  # here, in the main thread, it does
            instance.run([marks.ctypes.data])

    def test_every_one_of_many_signals_stops_a_run(self, count_kernel: int, polling_kernel: int) -> None:
        """Wherever the thread is when one comes: in a kernel, on its way into Python or out of it."""
        instance, marks = counting_then(count_kernel, polling_kernel)
        for _ in range(20):
            marks.fill(0)
            once_started(marks, interrupt)
            with pytest.raises(KeyboardInterrupt):
                instance.run([marks.ctypes.data])


class TestProfile:
    def test_start_and_end_of_every_step(self, pool: ThreadPool, sleep_kernel: int) -> None:
        marks = np.zeros(2, np.int64)
        plan = NativePlan([PlanStep(sleep_kernel, 0, 1), PlanStep(sleep_kernel, 0, 2, 2)], [5_000, 0], [(1, 0, 0)])
        instance = plan.new_instance()
        assert instance.timings() == []
        before = time.monotonic_ns()
        instance.run([marks.ctypes.data], pool=pool, profile=True)
        after = time.monotonic_ns()
        (first, start0, end0), (second, start1, end1) = instance.timings()
        assert (first, second) == (0, 1)
        assert before <= start0 < end0 <= start1 < end1 <= after
        assert end0 - start0 >= 5_000_000

    def test_thread_start_and_end_of_every_chunk(self, pool: ThreadPool, sleep_kernel: int) -> None:
        marks = np.zeros(4, np.int64)
        steps = [PlanStep(sleep_kernel, 0, 4, 4), PlanStep(sleep_kernel, 0, 1), PlanStep(sleep_kernel, 0, 4, 3)]
        instance = NativePlan(steps, [5_000, 0], [(1, 0, 0)]).new_instance()
        assert instance.chunk_times() == []
        runs = 0
        for _ in range(ATTEMPTS):  # the first run starts the workers, which a busy machine may keep from their turn
            instance.run([marks.ctypes.data], pool=pool, profile=True)
            runs += 1
            found = instance.chunk_times()
            if len({each.thread for each in found[:4]}) > 1 and runs > 1:
                break
        assert marks.tolist() == [3 * runs, 2 * runs, 2 * runs, runs]
        expected = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (2, 1), (2, 2)]
        assert [(each.step, each.chunk) for each in found] == expected
        spans = {index: (start, end) for index, start, end in instance.timings()}
        for each in found:
            assert spans[each.step][0] <= each.start_ns
            assert each.end_ns <= spans[each.step][1]
            assert each.end_ns - each.start_ns >= 5_000_000
        here = threading.get_ident()
        assert found[4].thread == here
        workers = {thread.ident for thread in threading.enumerate() if thread.name.startswith("mace-worker")}
        assert {each.thread for each in found} <= workers | {here}
        assert len({each.thread for each in found[:4]}) > 1
        for thread in {each.thread for each in found}:  # a thread does one thing at a time
            times = sorted((each.start_ns, each.end_ns) for each in found if each.thread == thread)
            assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))

    def test_a_profiled_run_computes_the_same_and_so_does_the_next(self, pool: ThreadPool, triple_kernel: int) -> None:
        a, b = np.arange(99, dtype=np.int64), np.zeros(99, np.int64)
        steps = [PlanStep(triple_kernel, 3 * (i % 2), 99, 1 + i) for i in range(6)]
        plan = NativePlan(steps, [0, 0, 99, 0, 0, 99], [(0, 0, 0), (1, 1, 0), (3, 1, 0), (4, 0, 0)])
        expected = [a.copy(), b.copy()]
        plan.new_instance().run([each.ctypes.data for each in expected])
        instance = plan.new_instance()
        for profile in (True, False, True):
            first, second = a.copy(), b.copy()
            instance.run([first.ctypes.data, second.ctypes.data], pool=pool, profile=profile)
            np.testing.assert_array_equal(first, expected[0])
            np.testing.assert_array_equal(second, expected[1])

    def test_a_cancelled_run_tells_only_what_it_did(self, sleep_kernel: int) -> None:
        marks, flag = np.zeros(1, np.int64), CancelFlag()
        instance = NativePlan([PlanStep(sleep_kernel, 0)] * ENDLESS, [10_000, 0], [(1, 0, 0)]).new_instance()
        once_started(marks, flag.set)
        with pytest.raises(CancelledError):
            instance.run([marks.ctypes.data], cancel=flag, profile=True)
        assert 0 < len(instance.chunk_times()) == len(instance.timings()) == marks[0] < ENDLESS


def counting_then(count: int, kernel: int, chunks: int = 1) -> tuple[PlanInstance, np.ndarray]:
    """A plan that says by a counter, the word of slot 0, that it runs, and then runs a kernel without arguments."""
    words = [0, 0, 0, 0]  # where the counters are, the first of them, the control word of the kernel, its arguments
    steps = [PlanStep(count, 0), PlanStep(kernel, 3, chunks, chunks)]
    instance = NativePlan(steps, words, [(0, 0, 0)], [2]).new_instance()
    return instance, np.zeros(1, np.int64)


def interrupt() -> None:
    """As Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def until_started(marks: np.ndarray) -> None:
    """Until the first step is done."""
    while not marks[0]:
        time.sleep(0.001)


def once_started(marks: np.ndarray, action: Callable[[], object]) -> None:
    """Do this in a thread once the first step is done."""

    def wait_and_act() -> None:
        until_started(marks)
        action()

    threading.Thread(target=wait_and_act, daemon=True).start()


def overlapping_in_a_run(instance: PlanInstance, marks: np.ndarray, pool: ThreadPool) -> bool:
    instance.run([marks.ctypes.data], pool=pool, profile=True)
    return overlapping(instance)


def overlapping(instance: PlanInstance) -> bool:
    """Whether a chunk of the profiled run began before another had ended."""
    times = sorted((each.start_ns, each.end_ns) for each in instance.chunk_times())
    return any(start < end for (_, end), (start, _) in itertools.pairwise(times))


# --- sizes that are decided at a run ----------------------------------------------------------------------------------


def sized_plan(
    rows: list[list[int]] | None = None,
    words: list[list[int]] | None = None,
    steps: list[list[int]] | None = None,
    relocations: list[list[int]] | None = None,
) -> NativePlan:
    """A plan of one step whose sizes are computed by these tables; by default by some that are right."""
    tables = (
        ([[Op.ADD_N, 0, 1], [Op.MULTIPLY, 0, 1], [Op.NUMBER, 0, 7]] if rows is None else rows, 3),
        ([[0, 2]] if words is None else words, 2),
        ([[0, 2, 1]] if steps is None else steps, 3),
        ([[0, 3]] if relocations is None else relocations, 2),
    )
    program, *others = (np.array(table, np.int64).reshape(-1, width) for table, width in tables)
    sizes = PlanSizes(SizeProgram(1, program), *others)
    return NativePlan([PlanStep(1, 0)], [0, 0], [(0, 0, 0)], sizes=sizes)


@pytest.mark.parametrize(
    "tables",
    [
        {"rows": [[9, 0, 1]]},
        {"rows": [[-1, 0, 1]]},
        {"rows": [[Op.ADD_N, 1, 1]]},  # of itself
        {"rows": [[Op.ADD, 0, 1]]},
        {"rows": [[Op.ADD, 0, -1]]},
        {"rows": [[Op.ADD_N, -1, 1]]},
        {"words": [[2, 0]]},
        {"words": [[-1, 0]]},
        {"words": [[0, 4]]},
        {"words": [[0, -1]]},
        {"steps": [[1, 2, 0]]},
        {"steps": [[0, 5, 0]]},
        {"steps": [[0, 0, 0]]},  # the kernel itself
        {"steps": [[0, 1, 0]]},  # where its arguments are
        {"steps": [[0, 2, 4]]},
        {"relocations": [[1, 0]]},
        {"relocations": [[0, 4]]},
    ],
)
def test_sizes_that_lie_outside_a_plan_are_refused(tables: dict[str, list[list[int]]]) -> None:
    sized_plan()
    with pytest.raises(ProviderBugError, match="does not exist"):
        sized_plan(**tables)
