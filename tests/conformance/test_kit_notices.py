"""The kit's own checks fail where a provider breaks a promise: each is put to one that does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "vendor_plugin"))

import acme_npu.backend
from acme_npu.backend import AcmeBackend, AcmeExecution, AcmeSubgraph
from acme_npu.memory import DeviceMemory
from acme_npu.program import Command
from acme_npu.provider import AcmeProvider
from acme_npu.queue import AcmeEvent, AcmeStream
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.parts.views import Strided

from mace_core.errors import ProviderError
from mace_core.graph import GraphView
from mace_core.provider import Backend, Bindings, Buckets, Capability, Device, Event, Execution, Rejection
from mace_core.provider.registry import default_registry
from mace_core.scheduler.host.reference import ReferenceBackend
from mace_core.testing import Declaration, ProviderConformance


class Kit(ProviderConformance):
    """Not collected: its checks are called one by one."""

    __test__ = False
    declaration = Declaration(
        provider="acme",
        device="sim0",
        operators=dict.fromkeys(("Relu", "Sigmoid", "MatMul"), ("float32",)),
        declines=dict.fromkeys(("MatMul batched", "MatMul broadcast batch"), "the second operand is not constant"),
        serializes=True,
        streams=True,
    )


@pytest.fixture
def provider() -> Iterator[AcmeProvider]:
    registry = default_registry()
    registry.register(AcmeProvider)
    yield AcmeProvider()
    registry.unregister("acme")


@pytest.fixture
def device(provider: AcmeProvider) -> Device:
    return provider.probe().devices[0]


@pytest.fixture
def backend(provider: AcmeProvider, device: Device) -> Iterator[Backend]:
    opened = provider.open(device, {})
    yield opened
    opened.close()


def test_the_checks_pass_for_a_provider_that_keeps_its_promises(
    provider: AcmeProvider, device: Device, backend: Backend
) -> None:
    Kit().test_sessions_give_back_all_they_took(provider, device)
    Kit().test_enqueued_runs_agree(backend)
    Kit().test_enqueued_runs_keep_their_order_and_wait_for_events(backend)


class TestWhatIsLeft:
    def test_objects_that_outlive_their_session(
        self, provider: AcmeProvider, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hoard: list[object] = []
        new_execution = AcmeSubgraph.new_execution

        def hoarding(compiled: AcmeSubgraph) -> Execution:
            hoard.append(made := new_execution(compiled))
            return made

        monkeypatch.setattr(AcmeSubgraph, "new_execution", hoarding)
        with pytest.raises(AssertionError, match=r"left objects behind.*AcmeSubgraph"):
            Kit().test_sessions_give_back_all_they_took(provider, device)

    def test_a_buffer_that_is_never_freed(
        self, provider: AcmeProvider, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(AcmeSubgraph, "close", lambda self: None)
        with pytest.raises(AssertionError, match="buffers were never freed"):
            Kit().test_sessions_give_back_all_they_took(provider, device)

    def test_a_buffer_that_is_freed_twice(
        self, provider: AcmeProvider, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(DeviceMemory, "free", lambda self, buffer: self._blocks.pop(buffer.handle, None))
        monkeypatch.setattr(AcmeSubgraph, "close", lambda self: [self.memory.free(b) for b in self._weights * 2])
        with pytest.raises(AssertionError, match="buffers were freed twice"):
            Kit().test_sessions_give_back_all_they_took(provider, device)


class TestBuckets:
    """A device that declares buckets, and in what it compiles for them lets rows look at each other."""

    class InBuckets(Kit):
        __test__ = False
        declaration = replace(Kit.declaration, options={"largest_bucket": 8})

    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))  # where nobody finds what an honest device said

    @pytest.fixture
    def backend(self, provider: AcmeProvider, device: Device) -> Iterator[Backend]:
        opened = provider.open(device, self.InBuckets.declaration.options)
        yield opened
        opened.close()

    def test_what_is_honest_passes(self, backend: Backend, device: Device) -> None:
        assert backend.buckets == Buckets.powers_of_two(8)
        self.InBuckets().test_padded_sizes_give_what_exact_ones_give(backend, device)

    def test_results_that_depend_on_the_padding(
        self, backend: Backend, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = acme_npu.backend.computed

        def dishonest(command: Command, registers: Mapping[int, Any]) -> tuple[Any, ...]:
            results = honest(command, registers)
            has_copies = any(len(r) > 2 and np.array_equal(r[-1], r[-2]) for r in results if r.ndim)
            return tuple(result + has_copies for result in results)

        monkeypatch.setattr(acme_npu.backend, "computed", dishonest)
        with pytest.raises(AssertionError, match="positions: y0"):
            self.InBuckets().test_padded_sizes_give_what_exact_ones_give(backend, device)

    def test_buckets_that_are_never_used(
        self, backend: Backend, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def capability(self: AcmeBackend, view: GraphView) -> Capability:
            return Capability([], [Rejection(node, "it takes nothing today") for node in view.nodes])

        monkeypatch.setattr(AcmeBackend, "capability", capability)
        with pytest.raises(AssertionError, match="takes none of the kit's cases in a size that is padded"):
            self.InBuckets().test_padded_sizes_give_what_exact_ones_give(backend, device)


class Lifo(AcmeStream):
    """Runs what is queued from the end, and only when somebody waits."""

    def __init__(self, name: str) -> None:
        self.pending: list[tuple[Callable[[], None], AcmeEvent]] = []

    def submit(self, command: Callable[[], None], wait: Sequence[Event]) -> AcmeEvent:
        event = LazyEvent(self)
        self.pending.append((command, event))
        return event

    def synchronize(self) -> None:
        while self.pending:
            command, event = self.pending.pop()
            command()
            event.finish(None)

    def close(self) -> None:
        self.synchronize()


class LazyEvent(AcmeEvent):
    def __init__(self, stream: Lifo) -> None:
        super().__init__()
        self._stream = stream

    def wait(self) -> None:
        self._stream.synchronize()
        super().wait()


class Deaf(AcmeStream):
    """Keeps its own order, and listens to no other queue."""

    def submit(self, command: Callable[[], None], wait: Sequence[Event]) -> AcmeEvent:
        return super().submit(command, ())


class TestQueues:
    @pytest.mark.parametrize(("kind", "queues"), [(Lifo, 1), (Deaf, 2)])
    def test_runs_that_do_not_wait_for_those_before(
        self, backend: Backend, kind: type[AcmeStream], queues: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if kind is Deaf:  # the first queue is late, so that the second would have to wait
            run = AcmeExecution.run
            made = iter(range(100))
            late = {f"queue {number}" for number in range(0, 100, 2)}

            def sluggish(execution: AcmeExecution, bindings: Bindings) -> None:
                if threading.current_thread().name in late:
                    time.sleep(0.05)
                run(execution, bindings)

            monkeypatch.setattr(AcmeExecution, "run", sluggish)
            monkeypatch.setattr(AcmeBackend, "create_stream", lambda self: Deaf(f"queue {next(made)}"))
        else:
            monkeypatch.setattr(AcmeBackend, "create_stream", lambda self: kind("queue"))
        with pytest.raises(AssertionError, match=f"over {queues} queues"):
            Kit().test_enqueued_runs_keep_their_order_and_wait_for_events(backend)

    def test_results_that_are_mixed_up(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        queued: list[Bindings] = []

        def enqueue(self: AcmeExecution, stream: AcmeStream, bindings: Bindings, wait: Sequence[Event]) -> AcmeEvent:
            queued.append(bindings)
            return stream.submit(lambda: self.run(queued[0]), wait)

        monkeypatch.setattr(AcmeExecution, "enqueue", enqueue)
        with pytest.raises(AssertionError):
            Kit().test_enqueued_runs_agree(backend)


def test_a_reference_that_fails_fails_the_check(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ProviderError("no body for this operator")

    monkeypatch.setattr(ReferenceBackend, "compile", fail)
    with pytest.raises(ProviderError, match="no body"):
        Kit().test_claimed_cases_agree_with_the_reference(
            backend, replace(Kit().some_case(), name="seen for the first time")
        )


@pytest.fixture
def cpu() -> Iterator[Backend]:
    found = default_registry().provider("cpu")
    (device,) = found.probe().devices
    opened = found.open(device, {})
    yield opened
    opened.close()


class TestSymbolicSizes:
    """The cpu provider, and what would be wrong with it."""

    def test_sizes_that_are_lost_in_the_stored_form(self, cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        Kit().test_symbolic_sizes_serve_what_they_admit_stored_or_not(cpu)
        monkeypatch.setattr("mace_cpu.plan.stored._restore_sizes", lambda *_: None)
        with pytest.raises(AssertionError, match="restored"):
            Kit().test_symbolic_sizes_serve_what_they_admit_stored_or_not(cpu)

    def test_sizes_that_do_not_reach_a_run(self, cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mace_core.native.size_writer.SizeWriter.write", lambda *_: None)
        with pytest.raises(AssertionError, match="of 6"):
            Kit().test_symbolic_sizes_serve_what_they_admit_stored_or_not(cpu)


class TestOutputsInPlace:
    """The cpu provider, and what would be wrong with it."""

    def test_a_provider_that_ignores_the_gaps(self, cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        Kit().test_entries_are_appended_where_there_is_room(cpu)
        growth = "mace_cpu.shared.program.growths.Growth.strided"
        dense = lambda self, shape: Strided(self.buf, 0, tuple(shape), tuple(strides_of(shape)))  # noqa: E731
        monkeypatch.setattr(growth, dense)
        with pytest.raises(AssertionError, match="axis 1"):
            Kit().test_entries_are_appended_where_there_is_room(cpu)

    def test_a_provider_that_puts_nothing_back(self, cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        Kit().test_what_is_written_over_can_be_put_back(cpu)
        monkeypatch.setattr("mace_cpu.plan.subgraph.CpuExecution.undo", lambda *_: None)
        with pytest.raises(AssertionError, match="after undo"):
            Kit().test_what_is_written_over_can_be_put_back(cpu)
