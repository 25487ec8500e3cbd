"""Memory: bytes on their way to the device and back, and what lies around the tensors that a run is bound to."""

from __future__ import annotations

import numpy as np
import pytest

from mace_core.errors import OutOfMemoryError
from mace_core.provider import Backend, HostAllocator
from mace_core.testing.cases import Case
from mace_core.testing.kit.base import KitBase
from mace_core.testing.runner import ADDRESSABLE, crowded, run_once, view_of

ABSURD_BYTES = 1 << 60


class MemoryChecks(KitBase):
    """Copies copy what they are told to."""

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

    def test_runs_stay_within_what_they_are_bound_to(self, backend: Backend, claimed_case: Case) -> None:
        """All tensors lie in one buffer, some way in and close together, as in the core's arenas; in host memory also
        at addresses that suit nothing but their elements, as arrays of users do."""
        case = claimed_case
        view = view_of(case.graph(), case.feeds())
        (compiled,) = backend.compile([view])
        right = run_once(backend, view, compiled, case.feeds())
        skewed = (False, True) if backend.allocators()[0].memory in ADDRESSABLE else (False,)
        for is_skewed in skewed:
            where = "at addresses aligned to elements only" if is_skewed else "at offsets in a larger buffer"
            with crowded(backend, view, compiled, case.feeds(), is_skewed=is_skewed) as bound:
                execution = compiled.new_execution()
                execution.run(bound.bindings)
                execution.close()
                for (name, array), mine in zip(right.items(), bound.outputs(), strict=True):
                    np.testing.assert_array_equal(mine, array, f"{case.name}: {name} is wrong with tensors {where}")
                assert not bound.changed(), f"{case.name}: the run wrote to {bound.changed()} with tensors {where}"
        compiled.close()

    def test_memory_that_is_not_there_is_refused(self, backend: Backend) -> None:
        """With the contract's error, after which the device works as before."""
        for allocator in backend.allocators():
            with pytest.raises(OutOfMemoryError):
                allocator.allocate(ABSURD_BYTES)
        case, compiled = self.compiled_case(backend)
        run_once(backend, view_of(case.graph(), case.feeds()), compiled, case.feeds())
        compiled.close()
