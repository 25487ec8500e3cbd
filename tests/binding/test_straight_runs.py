"""State that keeps its shape stays in one memory, of which each run reads one half and writes the other."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mace_core import CancelFlag, Session
from mace_core.errors import CancelledError, InputError
from mace_core.scheduler.profile import Profile
from mace_core.scheduler.running.plans import GraphPlan
from mace_core.scheduler.running.straight_runs import StraightRuns

Array = npt.NDArray[Any]

PAIRS = {"sum": "sum_next", "count": "count_next", "seen": "seen_next"}
START: dict[str, Array] = {
    "sum": np.float32([[1, 2, 3], [4, 5, 6]]),
    "count": np.array(7, np.int64),
    "seen": np.array([False, True, False]),
}


def counter() -> onnx.ModelProto:
    """``y = sum + x``, and the state of three element types, one of them a scalar."""
    nodes = [
        helper.make_node("Add", ["sum", "x"], ["y"]),
        helper.make_node("Mul", ["y", "half"], ["sum_next"]),
        helper.make_node("Add", ["count", "one"], ["count_next"]),
        helper.make_node("Less", ["least", "zero"], ["low"]),
        helper.make_node("ReduceMin", ["x", "axis"], ["least"], keepdims=0),
        helper.make_node("Or", ["seen", "low"], ["seen_next"]),
        helper.make_node("Mul", ["count", "one"], ["z"]),
    ]
    nodes[3], nodes[4] = nodes[4], nodes[3]
    state = {
        "sum": (TensorProto.FLOAT, [2, 3]),
        "count": (TensorProto.INT64, []),
        "seen": (TensorProto.BOOL, [3]),
    }
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
    inputs += [helper.make_tensor_value_info(name, *kind) for name, kind in state.items()]
    outputs = [helper.make_tensor_value_info(f"{name}_next", *kind) for name, kind in state.items()]
    outputs.insert(1, helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3]))
    outputs.append(helper.make_tensor_value_info("z", TensorProto.INT64, []))
    constants = {"half": np.float32(0.5), "one": np.int64(1), "zero": np.float32(0), "axis": np.int64([0])}
    made = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "counter", inputs, outputs, made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


class Follower:
    """The same in numpy."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.state = {name: array.copy() for name, array in START.items()}

    def run(self, x: Array) -> dict[str, Array]:
        y, z = self.state["sum"] + x, self.state["count"]
        seen = self.state["seen"] | (x.min(axis=0) < 0)
        self.state = {"sum": y * np.float32(0.5), "count": z + 1, "seen": seen}
        return {"y": y, "z": z}


@pytest.fixture(scope="module")
def session() -> Any:
    with Session(counter().SerializeToString(), devices=["cpu"], strict=True) as opened:
        yield opened


@pytest.fixture
def straight(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each run that tried it went straight on."""
    tried: list[bool] = []
    run = StraightRuns.run

    def noted(self: StraightRuns, *arguments: Any) -> Any:
        found = run(self, *arguments)
        tried.append(found is not None)
        return found

    monkeypatch.setattr(StraightRuns, "run", noted)
    return tried


def same(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype


DEEDS = (
    "run",
    "run",
    "run",
    "run",
    "frozen",
    "apart",
    "list",
    "cancelled",
    "asked",
    "profiled",
    "read",
    "reset",
    "bad",
)


@settings(max_examples=40, deadline=None)
@given(deeds=st.lists(st.sampled_from(DEEDS), min_size=3, max_size=20), seed=st.integers(0, 99))
def test_any_sequence(session: Session, deeds: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    follower, stopped = Follower(), CancelFlag()
    stopped.set()
    given: list[tuple[dict[str, Array], dict[str, Array]]] = []
    with session.bind(PAIRS, START) as bound:
        for deed in deeds:
            x = random.standard_normal((2, 3)).astype(np.float32)
            if deed == "cancelled":
                with pytest.raises(CancelledError):
                    bound.run({"x": x}, cancel=stopped)
            elif deed == "bad":
                with pytest.raises(InputError):
                    bound.run({"x": np.zeros((3, 2), np.float32)})
            elif deed == "reset":
                bound.reset(START)
                follower.reset()
            elif deed == "asked":
                wanted = follower.run(x)
                found = bound.run({"x": x}, ["sum_next", "z"])
                same(found, {"sum_next": follower.state["sum"], "z": np.asarray(wanted["z"])})
                found["sum_next"][:] = 99  # the caller's own
            elif deed == "read":
                same(bound.contents(), {name: np.asarray(array) for name, array in follower.state.items()})
            else:
                fed: Any = x.tolist() if deed == "list" else x[:, ::-1] if deed == "apart" else x
                x.flags.writeable = deed != "frozen"
                found = bound.run({"x": fed}, profile=Profile() if deed == "profiled" else None)
                wanted = follower.run(np.asarray(fed, np.float32))
                given.append((found, {name: np.array(array) for name, array in wanted.items()}))
    for found, wanted in given:  # later runs have not written into what earlier ones gave
        same(found, wanted)


def test_runs_that_are_fed_alike_go_straight_on(session: Session, straight: list[bool]) -> None:
    follower = Follower()
    with session.bind(PAIRS, START) as bound:
        for step in range(8):
            x = np.full((2, 3), step, np.float32)
            same(bound.run({"x": x}), {name: np.asarray(array) for name, array in follower.run(x).items()})
    assert straight == [True] * 6


def test_a_stream_that_is_mostly_fed_otherwise_is_left_alone(session: Session, straight: list[bool]) -> None:
    follower = Follower()
    with session.bind(PAIRS, START) as bound:
        for step in range(40):
            x = np.full((2, 3), step, np.float32)
            fed: Any = x.tolist() if step % 2 else x
            same(bound.run({"x": fed}), {name: np.asarray(array) for name, array in follower.run(x).items()})
    assert 0 < len(straight) < 10


def test_one_output_that_feeds_two_inputs_and_one_that_is_an_input(straight: list[bool]) -> None:
    """The first needs more care: it is written into one memory only."""
    value = helper.make_tensor_value_info
    for nodes, inputs, outputs, pairs in (
        ([("Add", "a b", "s")], "a b", "s", {"a": "s", "b": "s"}),
        ([("Add", "a b", "s"), ("Identity", "b", "t")], "a b", "s t", {"a": "s", "b": "t"}),
    ):
        graph = helper.make_graph(
            [helper.make_node(op, i.split(), [o]) for op, i, o in nodes] + [helper.make_node("Abs", ["s"], ["y"])],
            "two",
            [value(name, TensorProto.FLOAT, [2]) for name in inputs.split()],
            [value(name, TensorProto.FLOAT, [2]) for name in [*outputs.split(), "y"]],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        start = {"a": np.float32([1, -2]), "b": np.float32([3, 1])}
        state = dict(start)
        with Session(model, devices=["cpu"], strict=True) as session, session.bind(pairs, start) as bound:
            for _ in range(6):
                s = state["a"] + state["b"]
                state = {"a": s, "b": s if pairs["b"] == "s" else state["b"]}
                np.testing.assert_array_equal(bound.run({})["y"], np.abs(s))
        assert any(straight) == (pairs["b"] == "t")


def test_what_is_fed_lives_until_the_run_is_over(monkeypatch: pytest.MonkeyPatch, straight: list[bool]) -> None:
    """Also where another thread puts the next arrays into the same dict meanwhile."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["s", "a"], ["t"]), helper.make_node("Sub", ["t", "b"], ["y"])],
        "fed twice",
        [value(name, TensorProto.FLOAT, [2]) for name in "sab"],
        [value(name, TensorProto.FLOAT, [2]) for name in "ty"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feeds: dict[str, Array] = {}
    lost: list[str] = []
    execute = GraphPlan.execute_at

    def emptied(self: GraphPlan, *arguments: Any) -> None:
        seen = {name: weakref.ref(array) for name, array in feeds.items()}
        feeds.clear()
        lost.extend(name for name, array in seen.items() if array() is None)
        execute(self, *arguments)

    monkeypatch.setattr(GraphPlan, "execute_at", emptied)
    with Session(model, devices=["cpu"], strict=True) as session, session.bind({"s": "t"}) as bound:
        for step in range(5):
            feeds.update(a=np.full(2, step, np.float32), b=np.ones(2, np.float32))
            np.testing.assert_array_equal(bound.run(feeds)["y"], np.full(2, sum(range(step + 1)) - 1, np.float32))
    assert straight[-1] and not lost
