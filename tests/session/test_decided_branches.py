"""Ifs whose way is known when a signature is planned: their branches are compiled with what is around them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from scheduler_models import BOOL, FLOAT, INT64, constant, model, op, tensor

from mace_core.scheduler.planning.flags import MOST_FLAGS
from mace_core.session import Session

WIDTH = 4


def branch(name: str, nodes: Sequence[onnx.NodeProto], *outputs: str) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [tensor(output, None) for output in outputs])


def choice(condition: str, then: onnx.GraphProto, otherwise: onnx.GraphProto, outputs: Sequence[str]) -> onnx.NodeProto:
    return helper.make_node(
        "If", [condition], list(outputs), name=f"If_{outputs[0]}", then_branch=then, else_branch=otherwise
    )


def by_flag() -> onnx.ModelProto:
    """A cache that is taken where the flag says so, as in merged decoders; nodes before and behind the If."""
    cached = branch(
        "cached",
        [op("Concat", ["past", "a"], ["joined"], axis=0), op("Add", ["joined", "w"], ["sum"])],
        "sum",
        "joined",
    )
    first = branch("first", [op("Identity", ["a"], ["kept"]), op("Sub", ["kept", "w"], ["less"])], "less", "kept")
    nodes = [
        op("Relu", ["x"], ["a"]),
        choice("flag", cached, first, ["chosen", "present"]),
        op("Mul", ["chosen", "w"], ["scaled"]),
        op("ReduceSum", ["scaled"], ["y"]),
    ]
    inputs = [tensor("x", ["n", WIDTH]), tensor("past", ["p", WIDTH]), tensor("flag", [1], BOOL)]
    outputs = [tensor("y", None), tensor("present", ["m", WIDTH]), tensor("chosen", ["m", WIDTH])]
    return model(nodes, inputs, outputs, [constant("w", np.float32([1, 2, 3, 4]))])


def by_shape() -> onnx.ModelProto:
    """One way for a single row, another for more; the second one has such a choice inside."""
    many = branch("many", [op("ReduceMax", ["a"], ["top"], axes=[0], keepdims=1)], "top")
    few = branch("few", [op("Neg", ["a"], ["minus"])], "minus")
    several = branch(
        "several",
        [op("Greater", ["rows", "three"], ["more"]), choice("more", many, few, ["inner"]), op("Abs", ["inner"], ["b"])],
        "b",
    )
    single = branch("single", [op("Identity", ["a"], ["same"])], "same")
    nodes = [
        op("Relu", ["x"], ["a"]),
        op("Shape", ["x"], ["shape"]),
        op("Gather", ["shape", "zero"], ["rows"]),
        op("Greater", ["rows", "one"], ["is_many"]),
        choice("is_many", several, single, ["c"]),
        op("Add", ["c", "a"], ["y"]),
    ]
    numbers = [constant(name, np.int64(n)) for name, n in (("zero", 0), ("one", 1), ("three", 3))]
    return model(nodes, [tensor("x", ["n", WIDTH])], [tensor("y", None)], numbers, opset=13)


def by_data() -> onnx.ModelProto:
    nodes = [
        op("Greater", ["limit", "one"], ["is_more"]),
        choice(
            "is_more",
            branch("up", [op("Exp", ["x"], ["e"])], "e"),
            branch("down", [op("Neg", ["x"], ["m"])], "m"),
            ["y"],
        ),
    ]
    inputs = [tensor("x", ["n", WIDTH]), tensor("limit", [])]
    return model(nodes, inputs, [tensor("y", None)], [constant("one", np.float32(1))])


def rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


def check(session: Session, judge: onnxruntime.InferenceSession, feeds: dict[str, Any]) -> None:
    found = session.run(feeds)
    for name, expected in zip(found, judge.run(None, feeds), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def judge_of(built: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])


def is_one_stage(session: Session) -> bool:
    """Whether the latest plan is one compiled subgraph and no step of the core."""
    plan = session._runner.last_plan
    assert plan is not None
    return plan.is_single and plan.rest is None


@pytest.mark.parametrize("cache", [False, True])
def test_a_flag_has_plans_of_its_own_for_each_way(cache: bool) -> None:
    built = by_flag()
    judge = judge_of(built)
    with Session(built, devices=["cpu"], cache=cache) as session:
        for past, flag in itertools.product((3, 4, 5, 9, 1, 0, 60), (True, False)):
            feeds = {"x": rows(2), "past": rows(past, 1), "flag": np.array([flag])}
            check(session, judge, feeds)
            assert is_one_stage(session)
        families = session._runner._structures._families.values()
        assert len(families) == 2
        assert all(len(family.structures) <= 2 for family in families)


def test_a_flag_that_another_thread_changes_meanwhile_is_looked_at_once() -> None:
    """A plan is kept under the content that its branch was chosen by."""
    built = by_flag()
    judge = judge_of(built)
    flag = np.array([True])
    feeds = {"x": rows(2), "past": rows(3, 1), "flag": flag}
    with Session(built, devices=["cpu"], cache=False) as session:
        for content in (True, False, True):
            flag[0] = content
            for _ in range(2):
                check(session, judge, feeds)
        assert len(session._runner.plans()) == 2


def test_sessions_can_be_prepared_and_explained_for_flags() -> None:
    with Session(by_flag(), devices=["cpu"], cache=False) as session:
        session.prepare({"x": (2, WIDTH), "past": (3, WIDTH), "flag": (1,)})
        assert len(session._runner.plans()) == 2
        for flag, name in ((True, "then"), (False, "else")):
            session.run({"x": rows(2), "past": rows(5 + flag, 1), "flag": np.array([flag])})
            found = session.explain()
            assert found.signature.endswith(f", flag = {flag}")
            assert found.folded == ["If_chosen"]
            assert {entry.scope for entry in found.nodes} == {"", f"If_chosen.{name}_branch"}
        assert session.explain({"x": (1, WIDTH), "past": (9, WIDTH), "flag": (1,)}).signature.endswith("flag = False")


def test_a_way_that_does_not_take_the_shapes_is_no_obstacle_to_the_other() -> None:
    """Opening, preparing and explaining look at both ways, and one of them may never be meant for these shapes."""
    built = by_flag()
    fixed = {"x": [2, WIDTH], "past": [3, WIDTH + 1]}
    for value in built.graph.input:
        if value.name in fixed:
            value.CopyFrom(tensor(value.name, fixed[value.name]))
    with Session(built, devices=["cpu"], cache=False) as session:
        session.prepare({})
        assert session.explain().signature.endswith("flag = False")
        feeds = {"x": rows(2), "past": np.zeros((3, WIDTH + 1), np.float32), "flag": np.array([False])}
        np.testing.assert_array_equal(session.run(feeds)["present"], np.maximum(feeds["x"], 0))


def test_shapes_that_decide_leave_no_step_to_the_core() -> None:
    built = by_shape()
    judge = judge_of(built)
    with Session(built, devices=["cpu"], cache=False) as session:
        for count in (2, 3, 1, 4, 9, 17, 5, 2, 1, 3, 40):
            check(session, judge, {"x": rows(count)})
            assert is_one_stage(session)
        assert sum(len(family.structures) for family in session._runner._structures._families.values()) <= 4


def test_data_that_decides_is_looked_at_during_the_run() -> None:
    built = by_data()
    judge = judge_of(built)
    with Session(built, devices=["cpu"], cache=False) as session:
        for limit in (0, 2, 0):
            check(session, judge, {"x": rows(3), "limit": np.array(limit, np.float32)})
        (plan,) = session._runner.plans()
        assert plan.plan.stage.decided == ()
        assert {entry.op for entry in session.explain().nodes} == {"Greater", "If", "Exp", "Neg"}


def test_where_there_are_many_flags_none_has_plans_of_its_own() -> None:
    count = MOST_FLAGS + 1
    nodes = []
    for index in range(count):
        source = "x" if index == 0 else f"y{index - 1}"
        up = branch("up", [op("Add", [source, "one"], [f"up{index}"])], f"up{index}")
        down = branch("down", [op("Neg", [source], [f"down{index}"])], f"down{index}")
        nodes.append(choice(f"flag{index}", up, down, [f"y{index}"]))
    flags = [tensor(f"flag{index}", [], BOOL) for index in range(count)]
    built = model(
        nodes, [tensor("x", ["n"]), *flags], [tensor(f"y{count - 1}", ["n"])], [constant("one", np.float32(1))]
    )
    judge = judge_of(built)
    with Session(built, devices=["cpu"], cache=False) as session:
        for number in range(2**count):
            feeds = {f"flag{index}": np.array(bool(number >> index & 1)) for index in range(count)}
            check(session, judge, {"x": np.float32([1, 2, 3]), **feeds})
        assert len(session._runner.plans()) == 1


def test_a_flag_in_a_loop_makes_one_subgraph_of_the_turn() -> None:
    """The body captures it: the turn has no choice left."""
    up = branch("up", [op("Add", ["a", "w"], ["u"])], "u")
    down = branch(
        "down", [op("Not", ["flag"], ["f"]), op("Cast", ["f"], ["z"], to=FLOAT), op("Sub", ["a", "z"], ["d"])], "d"
    )
    turn = helper.make_graph(
        [op("Identity", ["go"], ["goes"]), choice("flag", up, down, ["b"])],
        "turn",
        [tensor("i", [], INT64), tensor("go", [], BOOL), tensor("a", [WIDTH])],
        [tensor("goes", [], BOOL), tensor("b", [WIDTH])],
    )
    loop = op("Loop", ["turns", "", "x"], ["y"], body=turn)
    inputs = [tensor("x", [WIDTH]), tensor("turns", [], INT64), tensor("flag", [], BOOL)]
    built = model([loop], inputs, [tensor("y", [WIDTH])], [constant("w", np.float32([1, 2, 3, 4]))])
    judge = judge_of(built)
    with Session(built, devices=["cpu"], cache=False) as session:
        for flag in (True, False):
            check(session, judge, {"x": rows(1)[0], "turns": np.array(5), "flag": np.array(flag)})
            found = session.explain()
            scopes = {entry.scope for entry in found.nodes}
            assert f"Loop_y.body/If_b.{'then' if flag else 'else'}_branch" in scopes
            assert {entry.device for entry in found.nodes} == {"cpu:0"}  # the turns are part of one plan


def test_equal_names_in_branches_are_kept_apart() -> None:
    """Sibling branches may use the same names; where both would stand in one graph, an If stays."""
    bodies = [
        branch("body", [op("Relu", [source], ["t"]), op("Neg", ["t"], ["u"])], "u") for source in ("x", "y0", "y1")
    ]
    nodes = [choice("flag", bodies[index], bodies[index], [f"y{index}"]) for index in range(2)]
    inputs = [tensor("x", ["n"]), tensor("flag", [], BOOL)]
    built = model(nodes, inputs, [tensor("y1", ["n"])])
    judge = judge_of(built)
    with Session(built, devices=["cpu"], cache=False, optimize=False) as session:
        for flag in (True, False):
            check(session, judge, {"x": np.float32([-1, 2, 3]), "flag": np.array(flag)})


# --- drawn models -----------------------------------------------------------------------------------------------------


class Writer:
    """Nodes of one graph, and of graphs nested in it, whose values have names of their own."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def graph(self, seen: Sequence[str], depth: int, outputs: int) -> tuple[list[onnx.NodeProto], list[str]]:
        """Nodes that read what is ``seen`` and what they compute, and the names of some results of theirs."""
        nodes: list[onnx.NodeProto] = []
        known = list(seen)
        for _ in range(self.draw(st.integers(1, 4))):
            kind = self.draw(st.sampled_from(["Relu", "Neg", "Add", *(["If"] * 2 if depth else [])]))
            if kind == "If":
                made = [self.name() for _ in range(self.draw(st.integers(1, 2)))]
                branches = [self.branch(known, depth - 1, len(made)) for _ in range(2)]
                condition = self.draw(st.sampled_from(["flag", "not_flag", "is_many", "is_positive"]))
                nodes.append(choice(condition, branches[0], branches[1], made))
            else:
                made = [self.name()]
                nodes.append(op(kind, [self.draw(st.sampled_from(known)) for _ in range(1 + (kind == "Add"))], made))
            known += made
        own = known[len(seen) :]
        return nodes, [self.draw(st.sampled_from(own)) for _ in range(outputs)]

    def branch(self, seen: Sequence[str], depth: int, outputs: int) -> onnx.GraphProto:
        nodes, found = self.graph(seen, depth, outputs)
        if len(set(found)) < len(found):  # onnxruntime wants each result once
            nodes.append(op("Identity", [found[0]], [self.name()]))
            found[0] = nodes[-1].output[0]
        return branch(self.name(), nodes, *found)


@st.composite
def drawn(draw: st.DrawFn) -> onnx.ModelProto:
    writer = Writer(draw)
    nodes, found = writer.graph(["x"], 3, 2)
    conditions = [
        op("Not", ["flag"], ["not_flag"]),
        op("Shape", ["x"], ["shape"]),
        op("ReduceProd", ["shape"], ["size"], keepdims=0),
        op("Greater", ["size", "many"], ["is_many"]),
        op("ReduceSum", ["x"], ["sum"], keepdims=0),
        op("Greater", ["sum", "zero"], ["is_positive"]),
    ]
    last = [op("Identity", [name], [f"y{index}"]) for index, name in enumerate(found)]
    constants = [constant("many", np.int64(3 * WIDTH)), constant("zero", np.float32(0))]
    inputs = [tensor("x", ["n", WIDTH]), tensor("flag", [], BOOL)]
    outputs = [tensor(f"y{index}", ["n", WIDTH]) for index in range(len(found))]
    return model([*conditions, *nodes, *last], inputs, outputs, constants)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(built=drawn(), optimize=st.booleans())
def test_models_of_nested_branches_agree(built: onnx.ModelProto, optimize: bool) -> None:
    """Flags, sizes and data decide, at any depth, over many shapes and back."""
    judge = judge_of(built)
    with Session(built, devices=["cpu"], cache=False, optimize=optimize) as session:
        for count, flag in ((2, True), (3, True), (5, False), (4, True), (9, False), (2, False), (7, True)):
            check(session, judge, {"x": rows(count, count), "flag": np.array(flag)})
