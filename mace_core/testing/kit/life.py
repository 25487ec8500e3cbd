"""The life of compiled subgraphs: threads, closing, and that everything is given back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from mace_core.provider import Backend, Device, ExecutionProvider
from mace_core.testing.kit.base import Array, KitBase, shifted
from mace_core.testing.ledger import live_objects, watched
from mace_core.testing.runner import run_once, view_of

CONCURRENT_THREADS = 4
LEAK_CYCLES = 30


class LifeChecks(KitBase):
    """Several threads use one subgraph, and nothing is left behind."""

    def test_concurrent_executions_agree(self, backend: Backend) -> None:
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        feeds = [shifted(case, step) for step in range(CONCURRENT_THREADS)]
        alone = [run_once(backend, view, compiled, each) for each in feeds]
        start = threading.Barrier(CONCURRENT_THREADS)

        def work(index: int) -> list[dict[str, Array]]:
            start.wait()
            return [run_once(backend, view, compiled, feeds[index]) for _ in range(5)]

        with ThreadPoolExecutor(CONCURRENT_THREADS) as threads:
            for index, runs in enumerate(threads.map(work, range(CONCURRENT_THREADS))):
                for run in runs:
                    for name, array in alone[index].items():
                        np.testing.assert_array_equal(run[name], array)
        compiled.close()

    def test_sessions_give_back_all_they_took(self, provider: ExecutionProvider, device: Device) -> None:
        opened = provider.open(device, self.declaration.options)
        allocators = {type(allocator) for allocator in opened.allocators()}
        opened.close()
        cases = [self.some_case(), *self.case_of_weights()]

        def open_run_and_close() -> None:
            for case in cases:
                with self.session(device, case.graph(), strict=True) as session:
                    session.run(case.feeds())

        open_run_and_close()
        before = live_objects()
        with ExitStack() as stack:
            ledgers = [stack.enter_context(watched(kind)) for kind in allocators]
            for _ in range(LEAK_CYCLES):
                open_run_and_close()
        for ledger in ledgers:
            left = list(ledger.outstanding.values())
            assert not left, f"{len(left)} of {ledger.allocated} buffers were never freed, the first is {left[0]}"
            assert not ledger.twice, f"{len(ledger.twice)} buffers were freed twice, the first is {ledger.twice[0]}"
        grown = live_objects() - before
        assert not grown, f"{LEAK_CYCLES * len(cases)} sessions that are closed left objects behind: {dict(grown)}"

    def test_memory_in_use_returns_to_where_it_was(self, backend: Backend) -> None:
        if self.declaration.memory_in_use is None:
            pytest.skip("the declaration gives no memory_in_use")
        measure = self.declaration.memory_in_use
        case = self.some_case()
        view = view_of(case.graph(), case.feeds())
        before = measure(backend)
        for _ in range(3):
            (compiled,) = backend.compile([view])
            run_once(backend, view, compiled, case.feeds())
            compiled.close()
        assert measure(backend) == before

    def test_memory_that_is_given_up_is_made_again(self, backend: Backend) -> None:
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        before = run_once(backend, view, compiled, case.feeds())
        for _ in range(2):
            given_up = backend.trim()
            assert isinstance(given_up, int) and given_up >= 0, f"trim() returned {given_up!r}, no number of bytes"
            for name, array in run_once(backend, view, compiled, case.feeds()).items():
                np.testing.assert_array_equal(array, before[name])
        compiled.close()
        backend.trim()

    def test_close_may_be_called_twice(self, provider: ExecutionProvider, device: Device) -> None:
        backend = provider.open(device, self.declaration.options)
        _, compiled = self.compiled_case(backend)
        execution = compiled.new_execution()
        for _ in range(2):
            execution.close()
        for _ in range(2):
            compiled.close()
        for _ in range(2):
            backend.close()
