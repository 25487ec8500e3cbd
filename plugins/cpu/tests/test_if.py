"""If whose condition only the run tells: both branches are in one plan, and only what the condition says runs."""

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
from onnx.reference import ReferenceEvaluator

from mace_core import Session
from mace_core.errors import CancelledError, ProviderError
from mace_core.provider import CancelFlag
from mace_core.provider.poison import VARIABLE
from mace_core.scheduler.host.control_flow import IfFlow
from mace_core.scheduler.host.recurrence import Turns

Array = npt.NDArray[Any]
WEIGHTS = np.random.default_rng(5).standard_normal((4, 4)).astype(np.float32)

LONG = "a0 = Sin (x)" + "".join(f" a{i} = Sin (a{i - 1})" for i in range(1, 20))
PLAIN = (
    "float[n, 4] y",
    "then_g () => (float[n, 4] t) { t = MatMul (x, w) }",
    "else_g () => (float[n, 4] e) { e = Add (x, h) }",
)
CASES = {
    "captured values": PLAIN,
    "several outputs": (
        "float[n, 4] y, int64[2] z",
        "then_g () => (float[n, 4] t, int64[2] p) { t = Softmax (x)  p = Shape (x) }",
        "else_g () => (float[n, 4] e, int64[2] q) { e = Neg (h)  s = Shape (h)  q = Add (s, s) }",
    ),
    "values passed through": (
        "float[n, 4] y, float[4, 4] z",
        "then_g () => (float[n, 4] x, float[4, 4] w) { }",
        "else_g () => (float[n, 4] h, float[4, 4] k) { k = Neg (w) }",
    ),
    "one value twice": (
        "float[n, 4] y, float[n, 4] z",
        "then_g () => (float[n, 4] t, float[n, 4] t) { t = Exp (x) }",
        "else_g () => (float[n, 4] h, float[n, 4] e) { e = Abs (h) }",
    ),
    "an If in an If": (
        "float[n, 4] y",
        """then_g () => (float[n, 4] t) {
            a = Sigmoid (x)
            t = If (d) <
                then_branch = inner_then () => (float[n, 4] u) { u = Mul (a, h) },
                else_branch = inner_else () => (float[n, 4] v) { b = Sub (a, h)  v = MatMul (b, w) }>
        }""",
        """else_g () => (float[n, 4] e) {
            e = If (d) <
                then_branch = inner_then2 () => (float[n, 4] x) { },
                else_branch = inner_else2 () => (float[n, 4] r) { r = Relu (x) }>
        }""",
    ),
    "branches of very different length": (
        "float[n, 4] y",
f"then_g () => (float[n, 4] t) {{ {LONG} t = MatMul (a19, w) }}",
        "else_g () => (float[n, 4] x) { }",
    ),
}  # fmt: skip


def build(outputs: str, then: str, other: str, *, condition: str = "bool c") -> onnx.ModelProto:
    """An If between nodes that compute what it captures, and that read what it returns."""
    names = ", ".join(part.split()[-1] for part in outputs.split(", ") if part.split()[-1].isidentifier())
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        with_if (float[n, 4] x, {condition}, bool d) => ({outputs}, float[n, 4] last) {{
            h = Tanh (x)
            {names} = If (c) <then_branch = {then}, else_branch = {other}>
            last = Add (y, h)
        }}"""
    built = onnx.parser.parse_model(text)
    for index, node in enumerate(_nodes(built.graph)):
        node.name = f"{node.op_type}_{index}"
    built.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHTS, "w"))
    return built


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def feeds_of(rows: int, c: Any, d: bool = True) -> dict[str, Array]:
    x = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
    return {"x": x, "c": np.array(c), "d": np.array(d)}


def check(session: Session, built: onnx.ModelProto, feeds: dict[str, Array]) -> None:
    names = [value.name for value in built.graph.output]
    wanted = ReferenceEvaluator(built).run(names, feeds)
    found = session.run(feeds)
    for name, array in zip(names, wanted, strict=True):
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-6, err_msg=name)


def device_of(session: Session, op: str = "If") -> set[str]:
    return {entry.device for entry in session.explain().nodes if entry.op == op}


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """No input is looked at before planning, so that the run alone tells which way an If goes."""
    monkeypatch.setattr("mace_core.scheduler.planning.flags.MOST_FLAGS", 0)


@pytest.fixture
def python_ifs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the Ifs that the core ran."""
    ran: list[str] = []
    run = IfFlow.run

    def counted(self: IfFlow, *args: Any) -> Any:
        ran.append(self.node.name)
        return run(self, *args)

    monkeypatch.setattr(IfFlow, "run", counted)
    return ran


@pytest.mark.usefixtures("undecided")
@pytest.mark.parametrize("poison", ["", "ff"])
@pytest.mark.parametrize("case", CASES)
def test_both_ways_of_one_plan(case: str, poison: str, python_ifs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, poison)
    built = build(*CASES[case])
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for rows in (3, 5, 17, 1, 200, 5):
            for c, d in ((True, True), (False, True), (True, False), (False, False)):
                check(session, built, feeds_of(rows, c, d))
        assert device_of(session) == {"cpu:0"}
    assert python_ifs == []


@pytest.mark.usefixtures("undecided")
def test_a_condition_may_be_a_vector_of_one() -> None:
    built = build(*PLAIN, condition="bool[1] c")
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for c in (True, False, True):
            check(session, built, feeds_of(3, [c]))
        assert device_of(session) == {"cpu:0"}


@pytest.mark.usefixtures("undecided")
def test_what_branches_capture_is_not_fused_away(python_ifs: list[str]) -> None:
    """Chains and activations behind a product end where a branch reads what is in between."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        fused (float[n, 4] x, bool c) => (float[n, 4] y, float[n, 4] z) {
            p = MatMul (x, w)
            q = Relu (p)
            r = Tanh (q)
            s = Exp (r)
            y = If (c) <
                then_branch = then_g () => (float[n, 4] t) { t = Sub (p, s) },
                else_branch = else_g () => (float[n, 4] e) { e = MatMul (r, w) }>
            z = Add (s, y)
        }"""
    built = onnx.parser.parse_model(text)
    built.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHTS, "w"))
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for rows, c in ((3, True), (3, False), (0, True), (0, False), (8, False), (8, True)):
            check(session, built, {"x": feeds_of(rows, c)["x"], "c": np.array(c)})
    assert python_ifs == []


@pytest.mark.usefixtures("undecided")
def test_large_branches_are_computed_by_several_threads() -> None:
    built = build(*CASES["an If in an If"])
    with Session(built, devices=["cpu"], strict=True, cache=False, options={"cpu": {"threads": 3}}) as session:
        for c, d in ((True, True), (False, False), (True, False)):
            check(session, built, feeds_of(40_000, c, d))


INDEXED = (
    "float[n, 4] y",
    "then_g () => (float[n, 4] t) { f = Gather <axis = 0> (rows, at)  t = Add (x, f) }",
    "else_g () => (float[n, 4] e) { e = Neg (x) }",
)


def indexed() -> onnx.ModelProto:
    built = build(*INDEXED)
    built.graph.input.append(onnx.helper.make_tensor_value_info("at", onnx.TensorProto.INT64, []))
    built.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHTS, "rows"))
    return built


@pytest.mark.usefixtures("undecided")
def test_a_fault_shows_in_the_branch_taken_alone() -> None:
    built = indexed()
    (gather,) = (node.name for node in _nodes(built.graph) if node.op_type == "Gather")
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        bad = {**feeds_of(3, False), "at": np.array(99)}
        np.testing.assert_array_equal(session.run(bad)["y"], -bad["x"])
        with pytest.raises(ProviderError, match=f"node '{gather}' on cpu:0.*index 99"):
            session.run({**bad, "c": np.array(True)})
        check(session, built, {**bad, "c": np.array(True), "at": np.array(2)})
        np.testing.assert_array_equal(session.run(bad)["y"], -bad["x"])


@pytest.mark.usefixtures("undecided")
def test_profiles_show_what_ran_and_explanations_all_there_is() -> None:
    built = build(*PLAIN)
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for c, op in ((True, "MatMul"), (False, "Add"), (True, "MatMul")):
            spans = [span.name for span in session.profile(feeds_of(3, c)).spans]
            assert [span.split()[0] for span in spans] == ["Tanh", op, "Add"]
        found = {entry.op: (entry.scope, entry.device) for entry in session.explain().nodes if entry.scope}
        name = next(entry.node for entry in session.explain().nodes if entry.op == "If")
        assert found == {"MatMul": (f"{name}.then_branch", "cpu:0"), "Add": (f"{name}.else_branch", "cpu:0")}


@pytest.mark.usefixtures("undecided")
def test_a_stored_plan_has_its_gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    built = build(*CASES["an If in an If"])
    onnx.save(built, tmp_path / "with_if.onnx")
    for is_restored in (False, True):
        with Session(tmp_path / "with_if.onnx", devices=["cpu"], strict=True) as session:
            for rows in (3, 5, 9):
                for c, d in ((True, True), (False, True), (True, False), (False, False)):
                    check(session, built, feeds_of(rows, c, d))
            assert {one.restored for one in session.explain().preparations} == {is_restored}


TURNING = """
    <ir_version: 8, opset_import: ["" : 17]>
    turning (float[n] x, int64 m, float step) => (float[n] y, float[k, n] all) {
        zero = Constant <value_float = 0.0> ()
        yes = Equal (zero, zero)
        y, all = Loop (m, yes, x) <body = turn (int64 i, bool going, float[n] a) => (bool go, float[n] b, float[n] s) {
            go = Identity (going)
            sum = ReduceSum <keepdims = 0> (a)
            is_large = Greater (sum, zero)
            b = If (is_large) <
                then_branch = down () => (float[n] t) { f = Mul (a, step)  t = Sub (f, step) },
                else_branch = up () => (float[n] e) { e = Add (a, step) }>
            s = Tanh (b)
        }>
    }"""


def test_turns_of_a_loop_with_an_if_are_native(monkeypatch: pytest.MonkeyPatch, python_ifs: list[str]) -> None:
    taken: list[int] = []
    take = Turns.take

    def counted(self: Turns, results: list[object]) -> None:
        taken.append(self.step)
        take(self, results)

    monkeypatch.setattr(Turns, "take", counted)
    built = onnx.parser.parse_model(TURNING)
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for size, turns in ((4, 50), (6, 50), (9, 31), (4, 1), (1, 20)):
            x = np.linspace(-1, 2, size, dtype=np.float32)
            check(session, built, {"x": x, "m": np.array(turns), "step": np.array(-0.75, np.float32)})
    assert python_ifs == []
    assert set(taken) <= {0}


def test_a_loop_with_an_if_is_cancelled() -> None:
    flag = CancelFlag()
    failed: list[BaseException] = []
    feeds = {"x": np.ones(4, np.float32), "m": np.array(1 << 30), "step": np.array(0.5, np.float32)}
    built = onnx.parser.parse_model(TURNING)
    del built.graph.output[1], built.graph.node[2].output[1], built.graph.node[2].attribute[0].g.output[2]
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:

        def run() -> None:
            try:
                session.run(feeds, cancel=flag)
            except CancelledError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        flag.set()
        thread.join(60)
        assert not thread.is_alive()
    assert isinstance(failed[0], CancelledError)


OTHER_SHAPES = (
    "float[k, 4] y",
    "then_g () => (float[n, 4] t) { t = Neg (x) }",
    "else_g () => (float[p, 4] e) { e = Concat <axis = 0> (x, h) }",
)
UNKNOWN = (
    "int64[2, k] y",
    "then_g () => (int64[2, k] t) { t = NonZero (x) }",
    "else_g () => (int64[2, k] e) { e = NonZero (h) }",
)


@pytest.mark.usefixtures("undecided")
@pytest.mark.parametrize("case", [OTHER_SHAPES, UNKNOWN], ids=["other shapes", "unknown shapes"])
def test_shapes_that_the_condition_decides_are_left_to_the_core(case: tuple[str, str, str]) -> None:
    built = build(*case)
    built.graph.node[-1].input[0] = "x"  # whatever the If returns
    with Session(built, devices=["cpu"], cache=False) as session:
        for rows, c in ((3, True), (3, False), (5, True), (5, False)):
            check(session, built, feeds_of(rows, c))
        assert device_of(session) <= {"core"}  # or decided, in a stage of its own


@pytest.mark.usefixtures("undecided")
@pytest.mark.parametrize("limit", ["MOST_NODES", "MOST_WEIGHT_BYTES"])
def test_large_branches_are_compiled_when_they_are_taken(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"mace_cpu.control.lower_if.{limit}", 1)
    built = build(*PLAIN)
    with Session(built, devices=["cpu"], strict=True, cache=False) as session:
        for c in (True, False):
            check(session, built, feeds_of(3, c))
        (declined,) = (entry.declined for entry in session.explain().nodes if entry.op == "If")
        assert "compiled when they are run" in declined["cpu:0"]


@pytest.mark.usefixtures("undecided")
def test_nodes_that_are_looked_at_or_pinned_elsewhere_are_left_to_the_core() -> None:
    built = build(*PLAIN)
    (inner,) = (node.name for node in _nodes(built.graph) if node.op_type == "MatMul")
    for options in ({"check_numerics": True}, {"pins": {inner: "reference"}}, {"devices": ["reference", "cpu"]}):
        with Session(built, **{"devices": ["cpu"], "cache": False, **options}) as session:  # type: ignore[arg-type]
            for c in (True, False):
                check(session, built, feeds_of(3, c))
            assert device_of(session) == {"core"}, options
