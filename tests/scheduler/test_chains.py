"""Stages whose sizes an earlier stage finds: native code goes on into the next, and results are onnxruntime's."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from scheduler_models import BOOL, INT64, constant, model, op, tensor

from mace_core.errors import CancelledError, InputError, MaceError
from mace_core.provider import CancelFlag
from mace_core.scheduler.running.plans import GraphPlan
from mace_core.session import Session

pytest.importorskip("mace_cpu", reason="needs the CPU provider")
ort = pytest.importorskip("onnxruntime")

Feeds = dict[str, np.ndarray]


@pytest.fixture
def python_stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[GraphPlan]]:
    """The stages that Python ran."""
    stages: list[GraphPlan] = []
    execute = GraphPlan.execute

    def counted(self: GraphPlan, *arguments: Any) -> Any:
        stages.append(self)
        return execute(self, *arguments)

    monkeypatch.setattr(GraphPlan, "execute", counted)
    yield stages


def opened(built: onnx.ModelProto, threads: int = 2, **options: Any) -> Session:
    return Session(built, devices=["cpu"], strict=True, options={"cpu": {"threads": threads}}, **options)


def check(session: Session, built: onnx.ModelProto, feeds: Feeds) -> None:
    found = session.run(feeds)
    reference = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    for output, wanted in zip(reference.get_outputs(), reference.run(None, feeds), strict=True):
        assert (found[output.name].dtype, found[output.name].shape) == (wanted.dtype, wanted.shape), output.name
        np.testing.assert_allclose(found[output.name], wanted, rtol=2e-5, atol=2e-6, err_msg=output.name)


def rows(count: int, chosen: int, width: int = 6, seed: int = 0) -> Feeds:
    """``chosen`` of ``count`` rows have a score above a half."""
    random = np.random.default_rng(seed)
    scores = np.zeros(count, np.float32)
    scores[random.permutation(count)[:chosen]] = 1
    return {"x": random.standard_normal((count, width)).astype(np.float32), "scores": scores}


def choosing(*, hands_on_places: bool = False) -> onnx.ModelProto:
    """The rows with a high score, multiplied; their places, which only the run counts, may be a result too."""
    weight = np.random.default_rng(3).standard_normal((6, 5)).astype(np.float32)
    nodes = [
        op("Greater", ["scores", "half"], ["high"]),
        op("NonZero", ["high"], ["places"]),
        op("Squeeze", ["places", "zero"], ["place"]),
        op("Gather", ["x", "place"], ["chosen"], axis=0),
        op("MatMul", ["chosen", "weight"], ["product"]),
        op("Tanh", ["product"], ["y"]),
    ]
    outputs = [tensor("y", ["k", 5])] + [tensor("places", [1, "k"], INT64)] * hands_on_places
    constants = [constant("half", np.float32(0.5)), constant("zero", np.int64([0])), constant("weight", weight)]
    return model(nodes, [tensor("x", ["n", 6]), tensor("scores", ["n"])], outputs, constants)


def choosing_twice() -> onnx.ModelProto:
    """Three stages: the rows that were chosen are chosen from once more."""
    nodes = [
        op("NonZero", ["scores"], ["places"]),
        op("Squeeze", ["places", "zero"], ["place"]),
        op("Gather", ["x", "place"], ["chosen"], axis=0),
        op("Abs", ["chosen"], ["far"]),
        op("ReduceMax", ["far"], ["most"], axes=[1], keepdims=0),
        op("Greater", ["most", "limit"], ["is_far"]),
        op("Compress", ["chosen", "is_far"], ["kept"], axis=0),
        op("Exp", ["kept"], ["y"]),
        op("Neg", ["chosen"], ["z"]),
    ]
    constants = [constant("limit", np.float32(1.5)), constant("zero", np.int64([0]))]
    outputs = [tensor("y", ["m", 6]), tensor("z", ["k", 6])]
    return model(nodes, [tensor("x", ["n", 6]), tensor("scores", ["n"])], outputs, constants)


def uniting() -> onnx.ModelProto:
    """Unique's values and where each was: two results whose sizes the run finds, one of them planned."""
    table = np.random.default_rng(4).standard_normal((50, 6)).astype(np.float32)
    nodes = [
        op("Unique", ["ids"], ["values", "", "back"]),
        op("Gather", ["table", "values"], ["embedded"], axis=0),
        op("Sin", ["embedded"], ["computed"]),
        op("Gather", ["computed", "back"], ["y"], axis=0),
    ]
    return model(nodes, [tensor("ids", ["n"], INT64)], [tensor("y", ["n", 6])], [constant("table", table)])


def reshaping() -> onnx.ModelProto:
    """A shape that is computed from data: the content of a result decides the next stage's sizes."""
    nodes = [
        op("ReduceSum", ["wanted"], ["most"], keepdims=1),
        op("Concat", ["most", "rest"], ["shape"], axis=0),
        op("Relu", ["x"], ["positive"]),
        op("Reshape", ["positive", "shape"], ["split"]),
        op("Softmax", ["split"], ["y"], axis=1),
    ]
    inputs = [tensor("x", ["n"]), tensor("wanted", ["w"], INT64)]
    return model(nodes, inputs, [tensor("y", ["a", "b"])], [constant("rest", np.int64([-1]))], opset=13)


def tokens(count: int, distinct: int) -> Feeds:
    ids = np.arange(count) % distinct
    return {"ids": np.random.default_rng(count).permutation(ids)}


# --- what runs natively -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "feeds"),
    [
        (choosing, lambda n: rows(20 + n, 5 + n % 7, seed=n)),
        (lambda: choosing(hands_on_places=True), lambda n: rows(20 + n, 5 + n % 7, seed=n)),
        (choosing_twice, lambda n: rows(40 + n, 20 + n % 7, seed=n)),
        (uniting, lambda n: tokens(20 + n, 5 + n % 7)),
    ],
    ids=["nonzero", "places too", "three stages", "unique"],
)
def test_new_shapes_and_new_counts_go_on_natively(
    build: Callable[[], onnx.ModelProto], feeds: Callable[[int], Feeds], python_stages: list[GraphPlan]
) -> None:
    built = build()
    with opened(built) as session:
        for n in range(12):
            check(session, built, feeds(n))
        python_stages.clear()
        for n in (5, 20, 2, 17, 11, 5, 60):
            check(session, built, feeds(n))
        assert not python_stages


def test_content_that_a_stage_computes_decides_the_next_natively(python_stages: list[GraphPlan]) -> None:
    built = reshaping()
    with opened(built) as session:
        for n in (2, 3, 4, 5, 6):
            check(session, built, {"x": np.arange(12 * (n + 4), dtype=np.float32), "wanted": np.array([n, 4])})
        python_stages.clear()
        for n in (7, 3, 9):
            check(session, built, {"x": np.arange(12 * (n + 4), dtype=np.float32), "wanted": np.array([n, 4])})
        assert not python_stages


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=4, max_size=12))
@settings(max_examples=15, deadline=None)
def test_any_sequence_of_counts(counts: list[tuple[int, int]]) -> None:
    """With counts of 0 and 1 among them, which other plans are for."""
    for built in (choosing(hands_on_places=True), choosing_twice()):
        with opened(built, threads=1) as session:
            for seed, (count, chosen) in enumerate(counts):
                check(session, built, rows(count + chosen, chosen, seed=seed))


def test_counts_that_no_plan_of_the_chain_takes_are_planned(python_stages: list[GraphPlan]) -> None:
    built = choosing()
    with opened(built) as session:
        for chosen in (4, 5, 6, 7):
            check(session, built, rows(30, chosen))
        python_stages.clear()
        check(session, built, rows(30, 0))
        assert [plan.plan.stage.rest for plan in python_stages] == [None]  # the second stage alone
        check(session, built, rows(30, 9))
        assert len(python_stages) == 1
        for count in (0, 9, 0, 8, 0, 7):  # what is kept for a count of 0 does not stand in the way of the others
            check(session, built, rows(30, count))
        assert len(python_stages) == 4


# --- the same as without ----------------------------------------------------------------------------------------------


def test_results_are_the_callers() -> None:
    built = choosing(hands_on_places=True)
    with opened(built) as session:
        feeds = [rows(30, chosen, seed=chosen) for chosen in (4, 5, 6, 7, 8)]
        first = [session.run(each) for each in feeds]
        copies = [{name: array.copy() for name, array in found.items()} for found in first]
        for found in first[:-1]:
            for array in found.values():
                assert array.flags.owndata and array.flags.writeable
                array.fill(7)
        again = [session.run(each) for each in feeds]
        for found, wanted in zip(again, copies, strict=True):
            for name, array in found.items():
                np.testing.assert_array_equal(array, wanted[name])
        np.testing.assert_array_equal(first[-1]["y"], copies[-1]["y"])


def test_a_fault_in_a_later_stage_is_told_and_the_session_goes_on() -> None:
    built = uniting()
    with opened(built) as session:
        for n in range(4):
            check(session, built, tokens(20 + n, 5 + n))
        bad = tokens(20, 8)
        bad["ids"][3] = 99  # the table has 50 rows
        for _ in range(2):
            with pytest.raises(MaceError, match=r"Gather_embedded.*99"):
                session.run(bad)
            check(session, built, tokens(20, 8))


@pytest.mark.parametrize("returned", [None, 5], ids=["raises", "returns a number"])
def test_a_provider_that_fails_to_describe_a_stage_is_named(returned: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_cpu.plan.subgraph import CpuExecution

    calls: list[object] = []

    def native_stage(*arguments: object) -> object:
        calls.append(arguments)
        if returned is None:
            raise RuntimeError("no stage")
        return returned

    monkeypatch.setattr(CpuExecution, "native_stage", native_stage)
    told: list[str] = []
    with opened(choosing()) as session:
        for count in range(7, 13):
            try:
                session.run(rows(count, 3))
            except MaceError as error:
                told.append(str(error))
    assert calls
    assert told
    assert all("Execution.native_stage" in text and "cpu:0" in text and "defect" in text for text in told)


def test_inputs_that_do_not_fit_are_refused_as_ever() -> None:
    built = choosing()
    with opened(built) as session:
        for n in range(4):
            check(session, built, rows(20 + n, 5 + n))
        feeds = rows(20, 5)
        for wrong in (
            {**feeds, "scores": feeds["scores"][:-1]},
            {**feeds, "x": feeds["x"][:, :-1].copy()},
            {**feeds, "x": feeds["x"][0]},
            {**feeds, "x": feeds["x"].astype(np.float64)},
        ):
            with pytest.raises(InputError):
                session.run(wrong)
        check(session, built, feeds)
        check(session, built, {**feeds, "x": np.asfortranarray(feeds["x"])})


def test_a_run_can_be_cancelled() -> None:
    built = choosing()
    with opened(built) as session:
        for n in range(4):
            session.run(rows(20 + n, 5 + n))
        cancel = CancelFlag()
        cancel.set()
        with pytest.raises(CancelledError):
            session.run(rows(20, 5), cancel=cancel)
        check(session, built, rows(21, 5))


def test_threads_share_a_chain() -> None:
    built = choosing(hands_on_places=True)
    with opened(built) as session:
        for n in range(4):
            session.run(rows(20 + n, 5 + n, seed=n))
        wanted = {n: session.run(rows(50 + n, n, seed=n)) for n in range(2, 34)}
        barrier = threading.Barrier(4)

        def work(first: int) -> None:
            barrier.wait()
            for n in (first + 4 * i for i in range(8)):
                found = session.run(rows(50 + n, n, seed=n))
                for name, array in wanted[n].items():
                    np.testing.assert_array_equal(found[name], array)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, (2, 3, 4, 5)))


def test_a_closed_session_lets_go_of_its_chains() -> None:
    session = opened(choosing())
    for n in range(4):
        session.run(rows(20 + n, 5 + n))
    plans = [plan for chain in session._runner.chains for plan in chain.plans]
    assert plans
    session.close()
    gc.collect()
    assert not session._runner.chains
    assert all(plan.users == 0 for plan in plans)


def test_explanations_are_of_the_latest_run() -> None:
    with opened(choosing()) as session:
        for n in range(5):
            session.run(rows(20 + n, 5 + n))
        session.run(rows(77, 9))
        assert "x: float32[77, 6]" in str(session.explain())


def test_stages_in_the_body_of_a_loop(python_stages: list[GraphPlan]) -> None:
    body = helper.make_graph(
        [
            op("NonZero", ["v"], ["at"]),
            op("Squeeze", ["at", "zero"], ["place"]),
            op("Gather", ["v", "place"], ["left"]),
            op("ReduceSum", ["left"], ["sum"], keepdims=1),
            op("Mul", ["v", "sum"], ["raised"]),
            op("Tanh", ["raised"], ["v_out"]),
            op("Identity", ["going"], ["going_out"]),
        ],
        "body",
        [tensor("i", [], INT64), tensor("going", [], BOOL), tensor("v", ["n"])],
        [tensor("going_out", [], BOOL), tensor("v_out", ["n"])],
    )
    loop = helper.make_node("Loop", ["turns", "", "x"], ["y"], name="loop", body=body)
    inputs = [tensor("turns", [], INT64), tensor("x", ["n"])]
    built = model([loop], inputs, [tensor("y", ["n"])], [constant("zero", np.int64([0]))])
    with opened(built) as session:
        for n in (6, 7, 8, 9):
            check(session, built, {"turns": np.array(5), "x": np.linspace(-1, 1, n, dtype=np.float32)})
        python_stages.clear()
        check(session, built, {"turns": np.array(50), "x": np.linspace(-1, 1, 11, dtype=np.float32)})
        assert len(python_stages) < 10
