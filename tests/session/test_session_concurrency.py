"""Several threads on one session, and closing while they run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scheduler_models import chain, diamond, nonzero_model
from scheduler_stand_ins import make_provider, registry_of

from mace_core.errors import UsageError
from mace_core.session import Session
from mace_core.tensor import MemoryKind


@pytest.mark.parametrize("has_memory", [False, True])
def test_eight_threads_give_the_results_of_one(has_memory: bool) -> None:
    memory = MemoryKind.DEVICE if has_memory else MemoryKind.HOST
    far = make_provider("far", claims={"Neg", "Mul", "NonZero"}, memory=memory, has_queue=has_memory)
    random = np.random.default_rng(1)
    inputs = [random.standard_normal((1 + i % 3, 4)).astype(np.float32) for i in range(40)]
    for built in (diamond(), nonzero_model(), chain("Neg", "Abs")):
        with Session(built, devices=["far"], registry=registry_of(far)) as session:
            expected = [session.run({"x": x}) for x in inputs]
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda x: session.run({"x": x}), inputs))
        for one, other in zip(expected, found, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_new_shapes_from_many_threads_are_planned_once_each() -> None:
    far = make_provider("far")
    barrier = threading.Barrier(8)

    def work(index: int) -> None:
        barrier.wait()
        for rows in (1, 2, 3):
            session.run({"x": np.ones((rows, 4), np.float32)})

    with Session(chain("Neg"), devices=["far"], registry=registry_of(far)) as session:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert far.opened[-1].compile_calls == 3


def test_dropping_plans_while_they_run_frees_them_afterwards() -> None:
    far = make_provider("far", memory=MemoryKind.DEVICE)
    with Session(chain("Neg"), devices=["far"], registry=registry_of(far), max_signatures=1) as session:

        def work(index: int) -> None:
            for rows in (1, 2, 3, 1):
                x = np.full((rows + index, 4), index, np.float32)
                np.testing.assert_array_equal(session.run({"x": x})["y"], -x)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        backend = far.opened[-1]
        assert backend.compiled_alive == 1
    assert backend.closed
    assert backend.device_memory.alive == 0


def test_closing_waits_for_nobody_and_frees_when_the_last_run_ends() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Patient(list):  # type: ignore[type-arg]
        def pop(self, index: int = 0) -> None:  # type: ignore[override]
            started.set()
            assert go_on.wait(10)

        def __bool__(self) -> bool:
            return True

    far = make_provider("far", faults=Patient())
    session = Session(chain("Neg"), devices=["far"], registry=registry_of(far))
    x = np.ones((1, 4), np.float32)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, {"x": x})
        assert started.wait(10)
        session.close()
        assert not far.opened[-1].closed
        with pytest.raises(UsageError, match="closed"):
            session.run({"x": x})
        go_on.set()
        np.testing.assert_array_equal(running.result(10)["y"], -x)
    assert far.opened[-1].closed
