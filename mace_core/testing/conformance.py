"""The checks a provider must pass, as a pytest class to inherit from."""

from __future__ import annotations

<<<<<<< HEAD
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from mace_core.errors import CancelledError, UsageError
from mace_core.graph import Graph, Node
from mace_core.provider import Backend, CompiledSubgraph, Device, ExecutionProvider, HostAllocator
from mace_core.provider.registry import default_registry
from mace_core.scheduler.host.reference import ReferenceBackend
from mace_core.session import Session
from mace_core.testing.cases import Case, operator_cases
from mace_core.testing.declaration import Declaration
from mace_core.testing.graphs import mixed_graphs
from mace_core.testing.ledger import live_objects, watched
from mace_core.testing.runner import ADDRESSABLE, bind, run_chained, run_enqueued, run_once, view_of

Array = npt.NDArray[Any]

CONCURRENT_THREADS = 4
LEAK_CYCLES = 30
MIXED_FACTOR = 4
"""Tolerance of a graph of many nodes over that of one."""
QUEUED_RUNS = 4
SMALLEST_SIZE = 8
=======
from mace_core.testing.expected import reference
from mace_core.testing.kit.blobs import BlobChecks
from mace_core.testing.kit.claims import ClaimChecks
from mace_core.testing.kit.comparing import assert_agrees
from mace_core.testing.kit.forms import FormChecks
from mace_core.testing.kit.life import LifeChecks
from mace_core.testing.kit.memory import MemoryChecks
from mace_core.testing.kit.queues import QueueChecks
from mace_core.testing.kit.results import ResultChecks
from mace_core.testing.kit.stopping import StoppingChecks
>>>>>>> 50be944 (Conformance kit: every form of an operator, its neighbours, queues, stopping, blobs, borders)


class ProviderConformance(
    ClaimChecks, ResultChecks, FormChecks, LifeChecks, StoppingChecks, BlobChecks, MemoryChecks, QueueChecks
):
    """Inherit from this, set ``declaration``, and run pytest.

    Cases whose operator the declaration does not name must be declined with a reason, and still be computed right
    through fallback.  Forms of operators (see `mace_core.testing.forms`) may be declined; those claimed must be right.
    """


<<<<<<< HEAD
    # --- fixtures -------------------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> ExecutionProvider:
        return default_registry().provider(cls.declaration.provider)

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, provider: ExecutionProvider) -> Device:
        found = provider.probe()
        for device in found.devices:
            if device.id == cls.declaration.device:
                return device
        reasons = "; ".join(f"{missing.what}: {missing.reason}" for missing in found.missing)
        pytest.skip(f"{cls.declaration.device_name} is not on this machine: {reasons}")

    @pytest.fixture
    def backend(self, provider: ExecutionProvider, device: Device) -> Iterator[Backend]:
        opened = provider.open(device, self.declaration.options)
        yield opened
        opened.close()

    # --- describing -----------------------------------------------------------------------------------------------

    def test_probe_never_raises_and_gives_a_reason_for_what_is_missing(self, provider: ExecutionProvider) -> None:
        for _ in range(2):
            found = provider.probe()
            assert all(device.provider == provider.name for device in found.devices)
            assert len({device.id for device in found.devices}) == len(found.devices), "two devices share an id"
            assert all(is_sentence(missing.reason) for missing in found.missing)
            assert found.devices or found.missing, "neither a device nor a reason why there is none"

    def test_an_unknown_option_is_refused(self, provider: ExecutionProvider, device: Device) -> None:
        with pytest.raises(UsageError, match="no_such_option"):
            provider.open(device, {"no_such_option": 1})

    def test_options_that_bring_in_devices_are_options(self, provider: ExecutionProvider) -> None:
        assert provider.probe_options <= set(provider.options), "probe_options names options the provider does not have"
        assert provider.probe_with({}).devices == provider.probe().devices

    # --- claims ---------------------------------------------------------------------------------------------------

    def test_every_node_is_answered_once_and_claims_are_convex(self, backend: Backend, mixed: Graph) -> None:
        view = view_of(mixed, feeds_for(mixed))
        capability = backend.capability(view)
        claimed = {node for claim in capability.claims for node in claim.nodes}
        rejected = {rejection.node for rejection in capability.rejections}
        assert claimed | rejected == set(view.nodes), "some nodes are neither claimed nor rejected"
        assert not claimed & rejected, "some nodes are claimed and rejected at once"
        for claim in capability.claims:
            if claim.atomic:
                assert is_convex(mixed, set(claim.nodes)), "an atomic claim is not convex"

    def test_the_claim_is_what_was_declared(self, backend: Backend, case: Case) -> None:
        capability = backend.capability(view_of(case.graph(), case.feeds()))
        for rejection in capability.rejections:
            assert is_sentence(rejection.reason), f"'{rejection.reason}' is no reason a user can act on"
        reasons = "; ".join(rejection.reason for rejection in capability.rejections)
        if self.declaration.claims(case):
            assert capability.claims, f"{case.op_type} in {case.dtype} is declared, but declined: {reasons}"
        else:
            assert not capability.claims, "claimed, but not declared: the declaration is out of date"

    # --- results --------------------------------------------------------------------------------------------------

    def test_claimed_cases_agree_with_the_reference(self, backend: Backend, claimed_case: Case) -> None:
        case = claimed_case
        graph = case.graph()
        view = view_of(graph, case.feeds())
        (compiled,) = backend.compile([view])
        try:
            found = run_once(backend, view, compiled, case.feeds())
            again = run_once(backend, view, compiled, case.feeds())
        finally:
            compiled.close()
        expected = reference(graph, case.feeds())
        for name, array in expected.items():
            assert_agrees(found[name], array, self.declaration.tolerance, f"{case.name}: {name}")
            np.testing.assert_array_equal(found[name], again[name], f"{case.name}: the second run differs")

    def test_every_case_is_right_in_a_session_with_fallback(self, device: Device, case: Case) -> None:
        graph = case.graph()
        with self.session(device, case.graph(), strict=False) as session:
            found = session.run(case.feeds())
        for name, array in reference(graph, case.feeds()).items():
            assert_agrees(found[name], array, self.declaration.tolerance, f"{case.name}: {name}")

    def test_mixed_graphs_agree_whatever_is_claimed(self, device: Device, mixed: Graph) -> None:
        feeds = feeds_for(mixed)
        expected = reference(mixed, feeds)
        with self.session(device, mixed, strict=False) as session:
            found = session.run(feeds)
        for name, array in expected.items():
            assert_agrees(found[name], array, MIXED_FACTOR * self.declaration.tolerance, name)

    # --- life of a compiled subgraph --------------------------------------------------------------------------------

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

    def test_a_set_cancel_flag_stops_the_run(self, backend: Backend) -> None:
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        bound = bind(backend, view, compiled, case.feeds())
        execution = compiled.new_execution()
        bound.bindings.cancel.set()
        with pytest.raises(CancelledError):
            execution.run(bound.bindings)
        bound.bindings.cancel.clear()
        execution.run(bound.bindings)
        execution.close()
        bound.free()
        compiled.close()

    def test_blobs_round_trip(self, backend: Backend) -> None:
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        blob = backend.serialize([compiled])
        if not self.declaration.serializes:
            assert blob is None, "the backend serializes, but the declaration says it does not"
            compiled.close()
            return
        assert blob, "the declaration says that the backend serializes"
        expected = run_once(backend, view, compiled, case.feeds())
        compiled.close()
        (restored,) = backend.deserialize(blob, [view])
        for name, array in run_once(backend, view, restored, case.feeds()).items():
            np.testing.assert_array_equal(array, expected[name])
        restored.close()

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

    # --- memory and queues ------------------------------------------------------------------------------------------

    def test_bytes_survive_the_way_to_the_device_and_back(self, backend: Backend) -> None:
        allocator = backend.allocators()[0]
        buffer = allocator.allocate(1000)
        data = np.random.default_rng(0).integers(0, 256, 1000).astype(np.uint8)
        host = HostAllocator().allocate(1000)
        host.host_bytes()[:] = data
        transfer = backend.transfer()
        if buffer.memory in ADDRESSABLE:
            assert buffer.address % 64 == 0, "host buffers are 64-byte aligned"
            buffer.host_bytes()[:] = data
            np.testing.assert_array_equal(buffer.host_bytes(), data)
        else:
            assert transfer is not None, "memory of its own needs a transfer"
            transfer.to_device(host, buffer, 900, source_offset=50, target_offset=100)
            back = HostAllocator().allocate(500)
            transfer.to_host(buffer, back, 500, source_offset=200)
            np.testing.assert_array_equal(back.host_bytes(), data[150:650])
        allocator.free(buffer)

    def test_queued_copies_keep_their_order(self, backend: Backend) -> None:
        stream, transfer = backend.create_stream(), backend.transfer()
        if stream is None or transfer is None:
            pytest.skip("the backend has no queue, or no memory of its own")
        allocator = backend.allocators()[0]
        buffer = allocator.allocate(1000)
        sources = [HostAllocator().allocate(1000) for _ in range(2)]
        for number, source in enumerate(sources):
            source.host_bytes()[:] = number + 1
        back = HostAllocator().allocate(500)
        back.host_bytes()[:] = 0
        events = [
            transfer.enqueue_to_device(stream, sources[0], buffer, 1000),
            transfer.enqueue_to_device(stream, sources[1], buffer, 300, source_offset=100, target_offset=200),
            transfer.enqueue_to_host(stream, buffer, back, 400, source_offset=150, target_offset=50),
        ]
        if None not in events:
            for event in events:
                assert event is not None
                event.wait()
                assert event.is_done
            expected = np.concatenate([np.zeros(50), np.ones(50), np.full(300, 2), np.ones(50), np.zeros(50)])
            np.testing.assert_array_equal(back.host_bytes(), expected)
        else:
            assert events == [None, None, None], "copies are queued in both directions or in none"
        stream.close()
        allocator.free(buffer)

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

    # --- helpers ----------------------------------------------------------------------------------------------------

    def session(self, device: Device, graph: Graph, *, strict: bool) -> Session:
        """A session with the device first; the fallback behind it is the core's own."""
        options = {self.declaration.provider: dict(self.declaration.options)}
        return Session(graph, devices=[device.qualified_name], options=options, strict=strict)

    def some_case(self) -> Case:
        """A case the declaration promises to claim."""
        for case in operator_cases():
            if self.declaration.claims(case) and case.inputs[0].size >= SMALLEST_SIZE:
                return case
        raise AssertionError("the declaration claims none of the kit's cases")

    def case_of_weights(self) -> list[Case]:
        """The first case with constants that the declaration promises to claim, if there is one."""
        return [case for case in operator_cases() if case.constants and self.declaration.claims(case)][:1]

    def repeatable_case(self) -> Case:
        """A case the declaration promises to claim whose result can be fed to it again, and then gives another one."""
        for case in operator_cases():
            if not self.declaration.claims(case) or len(case.feeds()) != 1 or case.output_count != 1:
                continue
            if case.inputs[0].size < SMALLEST_SIZE:
                continue
            (name,) = case.feeds()
            (first,) = reference(case.graph(), case.feeds()).values()
            if (first.dtype, first.shape) != (case.inputs[0].dtype, case.inputs[0].shape):
                continue
            (second,) = reference(case.graph(), {name: first}).values()
            if np.isfinite(second).all() and not np.allclose(first, second, rtol=0, atol=0.01):
                return case
        pytest.skip("the declaration claims no case of one input whose result can be fed to it again")

    def compiled_case(self, backend: Backend) -> tuple[Case, CompiledSubgraph]:
        """The first case that the declaration claims, and its compiled subgraph."""
        case = self.some_case()
        (compiled,) = backend.compile([view_of(case.graph(), case.feeds())])
        return case, compiled


def reference(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """What ``onnx.reference`` computes."""
    backend = ReferenceBackend()
    view = view_of(graph, feeds)
    (compiled,) = backend.compile([view])
    return run_once(backend, view, compiled, feeds)


def assert_agrees(found: Array, expected: Array, tolerance: float, what: str) -> None:
    """Same type and shape, integers and NaN equal, floats within ``tolerance`` of the largest expected magnitude."""
    assert found.dtype == expected.dtype, f"{what}: {found.dtype} instead of {expected.dtype}"
    assert found.shape == expected.shape, f"{what}: shape {found.shape} instead of {expected.shape}"
    if found.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, what)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(scale, 1e-6), err_msg=what)


def is_sentence(reason: str) -> bool:
    """Whether a reason says something: several words."""
    return len(reason.split()) >= 3


def is_convex(graph: Graph, nodes: set[Node]) -> bool:
    """Whether no path leaves ``nodes`` and comes back."""
    tainted: set[Node] = set()
    for node in graph.nodes:
        producers = {value.producer for value in node.inputs if value is not None and value.producer is not None}
        if node in nodes:
            if producers & tainted:
                return False
        elif producers & (nodes | tainted):
            tainted.add(node)
    return True


def feeds_for(graph: Graph) -> dict[str, Array]:
    """Seeded inputs of a kit graph."""
    return mixed_graphs()[graph.name].feeds


def shifted(case: Case, step: int) -> dict[str, Array]:
    """The case's feeds, different for each step."""
    return {name: (array + array.dtype.type(step)).astype(array.dtype) for name, array in case.feeds().items()}
=======
__all__ = ["ProviderConformance", "assert_agrees", "reference"]
>>>>>>> 50be944 (Conformance kit: every form of an operator, its neighbours, queues, stopping, blobs, borders)
