"""If, Loop, Scan: run by the core, bodies on the devices."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_suite import cases, check_case
from scheduler_models import BOOL, FLOAT, INT64, constant, model, op, tensor
from scheduler_stand_ins import make_provider, registry_of

from mace_core.errors import ModelError
from mace_core.session import Session
from mace_core.tensor import MemoryKind

CONTROL_CASES = (
    "test_if",
    "test_if_seq",
    "test_loop11",
    "test_loop13_seq",
    "test_loop16_seq_none",
    "test_scan_sum",
    "test_scan9_sum",
    "test_scan9_scalar",
    "test_sequence_map_identity_2_sequences",
    "test_sequence_map_extract_shapes",
    "test_range_float_type_positive_delta_expanded",
    "test_affine_grid_2d_expanded",
)


@pytest.mark.parametrize("name", CONTROL_CASES)
def test_control_flow_cases_of_the_onnx_suite(name: str) -> None:
    check_case(cases()[name], devices=["reference"], registry=registry_of(), optimize=False)


@pytest.mark.parametrize("name", CONTROL_CASES)
def test_control_flow_with_bodies_on_a_device_with_memory_of_its_own(name: str) -> None:
    claims = {"Add", "Sub", "Mul", "Identity", "Range", "Slice", "Unsqueeze", "Concat", "Cast", "Shape"}
    far = make_provider("far", memory=MemoryKind.DEVICE, has_queue=True, claims=claims)
    check_case(cases()[name], devices=["far"], registry=registry_of(far), optimize=False)


def graph(nodes: list, inputs: list, outputs: list, name: str = "body") -> onnx.GraphProto:  # type: ignore[type-arg]
    return helper.make_graph(nodes, name, inputs, outputs)


def if_model(condition: list[onnx.TensorProto] | None = None) -> onnx.ModelProto:
    """``c ? x + w : -x``; x is captured."""
    then = graph([op("Add", ["x", "w"], ["t"])], [], [tensor("t", None)], "then")
    other = graph([op("Neg", ["x"], ["e"])], [], [tensor("e", None)], "else")
    node = helper.make_node("If", ["c"], ["y"], name="choose", then_branch=then, else_branch=other)
    inputs = [tensor("x", ["n"])] + ([] if condition else [tensor("c", [], BOOL)])
    return model([node], inputs, [tensor("y", ["n"])], [constant("w", np.float32([10])), *(condition or [])])


X = np.float32([1, 2, 3])


def test_if_takes_the_branch_of_its_condition() -> None:
    far = make_provider("far", claims={"Add", "Neg"})
    with Session(if_model(), devices=["far"], registry=registry_of(far), strict=True) as session:
        np.testing.assert_array_equal(session.run({"x": X, "c": np.True_})["y"], X + 10)
        np.testing.assert_array_equal(session.run({"x": X, "c": np.array(False)})["y"], -X)


def test_control_flow_is_native_and_its_bodies_are_explained() -> None:
    far = make_provider("far", claims={"Add"})
    with Session(if_model(), devices=["far"], registry=registry_of(far)) as session:
        session.run({"x": X, "c": np.True_})
        found = session.explain()
        where = {entry.node: (entry.device, entry.scope) for entry in found.nodes}
        assert where == {"Add_t": ("far:0", "choose.then_branch")}
        assert found.folded == ["choose"]
        assert found.signature == "x: float32[3], c: bool[], c = True"
        assert found.fallback_count == 0
        session.run({"x": X, "c": np.False_})
        assert session.explain().fallbacks == {"reference:0": 1}
        assert session.explain().signature.endswith("c = False")


def test_branches_that_only_the_run_chooses_are_explained() -> None:
    far = make_provider("far", claims={"Add", "Greater"})
    built = if_model()
    del built.graph.input[1]
    built.graph.input.append(tensor("limit", []))
    built.graph.node.insert(0, op("Greater", ["limit", "w0"], ["c"]))
    built.graph.initializer.append(constant("w0", np.float32(0)))
    with Session(built, devices=["far"], registry=registry_of(far)) as session:
        session.run({"x": X, "limit": np.float32(1)})
        found = session.explain()
        where = {entry.node: (entry.device, entry.scope) for entry in found.nodes}
        assert where["choose"] == ("core", "")
        assert where["Add_t"] == ("far:0", "choose.then_branch")
        assert found.waiting == ["choose.else_branch/Neg_e"]


def test_only_the_branch_of_a_known_condition_is_kept() -> None:
    built = if_model([constant("c", np.array(True))])
    with Session(built, devices=["reference"], registry=registry_of(), optimize=False) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], X + 10)
        assert session.explain().waiting == []


def loop_model(body: onnx.GraphProto, carried: list[str], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    inputs = [tensor("m", [], INT64), tensor("go", [], BOOL), *(tensor(name, None) for name in carried)]
    node = helper.make_node("Loop", ["m", "go", *carried], [o.name for o in outputs], name="loop", body=body)
    return model([node], inputs, outputs)


def growing_body() -> onnx.GraphProto:
    """``v`` is doubled in length each time; its sum is a scan output."""
    nodes = [
        op("Concat", ["v", "v"], ["v2"], axis=0),
        op("ReduceSum", ["v2"], ["s"], keepdims=0),
        op("Identity", ["cond"], ["go_on"]),
    ]
    inputs = [tensor("i", [], INT64), tensor("cond", [], BOOL), tensor("v", [None])]
    return graph(nodes, inputs, [tensor("go_on", [], BOOL), tensor("v2", [None]), tensor("s", [])])


def growing() -> onnx.ModelProto:
    return loop_model(growing_body(), ["v0"], [tensor("last", [None]), tensor("sums", [None])])


def test_carried_shapes_may_change_from_iteration_to_iteration() -> None:
    far = make_provider("far", claims={"Concat"}, memory=MemoryKind.DEVICE)
    with Session(growing(), devices=["far"], registry=registry_of(far)) as session:
        feeds = {"m": 4, "go": True, "v0": np.float32([1, 2])}
        found = session.run(feeds)
        assert found["last"].shape == (32,)
        np.testing.assert_array_equal(found["sums"], [6, 12, 24, 48])


@pytest.mark.parametrize(("trips", "go"), [(0, True), (5, False)])
def test_a_loop_of_no_iterations_returns_what_it_was_given(trips: int, go: bool) -> None:
    with Session(growing(), devices=["reference"], registry=registry_of()) as session:
        found = session.run({"m": trips, "go": go, "v0": X})
        np.testing.assert_array_equal(found["last"], X)
        assert found["sums"].shape == (0,)
        assert found["sums"].dtype == np.float32


def test_a_loop_without_trip_count_ends_by_its_condition() -> None:
    nodes = [
        op("Add", ["v", "v"], ["w"]),
        op("ReduceMax", ["w"], ["top"], keepdims=0),
        op("Less", ["top", "limit"], ["more"]),
    ]
    body = graph(
        nodes,
        [tensor("i", [1], INT64), tensor("c", [], BOOL), tensor("v", [None])],
        [tensor("more", [], BOOL), tensor("w", [None])],
    )
    node = helper.make_node("Loop", ["", "", "v0"], ["y"], name="loop", body=body)
    built = model([node], [tensor("v0", ["n"]), tensor("limit", [])], [tensor("y", ["n"])])
    with Session(built, devices=["reference"], registry=registry_of()) as session:
        np.testing.assert_array_equal(session.run({"v0": X, "limit": 20.0})["y"], 8 * X)


@pytest.mark.parametrize("claims", [set(), {"Neg"}])
@pytest.mark.parametrize("optimize", [False, True])
def test_sequences_keep_what_was_put_into_them(claims: set[str], optimize: bool) -> None:
    """Their elements are no views of memory that the next iteration writes."""
    nodes = [
        op("Neg", ["v"], ["w"]),
        op("Add", ["w", "w"], ["v2"]),
        op("SequenceInsert", ["s", "w"], ["s2"]),
        op("Identity", ["c"], ["d"]),
    ]
    sequence = [helper.make_tensor_sequence_value_info(name, FLOAT, None) for name in ("s", "s2", "y")]
    inputs = [tensor("i", [], INT64), tensor("c", [], BOOL), tensor("v", [3]), sequence[0]]
    body = graph(nodes, inputs, [tensor("d", [], BOOL), tensor("v2", [3]), sequence[1]])
    built = model(
        [
            op("SequenceEmpty", [], ["s0"]),
            helper.make_node("Loop", ["m", "", "x", "s0"], ["last", "y"], name="l", body=body),
        ],
        [tensor("m", [], INT64), tensor("x", [3])],
        [tensor("last", [3]), sequence[2]],
    )
    far = make_provider("far", claims=claims)
    with Session(built, devices=["far"], registry=registry_of(far), optimize=optimize) as session:
        found = session.run({"m": 3, "x": X})
        np.testing.assert_array_equal(np.stack(found["y"]), [-X, 2 * X, -4 * X])


def test_sequences_that_come_back_are_not_the_callers_own_arrays() -> None:
    s, y = (helper.make_tensor_sequence_value_info(name, FLOAT, None) for name in ("s", "y"))
    built = model([op("SequenceInsert", ["s", "x"], ["y"])], [s, tensor("x", [3])], [y])
    fed = X.copy()
    with Session(built, devices=["reference"], registry=registry_of()) as session:
        for item in session.run({"s": [fed], "x": fed})["y"]:
            item[...] = 99
    np.testing.assert_array_equal(fed, X)


def test_scan_outputs_of_changing_shape_are_refused() -> None:
    nodes = [op("Concat", ["v", "v"], ["v2"], axis=0), op("Identity", ["v2"], ["s"]), op("Identity", ["c"], ["d"])]
    inputs = [tensor("i", [], INT64), tensor("c", [], BOOL), tensor("v", [None])]
    body = graph(nodes, inputs, [tensor("d", [], BOOL), tensor("v2", [None]), tensor("s", [None])])
    built = loop_model(body, ["v0"], [tensor("last", [None]), tensor("all", [None, None])])
    with (
        Session(built, devices=["reference"], registry=registry_of(), optimize=False) as session,
        pytest.raises(ModelError, match="scan output changed between iterations"),
    ):
        session.run({"m": 2, "go": True, "v0": X})


def test_scan_along_other_axes_and_backwards() -> None:
    nodes = [op("Add", ["s", "x"], ["t"]), op("Identity", ["t"], ["o"])]
    body = graph(nodes, [tensor("s", [2]), tensor("x", [2])], [tensor("t", [2]), tensor("o", [2])])
    node = helper.make_node(
        "Scan",
        ["s0", "xs"],
        ["last", "all"],
        name="scan",
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[1],
        scan_output_axes=[1],
        scan_output_directions=[1],
    )
    built = model([node], [tensor("s0", [2]), tensor("xs", [2, "n"])], [tensor("last", [2]), tensor("all", [2, "n"])])
    xs = np.float32([[1, 2, 3], [4, 5, 6]])
    with Session(built, devices=["reference"], registry=registry_of()) as session:
        found = session.run({"s0": np.zeros(2, np.float32), "xs": xs})
        np.testing.assert_array_equal(found["last"], xs.sum(1))
        np.testing.assert_array_equal(found["all"], np.cumsum(xs[:, ::-1], 1)[:, ::-1])
        assert session.run({"s0": np.zeros(2, np.float32), "xs": xs[:, :0]})["all"].shape == (2, 0)


def test_loops_nest_and_capture_from_every_level() -> None:
    inner_nodes = [op("Add", ["b", "x"], ["b2"]), op("Add", ["b2", "j_float"], ["b3"]), op("Identity", ["cc"], ["cd"])]
    inner = graph(
        inner_nodes,
        [tensor("k", [], INT64), tensor("cc", [], BOOL), tensor("b", ["n"])],
        [tensor("cd", [], BOOL), tensor("b3", ["n"])],
        "inner",
    )
    outer_nodes = [
        op("Cast", ["j"], ["j_float"], to=FLOAT),
        helper.make_node("Loop", ["two", "c", "a"], ["a2"], name="inner_loop", body=inner),
        op("Identity", ["c"], ["d"]),
    ]
    outer = graph(
        outer_nodes,
        [tensor("j", [], INT64), tensor("c", [], BOOL), tensor("a", ["n"])],
        [tensor("d", [], BOOL), tensor("a2", ["n"])],
        "outer",
    )
    node = helper.make_node("Loop", ["three", "yes", "x"], ["y"], name="outer_loop", body=outer)
    constants = [constant("two", np.int64(2)), constant("three", np.int64(3)), constant("yes", np.array(True))]
    built = model([node], [tensor("x", ["n"])], [tensor("y", ["n"])], constants)
    for optimize in (False, True):
        with Session(built, devices=["reference"], registry=registry_of(), optimize=optimize) as session:
            # per outer step j: twice + x + j
            np.testing.assert_array_equal(session.run({"x": X})["y"], X + 6 * X + 2 * (0 + 1 + 2))


def test_a_cancelled_loop_stops_between_iterations() -> None:
    from mace_core.errors import CancelledError
    from mace_core.provider import CancelFlag

    flag = CancelFlag()
    far = make_provider("far", claims={"Concat"})
    with Session(growing(), devices=["far"], registry=registry_of(far)) as session:
        flag.set()
        with pytest.raises(CancelledError):
            session.run({"m": 3, "go": True, "v0": X}, cancel=flag)


def test_scan_over_a_vector_hands_numbers_to_a_body_on_the_cpu() -> None:
    """A vector's elements are numbers to numpy, not arrays."""
    pytest.importorskip("mace_cpu", reason="needs the CPU provider")
    check_case(cases()["test_scan9_scalar"], devices=["cpu"])
