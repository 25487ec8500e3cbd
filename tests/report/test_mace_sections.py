"""The eight sections of MACE's benchmark: what a row of them says of steps that several nodes share, and of loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.frontend.load import load_model
from mace_core.graph.copying import copy_graph
from mace_core.report import MaceSections, measure_sections
from mace_core.report.layer_facts import LayerFacts
from mace_core.report.mace_sections import operations_of
from mace_core.report.model_facts import ModelFacts, model_facts
from mace_core.scheduler.profile import Profile, Span

SECTIONS = [
    "Warm Up",
    "Run without statistics",
    "Run with statistics",
    "Sort by Run Order",
    "Sort by Computation Time",
    "Stat by Op Type",
    "Stat by MACs(Multiply-Accumulation)",
    "Summary of Ops' Stat",
]
MILLISECOND = 1_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution with stride, padding and dilation, an activation, a pool, and a product."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "v": random.standard_normal((8, 5)).astype(np.float32),
    }
    steps = {"strides": [2, 2], "pads": [2, 2, 2, 2], "dilations": [2, 2]}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="conv", **steps),
            helper.make_node("Relu", ["a"], ["b"], name="relu"),
            helper.make_node("MaxPool", ["b"], ["c"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("GlobalAveragePool", ["c"], ["d"], name="mean"),
            helper.make_node("Flatten", ["d"], ["e"], name="flat"),
            helper.make_node("MatMul", ["e", "v"], ["y"], name="product"),
        ],
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("sections") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def found(model: Path) -> MaceSections:
    feeds = {"x": np.ones((1, 3, 16, 16), np.float32)}
    with Session(model, devices=["cpu"]) as session:
        return measure_sections(session, model, feeds, warmup=2, runs=3, profiled=4)


def test_the_eight_sections_stand_in_maces_order(found: MaceSections) -> None:
    assert [table.title for table in found.tables()] == SECTIONS
    rounds = [table.rows[0][0] for table in found.tables()[:3]]
    assert rounds == ["2", "3", "4"]
    columns = "Op Type, Start, First, Avg(ms), %, cdf%, GMACPS, Stride, Pad, Filter Shape, Output Shape, Dilation, name"
    assert ", ".join(column.name for column in found.tables()[3].columns) == columns


def test_a_fused_step_names_all_its_nodes_and_the_layer_that_has_a_filter(found: MaceSections) -> None:
    rows = {row[-1]: row for row in found.tables()[3].rows}
    conv = next(row for name, row in rows.items() if name.startswith("conv"))
    assert conv[0] == "Conv+Relu" and conv[-1] == "conv + relu"
    assert conv[7:12] == ("[2,2]", "[2,2,2,2]", "[8,3,3,3]", "[1,8,8,8]", "[2,2]")
    assert "stand for" in " ".join(found.notes())


def test_pools_and_products_show_their_window_and_filter(found: MaceSections) -> None:
    by_node = {node: each for each in found.operations for node in each.nodes}
    assert by_node["pool"].layer == LayerFacts((2, 2), (1, 1), "[0,0,0,0]", (2, 2), (1, 8, 4, 4))
    assert by_node["product"].layer.filter == (8, 5)


def test_work_is_counted_once_whatever_the_number_of_steps(found: MaceSections) -> None:
    assert found.macs == 8 * 8 * 8 * 3 * 9 + 8 * 5
    total = found.tables()[6].rows[0]
    assert total[:2] == (f"{found.macs:,}", "4")


def test_shares_add_up(found: MaceSections) -> None:
    for table in found.tables()[3:6]:
        names = [column.name for column in table.columns]
        shares = [float(row[names.index("%")]) for row in table.rows]
        sums = [float(row[names.index("cdf%")]) for row in table.rows]
        assert np.allclose(np.cumsum(shares), sums, atol=0.01)
        assert sums[-1] == pytest.approx(100, abs=0.01)
    means = [float(row[3]) for row in found.tables()[4].rows]
    assert means == sorted(means, reverse=True)


def _profile(spans: list[Span]) -> Profile:
    return Profile(spans=spans, start_ns=0, end_ns=max(span.end_ns for span in spans))


def test_the_body_of_a_loop_is_not_counted_twice_and_calls_are_counted() -> None:
    facts = ModelFacts({"inner": 1_000_000}, {"loop": "Loop", "inner": "MatMul", "after": "Relu"})
    spans = [
        Span("Loop", ("loop",), "core", 0, 10 * MILLISECOND),
        *(Span("MatMul", ("inner",), "cpu:0", k * MILLISECOND, (k + 1) * MILLISECOND) for k in range(1, 5)),
        Span("Relu", ("after",), "cpu:0", 10 * MILLISECOND, 12 * MILLISECOND),
    ]
    operations, sums = operations_of([_profile(spans)], facts, {})
    assert [(each.kind, len(each.seconds)) for each in operations] == [("Loop", 1), ("MatMul", 4), ("Relu", 1)]
    assert operations[0].total == pytest.approx(6e-3)
    assert sums == [pytest.approx(12e-3)]
    assert operations[1].rate == pytest.approx(1e9)


def test_two_steps_for_one_node_are_two_rows_and_its_work_counts_at_the_longer() -> None:
    facts = ModelFacts({"gemm": 2_000_000}, {"gemm": "Gemm"})
    spans = [
        Span("Gemm", ("gemm",), "cpu:0", 0, MILLISECOND),
        Span("Gemm", ("gemm",), "cpu:0", MILLISECOND, 4 * MILLISECOND),
    ]
    operations, _ = operations_of([_profile(spans)] * 2, facts, {})
    assert [each.name for each in operations] == ["gemm [step 1 of 2]", "gemm [step 2 of 2]"]
    assert [each.macs for each in operations] == [0, 2_000_000]


def test_operators_that_became_several_nodes_keep_their_work(model: Path) -> None:
    """Steps of a TensorFlow Lite model tell operators of its file, and a frontend makes several nodes of one."""
    graph = load_model(model)
    convolution = next(node for node in graph.nodes if node.op_type == "Conv")
    for node in graph.nodes:
        node.source = (
            ("CONV_2D_0",) if node in (convolution, graph.nodes[1]) else (f"{node.op_type.upper()}_{node.name}",)
        )
        node.name = f"{node.source[0]}/{node.op_type}"
    feeds = {"x": np.zeros((1, 3, 16, 16), np.float32)}
    with Session(copy_graph(graph)[0], devices=["cpu"], cache=False) as session:
        found = measure_sections(session, graph, feeds, warmup=1, runs=1)
    facts = model_facts(graph, feeds)
    assert facts.operators["CONV_2D_0"] == "Conv"
    assert found.macs == sum(facts.macs.values()) > 8 * 27
    (row,) = [each for each in found.operations if "CONV_2D_0" in each.nodes and each.macs]
    assert (row.layer.filter, row.layer.strides) == ((8, 3, 3, 3), (2, 2))
