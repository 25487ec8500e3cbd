"""Several memories and queues: transfers, waits, arenas; the result never depends on the split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_models import chain, diamond, model, nonzero_model, op, tensor
from scheduler_stand_ins import StandInProvider, make_provider, registry_of

from mace_core.session import Session
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0], [4.0, -5.0, 6.0, 0.5]], np.float32)


def backend_of(provider: type[StandInProvider]):  # type: ignore[no-untyped-def]
    return provider.opened[-1]


@pytest.mark.parametrize("memory", [MemoryKind.HOST, MemoryKind.PINNED, MemoryKind.DEVICE])
@pytest.mark.parametrize("has_queue", [False, True])
def test_a_split_model_gives_the_reference_result(memory: MemoryKind, has_queue: bool) -> None:
    far = make_provider("far", memory=memory, has_queue=has_queue, claims={"Neg", "Mul", "Add"})
    with Session(diamond(), devices=["far"], registry=registry_of(far)) as session:
        for _ in range(3):
            outputs = session.run({"x": X})
            joined = np.maximum(X, 0) - X
            np.testing.assert_array_equal(outputs["c"], joined)
            np.testing.assert_array_equal(outputs["y"], np.abs(joined) * np.maximum(X, 0))


def test_only_values_that_cross_are_transferred() -> None:
    far = make_provider("far", memory=MemoryKind.DEVICE, claims={"Neg", "Abs"})
    with Session(chain("Neg", "Abs", "Exp"), devices=["far"], registry=registry_of(far)) as session:
        session.run({"x": X})
        transfers = session.explain().transfers
        assert [(t.value, t.source, t.target, t.nbytes) for t in transfers] == [
            ("x", "host", "far:0", X.nbytes),
            ("t1", "far:0", "host", X.nbytes),
        ]
        counter = backend_of(far).counter
        assert (counter.uploads, counter.downloads) == (1, 1)


def test_two_devices_with_memories_of_their_own_meet_on_the_host() -> None:
    left = make_provider("left", memory=MemoryKind.DEVICE, has_queue=True, claims={"Neg"})
    right = make_provider("right", memory=MemoryKind.DEVICE, has_queue=True, claims={"Abs", "Exp"})
    registry = registry_of(left, right)
    with Session(
        chain("Neg", "Abs", "Neg", "Exp"), devices=["left", "right"], registry=registry, strict=True
    ) as session:
        for scale in (1.0, 2.0):
            np.testing.assert_allclose(session.run({"x": X * scale})["y"], np.exp(-np.abs(X * scale)), rtol=1e-6)


@pytest.mark.parametrize("has_queue", [False, True])
def test_what_one_device_computed_goes_straight_to_the_pinned_memory_of_another(has_queue: bool) -> None:
    left = make_provider("left", memory=MemoryKind.DEVICE, has_queue=has_queue, claims={"Neg"})
    right = make_provider("right", memory=MemoryKind.PINNED, has_queue=has_queue, claims={"Abs", "Exp"})
    registry = registry_of(left, right)
    with Session(
        chain("Neg", "Abs", "Neg", "Exp"), devices=["left", "right"], registry=registry, strict=True
    ) as session:
        for scale in (1.0, 2.0):
            np.testing.assert_allclose(session.run({"x": X * scale})["y"], np.exp(-np.abs(X * scale)), rtol=1e-6)
        transfers = session.explain().transfers
        assert [(t.value, t.source, t.target) for t in transfers] == [
            ("x", "host", "left:0"),
            ("t0", "left:0", "host"),  # memory of the right one
            ("t1", "host", "left:0"),
            ("t2", "left:0", "host"),
            ("y", "right:0", "host"),
        ]


def test_shapes_known_only_to_the_run_come_back_from_device_memory() -> None:
    far = make_provider("far", memory=MemoryKind.DEVICE, has_queue=True)
    with Session(nonzero_model(), devices=["far"], registry=registry_of(far), strict=True) as session:
        outputs = session.run({"x": X})
        np.testing.assert_array_equal(outputs["places"], np.argwhere(X > 0))
        np.testing.assert_array_equal(outputs["y"], -X[X > 0])


def test_everything_is_freed_when_the_session_closes() -> None:
    far = make_provider("far", memory=MemoryKind.DEVICE, has_queue=True, claims={"Neg", "NonZero"})
    session = Session(nonzero_model(), devices=["far"], registry=registry_of(far))
    for rows in (1, 2):
        session.run({"x": X[:rows]})
    backend = backend_of(far)
    assert backend.device_memory.alive > 0
    session.close()
    assert backend.closed
    assert backend.device_memory.alive == 0
    assert all(stream.closed for stream in backend.streams)


def test_a_failed_run_on_a_queue_leaves_the_session_usable() -> None:
    from mace_core.errors import OutOfMemoryError
    from mace_core.faults import FaultLimits

    far = make_provider("far", memory=MemoryKind.DEVICE, has_queue=True, claims={"Neg"})
    unmoved = FaultLimits(move=False)
    with Session(chain("Neg", "Abs"), devices=["far"], registry=registry_of(far), faults=unmoved) as session:
        far.faults += [OutOfMemoryError("no room for 3 TB")] * 3  # what is kept is given up, and it is tried again
        with pytest.raises(OutOfMemoryError, match="3 TB"):
            session.run({"x": X})
        far.faults.clear()
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X))


@st.composite
def split_models(draw: st.DrawFn) -> tuple[object, list[set[str]], list[MemoryKind], list[bool]]:
    """A random graph of elementwise ops, and which op types each of two devices claims."""
    unary, binary = ["Neg", "Abs", "Relu"], ["Add", "Sub", "Max"]
    nodes, names = [], ["x"]
    for index in range(draw(st.integers(1, 10))):
        kind = draw(st.sampled_from(unary + binary))
        inputs = [draw(st.sampled_from(names)) for _ in range(2 if kind in binary else 1)]
        names.append(f"v{index}")
        nodes.append(op(kind, inputs, [names[-1]]))
    outputs = draw(st.lists(st.sampled_from(names[1:]), unique=True, min_size=1, max_size=3))
    claims = [set(draw(st.lists(st.sampled_from(unary + binary), unique=True))) for _ in range(2)]
    memories = [draw(st.sampled_from([MemoryKind.HOST, MemoryKind.PINNED, MemoryKind.DEVICE])) for _ in range(2)]
    queues = [draw(st.booleans()) for _ in range(2)]
    built = model(nodes, [tensor("x", [2, 4])], [tensor(name, [2, 4]) for name in outputs])
    return built, claims, memories, queues


@settings(max_examples=60)
@given(split_models())
def test_any_partition_gives_the_result_of_the_reference(
    problem: tuple[object, list[set[str]], list[MemoryKind], list[bool]],
) -> None:
    built, claims, memories, queues = problem
    first, second = (
        make_provider(name, claims=claims[i], memory=memories[i], has_queue=queues[i])
        for i, name in enumerate(("first", "second"))
    )
    registry = registry_of(first, second)
    with Session(built, devices=["reference"], registry=registry, optimize=False) as session:
        expected = session.run({"x": X})
    with Session(built, devices=["first", "second"], registry=registry, optimize=False) as session:
        for _ in range(2):
            found = session.run({"x": X})
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value)
