"""Turns of Loop and Scan whose bodies are one subgraph on host memory: native, and the same as onnxruntime's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import loop_models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_models import WIDTH, LoopWriter
from onnx import helper
from scheduler_models import BOOL, INT64, model, op, tensor

from mace_core.errors import CancelledError, MaceError, ModelError
from mace_core.provider import CancelFlag
from mace_core.scheduler.host.recurrence import Turns
from mace_core.session import Session

pytest.importorskip("mace_cpu", reason="needs the CPU provider")
ort = pytest.importorskip("onnxruntime")


@pytest.fixture
def python_turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of the turns that Python ran."""
    steps: list[int] = []
    take = Turns.take

    def counted(self: Turns, results: list[object]) -> None:
        steps.append(self.step)
        take(self, results)

    monkeypatch.setattr(Turns, "take", counted)
    yield steps


def opened(built: onnx.ModelProto) -> Session:
    return Session(built, devices=["cpu"], strict=True, options={"cpu": {"threads": 2}})


def expected(built: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    reference = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in reference.get_outputs()]
    return dict(zip(names, reference.run(None, feeds), strict=True))


def check(session: Session, built: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    found = session.run(feeds)
    for name, wanted in expected(built, feeds).items():
        assert found[name].dtype == wanted.dtype
        if not wanted.size:  # of no turns: sizes that nothing has decided yet are free
            assert (found[name].ndim, found[name].size) == (wanted.ndim, 0)
            continue
        np.testing.assert_allclose(found[name], wanted, rtol=2e-5, atol=2e-6, err_msg=name)


MODELS: list[Callable[[], onnx.ModelProto]] = [
    loop_models.slicing,
    loop_models.windows,
    loop_models.growing,
    loop_models.positions,
    loop_models.exchanging,
]


@pytest.mark.parametrize("make", MODELS, ids=[make.__name__ for make in MODELS])
def test_turns_agree_with_onnxruntime(make: Callable[[], onnx.ModelProto]) -> None:
    built = make()
    rng = np.random.default_rng(3)
    with opened(built) as session:
        for turns, rows in ((1, 12), (7, 12), (2, 12), (11, 11), (0, 12), (40, 64), (5, 9), (11, 12)):
            check(session, built, loop_models.feeds_of(built, turns, rows, rng))


@pytest.mark.parametrize("make", [loop_models.slicing, loop_models.growing, loop_models.exchanging])
def test_turns_do_not_come_back_to_python(make: Callable[[], onnx.ModelProto], python_turns: list[int]) -> None:
    built = make()
    rng = np.random.default_rng(4)
    with opened(built) as session:
        check(session, built, loop_models.feeds_of(built, 300, 300, rng))
        # sizes of 0 and 1 are planned apart; so is the first size of a value that grows
        assert len(python_turns) <= 3
        python_turns.clear()
        check(session, built, loop_models.feeds_of(built, 500, 500, rng))
        check(session, built, loop_models.feeds_of(built, 400, 500, rng))
        assert len(python_turns) <= 6


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 30), turns=st.lists(st.integers(0, 20), min_size=1, max_size=3))
def test_random_bodies_agree_with_onnxruntime(seed: int, turns: list[int]) -> None:
    rng = np.random.default_rng(seed)
    built, _ = loop_models.drawn(rng)
    with opened(built) as session:
        for count in turns:
            check(session, built, loop_models.feeds_of(built, count, 24, rng))


def test_loops_nest_with_slices_by_both_counters() -> None:
    inner = helper.make_graph(
        [
            op("Add", ["i", "j"], ["sum"]),
            op("Unsqueeze", ["sum", "zero"], ["start"]),
            op("Add", ["start", "one"], ["end"]),
            op("Slice", ["x", "start", "end", "zero"], ["row"]),
            op("Add", ["b", "row"], ["b2"]),
            op("Identity", ["cc"], ["cd"]),
        ],
        "inner",
        [tensor("j", [], INT64), tensor("cc", [], BOOL), tensor("b", [1, WIDTH])],
        [tensor("cd", [], BOOL), tensor("b2", [1, WIDTH])],
    )
    outer = helper.make_graph(
        [
            helper.make_node("Loop", ["m", "c", "a"], ["a2"], name="inner_loop", body=inner),
            op("Identity", ["c"], ["d"]),
        ],
        "outer",
        [tensor("i", [], INT64), tensor("c", [], BOOL), tensor("a", [1, WIDTH])],
        [tensor("d", [], BOOL), tensor("a2", [1, WIDTH])],
    )
    loop = helper.make_node("Loop", ["m", "go", "a_0"], ["y"], name="outer_loop", body=outer)
    built = model(
        [loop],
        [tensor("m", [], INT64), tensor("go", [], BOOL), tensor("a_0", [1, WIDTH]), tensor("x", ["n", WIDTH])],
        [tensor("y", [1, WIDTH])],
        [loop_models.constant("zero", np.array([0])), loop_models.constant("one", np.array([1]))],
    )
    rng = np.random.default_rng(5)
    with opened(built) as session:
        for turns in (3, 5, 4):
            check(session, built, loop_models.feeds_of(built, turns, 12, rng))


def scan_model(axis: int, direction: int) -> onnx.ModelProto:
    """Rows of ``xs`` weighed into a state, every state and its double gathered."""
    body = helper.make_graph(
        [
            op("Mul", ["s", "half"], ["h"]),
            op("Add", ["h", "x"], ["t"]),
            op("Add", ["t", "t"], ["o"]),
            op("Identity", ["t"], ["p"]),
        ],
        "body",
        [tensor("s", [WIDTH]), tensor("x", [WIDTH])],
        [tensor("t", [WIDTH]), tensor("o", [WIDTH]), tensor("p", [WIDTH])],
    )
    along: dict[str, object] = {
        "num_scan_inputs": 1,
        "scan_input_axes": [axis],
        "scan_input_directions": [direction],
        "scan_output_axes": [1, 0],
        "scan_output_directions": [direction, 1 - direction],
    }
    scan = helper.make_node("Scan", ["s0", "xs"], ["last", "o_all", "p_all"], name="scan", body=body, **along)
    shape = ["n", WIDTH] if axis == 0 else [WIDTH, "n"]
    outputs = [tensor("last", [WIDTH]), tensor("o_all", [WIDTH, "n"]), tensor("p_all", ["n", WIDTH])]
    half = [loop_models.constant("half", np.float32(0.5))]
    return model([scan], [tensor("s0", [WIDTH]), tensor("xs", shape)], outputs, half)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("direction", [0, 1])
def test_scans_go_along_every_axis_both_ways(axis: int, direction: int, python_turns: list[int]) -> None:
    built = scan_model(axis, direction)
    rng = np.random.default_rng(6)
    with opened(built) as session:
        for length in (4, 1, 30):
            xs = rng.standard_normal((length, WIDTH)).astype(np.float32)
            check(session, built, {"s0": np.ones(WIDTH, np.float32), "xs": xs if axis == 0 else xs.T})
    assert not python_turns


def test_a_scan_output_whose_shape_changes_is_refused() -> None:
    w = LoopWriter()
    longer = w.node("Concat", "s", "s", axis=0)
    w.carry("s", longer)
    w.scanned = [longer]
    built = w.model()
    with opened(built) as session:
        for rows in (1, 3, 4):
            feeds = {"m": 5, "go": True, "s_0": np.ones((rows, WIDTH), np.float32)}
            with pytest.raises(ModelError, match="scan output changed between iterations"):
                session.run(feeds)
        assert session.run({**feeds, "m": 1})["scan_0"].shape == (1, 8, WIDTH)


def endless() -> onnx.ModelProto:
    """A loop that ends when ``s`` is above ``limit``; it grows by ``step``."""
    w = LoopWriter(captured=[tensor("limit", []), tensor("step", [])])
    grown = w.node("Add", "s", "step")
    w.carry("s", grown, shape=[])
    w.going = w.node("Less", grown, "limit")
    return w.model()


def test_a_condition_ends_the_turns() -> None:
    built = endless()
    with opened(built) as session:
        for limit in (3, 1, 300, -5):
            feeds = {"m": np.array(1 << 40), "go": np.array(True), "limit": np.float32(limit), "step": np.float32(1)}
            found = session.run({**feeds, "s_0": np.float32(0)})
            assert found["s_last"] == max(limit, 1)


def test_turns_without_end_are_cancelled() -> None:
    flag = CancelFlag()
    with opened(endless()) as session:
        feeds = {"m": 1 << 40, "go": True, "limit": np.float32(1), "step": np.float32(0), "s_0": np.float32(0)}
        failed: list[BaseException] = []

        def run() -> None:
            try:
                session.run(feeds, cancel=flag)
            except MaceError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        flag.set()
        thread.join(60)
        assert not thread.is_alive()
        assert isinstance(failed[0], CancelledError)
        assert session.run({**feeds, "step": np.float32(1)})["s_last"] == 1


def test_concurrent_runs_of_one_session_do_not_disturb_each_other() -> None:
    built = loop_models.slicing()
    rng = np.random.default_rng(7)
    cases = [loop_models.feeds_of(built, turns, turns, rng) for turns in (30, 31, 50, 77)]
    wanted = [expected(built, feeds) for feeds in cases]
    with opened(built) as session:
        session.run(cases[0])
        failures: list[str] = []

        def work(index: int) -> None:
            for _ in range(20):
                found = session.run(cases[index])
                for name, value in wanted[index].items():
                    if not np.allclose(found[name], value, rtol=2e-5, atol=2e-6):
                        failures.append(f"{index} {name}")

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(cases))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_turn_that_fails_names_the_node() -> None:
    w = LoopWriter(captured=[tensor("x", ["n", WIDTH])])
    w.carry("s", w.node("Add", "s", w.node("Gather", "x", "i", axis=0)), shape=[1, WIDTH])
    built = w.model()
    rng = np.random.default_rng(8)
    with opened(built) as session:
        with pytest.raises(MaceError, match="Gather"):
            session.run(loop_models.feeds_of(built, 9, 6, rng))
        check(session, built, loop_models.feeds_of(built, 6, 6, rng))


def test_results_are_arrays_of_their_own() -> None:
    """Neither a feed nor another run's result is behind them, and they may be written to."""
    built = loop_models.exchanging()
    rng = np.random.default_rng(9)
    with opened(built) as session:
        feeds = loop_models.feeds_of(built, 5, 1, rng)
        before = {name: array.copy() for name, array in feeds.items()}
        first = session.run(feeds)
        copies = {name: array.copy() for name, array in first.items()}
        for array in session.run(feeds).values():
            array[...] = 77
        for name, array in first.items():
            np.testing.assert_array_equal(array, copies[name])
            array[...] = 78
        for name, array in feeds.items():
            np.testing.assert_array_equal(array, before[name])
