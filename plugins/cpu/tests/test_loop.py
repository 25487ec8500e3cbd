"""Loops whose state keeps its shape: the body's steps are in the plan around them, wherever they stand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core import Session
from mace_core.errors import CancelledError, ProviderError
from mace_core.provider import CancelFlag
from mace_core.provider.poison import VARIABLE
from mace_core.scheduler.host.control_flow import LoopFlow

ort = pytest.importorskip("onnxruntime")

Array = npt.NDArray[Any]
WEIGHTS = np.random.default_rng(5).standard_normal((4, 4)).astype(np.float32) / 2

CASES = {
    "a state": """
        y = Loop (m, , x) <body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) { o = Cos (a) }>""",
    "captured values": """
        y = Loop (m, , x) <body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) {
            p = MatMul (a, w)  q = Add (p, h)  o = Tanh (q) }>""",
    "states that are exchanged": """
        y, z = Loop (m, , x, h) <body = b (int64 i, bool c, float[n, 4] a, float[n, 4] b) =>
            (bool c, float[n, 4] b, float[n, 4] o) { o = Sub (a, b) }>""",
    "a state that stays and one that nobody wants": """
        y, , z = Loop (m, , x, h, h) <body = b (int64 i, bool c, float[n, 4] a, float[n, 4] b, float[n, 4] k) =>
            (bool c, float[n, 4] o, float[n, 4] p, float[n, 4] k) { o = Add (a, b)  p = Tanh (o) }>""",
    "the counter": """
        y = Loop (m, , x) <body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) {
            f = Cast <to = 1> (i)  g = Add (a, f)  o = Sin (g) }>""",
    "a condition": """
        y = Loop (, goes, x) <body = b (int64 i, bool c, float[n, 4] a) => (bool d, float[n, 4] o) {
            o = Mul (a, half)  s = ReduceMax <keepdims = 0> (o)  d = Greater (s, small) }>""",
    "a condition and a number": """
        y = Loop (m, goes, x) <body = b (int64 i, bool c, float[n, 4] a) => (bool d, float[n, 4] o) {
            o = Mul (a, half)  s = ReduceMax <keepdims = 0> (o)  d = Greater (s, small) }>""",
    "a loop in a loop": """
        y = Loop (m, , x) <body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) {
            e = Exp (h)
            p = Loop (m, , a) <body = d (int64 j, bool k, float[n, 4] u) => (bool k, float[n, 4] v) {
                r = Add (u, e)  s = Sub (r, a)  v = Cos (s) }>
            q = Add (p, a)
            o = Tanh (q) }>""",
    "a loop in a branch": """
        y = If (way) <
            then_branch = t () => (float[n, 4] r) {
                r = Loop (m, , x) <
                    body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) { o = Cos (a) }> },
            else_branch = e () => (float[n, 4] s) { s = Neg (x) }>""",
    "a branch in a loop": """
        y = Loop (m, , x) <body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) {
            s = ReduceSum <keepdims = 0> (a)  f = Greater (s, small)
            o = If (f) <
                then_branch = t () => (float[n, 4] r) { r = Mul (a, half) },
                else_branch = e () => (float[n, 4] q) { q = Add (a, h) }> }>""",
}  # fmt: skip


def build(text: str, opset: int = 17) -> onnx.ModelProto:
    """A loop between nodes that compute what it captures, and that read what it returns, and what it captured."""
    outputs = "float[n, 4] last" + (", float[n, 4] z" if "z = " in text else "")
    built = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        with_loop (float[n, 4] x, int64 m, bool goes, bool way) => ({outputs}) {{
            h = Sigmoid (x)
            {text}
            rest = Sub (y, h)
            last = Add (rest, x)
        }}""")
    constants = {"w": WEIGHTS, "half": np.float32(0.5), "small": np.float32(0.01)}
    built.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    for index, node in enumerate(_nodes(built.graph)):
        node.name = f"{node.op_type}_{index}"
    return built


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def feeds_of(rows: int, turns: int, *, goes: bool = True, way: bool = True) -> dict[str, Array]:
    x = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
    return {"x": x, "m": np.array(turns), "goes": np.array(goes), "way": np.array(way)}


def opened_by_onnxruntime(built: onnx.ModelProto) -> Any:
    """It crashes where a loop leaves a result out: there they have names.  (onnx.reference computes another number of
    turns where the condition is left out.)"""
    named = onnx.ModelProto.FromString(built.SerializeToString())
    for node in _nodes(named.graph):
        if node.op_type == "Loop":
            node.output[:] = [name or f"{node.name}_{index}" for index, name in enumerate(node.output)]
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 4
    return ort.InferenceSession(named.SerializeToString(), quiet, providers=["CPUExecutionProvider"])


def check(session: Session, built: onnx.ModelProto, feeds: dict[str, Array]) -> None:
    names = [value.name for value in built.graph.output]
    reference = opened_by_onnxruntime(built)
    wanted = reference.run(names, {value.name: feeds[value.name] for value in reference.get_inputs()})
    found = session.run(feeds)
    for name, array in zip(names, wanted, strict=True):
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.fixture
def python_loops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the loops that the core ran."""
    ran: list[str] = []
    run = LoopFlow.run

    def counted(self: LoopFlow, *args: Any) -> Any:
        ran.append(self.node.name)
        return run(self, *args)

    monkeypatch.setattr(LoopFlow, "run", counted)
    monkeypatch.setattr("mace_core.scheduler.planning.flags.MOST_FLAGS", 0)
    return ran


@pytest.mark.parametrize("poison", ["", "ff"])
@pytest.mark.parametrize("case", CASES)
def test_loops_are_part_of_the_plan(
    case: str, poison: str, python_loops: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, poison)
    built = build(CASES[case])
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for rows in (3, 5, 17, 1, 200, 5):
            for turns, goes, way in ((5, True, True), (0, True, False), (1, True, True), (4, False, True)):
                check(session, built, feeds_of(rows, turns, goes=goes, way=way))
    assert python_loops == []


@pytest.mark.parametrize("poison", ["", "ff"])
def test_what_turns_give_is_gathered_where_their_number_is_known(
    poison: str, python_loops: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, poison)
    built = build("""
        y = Loop (m, , x) <body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) {
            u, v, s = Loop (seven, , a, h) <body = d (int64 j, bool k, float[n, 4] p, float[n, 4] q) =>
                (bool k, float[n, 4] r, float[n, 4] p, float[4] t) {
                    r = Cos (p)  f = Cast <to = 1> (j)  g = Mul (r, f)  t = ReduceMean <axes = [0], keepdims = 0> (g) }>
            e = ReduceSum <keepdims = 0> (s)
            l = Add (u, e)
            o = Tanh (l) }>""")
    built.graph.initializer.append(onnx.numpy_helper.from_array(np.int64(7), "seven"))
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for rows, turns in ((3, 4), (5, 2), (9, 0), (3, 1)):
            check(session, built, feeds_of(rows, turns))
    assert python_loops == []


@given(
    st.lists(st.tuples(st.sampled_from(sorted(CASES)), st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=4)
)
@settings(max_examples=20, deadline=None)
def test_any_sizes_and_numbers_of_turns(runs: list[tuple[str, int, int]]) -> None:
    for case, rows, turns in runs:
        if case in ("a condition", "a condition and a number") and not rows:
            continue  # there is no largest of nothing
        built = build(CASES[case])
        with Session(built, devices=["cpu"], strict=True) as session:
            check(session, built, feeds_of(rows, turns))


def test_large_states_are_exchanged_by_the_core(python_loops: list[str]) -> None:
    built = build(CASES["a state"])
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        check(session, built, feeds_of(8000, 3))
        (declined,) = (entry.declined for entry in session.explain().nodes if entry.op == "Loop")
        assert "without copying them" in declined["cpu:0"]
    assert python_loops


def test_a_fault_in_a_turn_is_told(python_loops: list[str]) -> None:
    built = build("""
        y = Loop (m, , x) <body = b (int64 i, bool c, float[n, 4] a) => (bool c, float[n, 4] o) {
            r = Gather <axis = 0> (w, i)  o = Add (a, r) }>""")
    (gather,) = (node.name for node in _nodes(built.graph) if node.op_type == "Gather")
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        check(session, built, feeds_of(3, 4))
        with pytest.raises(ProviderError, match=f"node '{gather}' on cpu:0.*index 4"):
            session.run(feeds_of(3, 5))
        check(session, built, feeds_of(3, 4))
    assert python_loops == []


def test_more_turns_than_anyone_waits_for_are_refused(python_loops: list[str]) -> None:
    with Session(build(CASES["a state"]), devices=["cpu"], strict=True) as session:
        session.run(feeds_of(3, 2))
        with pytest.raises(ProviderError, match="would turn 4611686018427387904 times"):
            session.run(feeds_of(3, 2**62))
        session.run(feeds_of(3, 2))


def test_a_stored_plan_has_its_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    built = build(CASES["a loop in a loop"])
    onnx.save(built, tmp_path / "with_loop.onnx")
    for is_restored in (False, True):
        with Session(tmp_path / "with_loop.onnx", devices=["cpu"], strict=True) as session:
            for rows in (3, 5, 9):
                check(session, built, feeds_of(rows, 4))
            assert {one.restored for one in session.explain().preparations} == {is_restored}


def test_a_profile_has_the_time_of_all_turns() -> None:
    built = build(CASES["captured values"])
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        times = []
        for turns in (1, 4000):
            session.run(feeds_of(40, turns))
            spans = session.profile(feeds_of(40, turns)).spans
            times.append(sum(span.end_ns - span.start_ns for span in spans if "MatMul" in span.name))
        assert times[1] > 100 * times[0]


def test_endless_turns_are_cancelled() -> None:
    flag = CancelFlag()
    failed: list[BaseException] = []
    built = build(CASES["a loop in a loop"])
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:

        def run() -> None:
            try:
                session.run(feeds_of(3, 1 << 29), cancel=flag)
            except CancelledError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        flag.set()
        thread.join(60)
        assert not thread.is_alive()
        assert isinstance(failed[0], CancelledError)
        check(session, built, feeds_of(3, 4))
