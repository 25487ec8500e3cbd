"""Memory that a device and the processor share: what crosses between their subgraphs is not copied."""

from __future__ import annotations

import numpy as np
import pytest
import scheduler_stand_ins as stand_ins
from scheduler_models import chain, diamond, model, nonzero_model, op, tensor
from scheduler_stand_ins import make_provider, registry_of

from mace_core.provider import Bindings
from mace_core.scheduler.running import executor
from mace_core.session import Session
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0], [4.0, -5.0, 6.0, 0.5]], np.float32)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each copy that the core makes between host and pinned memory."""
    made: list[int] = []
    honest = executor.copy_bytes

    def copy(source: object, target: object, nbytes: int) -> None:
        made.append(nbytes)
        honest(source, target, nbytes)  # type: ignore[arg-type]

    monkeypatch.setattr(executor, "copy_bytes", copy)
    return made


@pytest.mark.parametrize("has_queue", [False, True])
@pytest.mark.parametrize("far_first", [True, False])
def test_border_tensors_between_the_processor_and_a_soc_device_are_not_copied(
    copies: list[int], has_queue: bool, far_first: bool
) -> None:
    """Six subgraphs in turn: only what is fed and what is returned lies elsewhere."""
    far = make_provider("far", memory=MemoryKind.PINNED, has_queue=has_queue, claims={"Neg", "Relu"})
    near = make_provider("near", claims={"Abs", "Exp"})
    ops = ("Neg", "Abs", "Relu", "Exp", "Neg", "Abs")[0 if far_first else 1 :]
    with Session(
        chain(*ops), devices=["far", "near"], registry=registry_of(far, near), strict=True, optimize=False
    ) as session:
        expected = X
        for name in ops:
            expected = {"Neg": np.negative, "Abs": np.abs, "Relu": lambda x: np.maximum(x, 0), "Exp": np.exp}[name](
                expected
            )
        for _ in range(2):
            copies.clear()
            np.testing.assert_allclose(session.run({"x": X})["y"], expected, rtol=1e-6)
            assert copies == ([X.nbytes] if far_first else []), "what is fed"
        assert [t.value for t in session.explain().transfers] == (["x"] if far_first else [])


def test_both_see_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[int]] = {"inputs": set(), "outputs": set()}
    honest = stand_ins.StandInExecution.run

    def run(self: stand_ins.StandInExecution, bindings: Bindings) -> None:
        seen["inputs"].update(bound.address for bound in bindings.inputs)
        seen["outputs"].update(bound.address for bound in bindings.outputs if bound is not None)
        honest(self, bindings)

    monkeypatch.setattr(stand_ins.StandInExecution, "run", run)
    far = make_provider("far", memory=MemoryKind.PINNED, claims={"Neg"})
    near = make_provider("near", claims={"Abs", "Exp"})
    with Session(chain("Abs", "Neg", "Exp"), devices=["far", "near"], registry=registry_of(far, near)) as session:
        session.run({"x": X})
    assert len(seen["inputs"] & seen["outputs"]) == 2, "t0 and t1 are read where they were written"


def test_two_soc_devices_copy_once_between_their_memories(copies: list[int]) -> None:
    left = make_provider("left", memory=MemoryKind.PINNED, has_queue=True, claims={"Neg"})
    right = make_provider("right", memory=MemoryKind.PINNED, has_queue=True, claims={"Abs"})
    registry = registry_of(left, right)
    with Session(chain("Neg", "Abs"), devices=["left", "right"], registry=registry, strict=True) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X))
        assert copies == [X.nbytes] * 3, "fed, from one to the other, returned"


def test_a_value_that_is_returned_too_is_the_caller_s_own(copies: list[int]) -> None:
    far = make_provider("far", memory=MemoryKind.PINNED, claims={"Relu", "Neg", "Mul"})
    with Session(diamond(), devices=["far"], registry=registry_of(far), optimize=False) as session:
        first = session.run({"x": X})
        kept = {name: value.copy() for name, value in first.items()}
        session.run({"x": -X})
        for name, value in kept.items():
            np.testing.assert_array_equal(first[name], value)


def test_shapes_known_only_to_the_run_still_come_back(copies: list[int]) -> None:
    far = make_provider("far", memory=MemoryKind.PINNED, has_queue=True, claims={"Relu", "NonZero", "Neg"})
    with Session(nonzero_model(), devices=["far"], registry=registry_of(far)) as session:
        for x in (X, -X):
            np.testing.assert_array_equal(session.run({"x": x})["y"], -x[x > 0])


def test_memory_is_used_again_only_when_its_readers_are_done() -> None:
    """A long chain in turn over one arena, on a queue that works only when somebody waits."""
    far = make_provider("far", memory=MemoryKind.PINNED, has_queue=True, claims={"Neg"})
    ops = ("Neg", "Abs") * 12
    with Session(chain(*ops), devices=["far"], registry=registry_of(far), optimize=False) as session:
        for scale in (1, 2, 3):
            np.testing.assert_array_equal(session.run({"x": X * scale})["y"], np.abs(X * scale))
        (arena,) = [arena for arena in session.explain().arenas if arena.location == "far:0"]
        assert arena.nbytes < 8 * 64 * 12, "values that are never alive together share memory"


def test_control_flow_reads_copies(copies: list[int]) -> None:
    branches = {
        name: model([op(kind, ["a"], ["r"])], [], [tensor("r", None)]).graph
        for name, kind in (("then_branch", "Abs"), ("else_branch", "Exp"))
    }
    nodes = [op("Neg", ["x"], ["a"]), op("If", ["c"], ["z"], **branches), op("Neg", ["z"], ["y"])]
    whole = model(nodes, [tensor("x", [2, 4]), tensor("c", [], 9)], [tensor("y", None)])
    far = make_provider("far", memory=MemoryKind.PINNED, claims={"Neg"})
    with Session(whole, devices=["far"], registry=registry_of(far)) as session:
        for condition, expected in ((True, -np.abs(X)), (False, -np.exp(-X))):
            found = session.run({"x": X, "c": np.array(condition)})["y"]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
