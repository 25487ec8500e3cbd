"""The page of `mace inspect --html`: groups that open and close, search, facts of nodes and weights, keys; offline."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from chains import HOSTILE
from headless_chromium import Page
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mace_core.frontend import load_model
from mace_core.graph import Graph, Node, Origin
from mace_core.operators import resolve
from mace_core.report.graph_data import GraphData, statistics_of
from mace_core.report.graph_groups import MOST_DEEP, MOST_TOGETHER, Group, groups_of
from mace_core.report.graph_page import write_graph_page
from mace_core.tensor import Tensor

needs_layout = pytest.mark.skipif(
    importlib.util.find_spec("netron") is None, reason="netron, which lays out the graph, is not installed"
)
SUMMARY: dict[str, Any] = {
    "signature": "opset ai.onnx 17",
    "cards": [["2", "nodes"]],
    "problems": [["warning", HOSTILE, "a hint"]],
    "tables": [{"title": "Operators", "columns": ["operator", "#nodes"], "rows": [["Relu", "1"]], "pick": True}],
}


def saved(nodes: list[onnx.NodeProto], out: str, weights: list[onnx.TensorProto] | None = None) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", out)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scoped(stages: int, blocks: int, each: int) -> Graph:
    """Relu and MatMul by a constant in turn, named by scopes ``/stage0/block1/r2``."""
    nodes, last = [], "x"
    for number in range(stages * blocks * each):
        name = f"/stage{number // (blocks * each)}/block{number // each}/r{number}"
        inputs = [last, "w"] if number % 2 else [last]
        nodes.append(helper.make_node("MatMul" if number % 2 else "Relu", inputs, [f"v{number}"], name=name))
        last = f"v{number}"
    weight = numpy_helper.from_array(np.linspace(-1, 2, 16, dtype=np.float32).reshape(4, 4), "w")
    bigger = numpy_helper.from_array(np.concatenate([np.zeros(50), np.arange(50)]).astype(np.float32), "spare")
    return load_model(saved(nodes, last, [weight, bigger]))


def page_of(graph: Graph, path: Path) -> Path:
    write_graph_page(path, graph, resolve(graph, {}).types, HOSTILE, SUMMARY)
    return path


def labels(group: Group) -> list[str]:
    return [member.label for member in group.members if isinstance(member, Group)]


class TestGroups:
    def test_scopes_in_names_are_groups_and_every_node_is_in_one(self) -> None:
        graph = scoped(2, 3, 4)
        root = groups_of(graph)
        assert labels(root) == ["stage0", "stage1"]
        assert labels(root.members[0]) == ["block0", "block1", "block2"]  # type: ignore[arg-type]
        assert root.nodes() == graph.nodes

    def test_modules_of_the_author_come_before_names(self) -> None:
        graph = scoped(1, 2, 4)
        for number, node in enumerate(graph.nodes):
            graph.origins[node.source[0]] = Origin(f"layers.{number // 4}.conv")
        assert labels(groups_of(graph)) == [
            "layers.0 / conv",
            "layers.1 / conv",
        ]  # a single group is the model itself, and is not shown as one
        for node in graph.nodes[:2]:
            graph.origins[node.source[0]] = Origin("stem")
        assert labels(groups_of(graph)) == ["stem", "layers"]

    def test_a_body_of_control_flow_is_a_group_beside_its_node(self) -> None:
        bodies = {}
        for name, op in (("then_branch", "Relu"), ("else_branch", "Abs")):
            inside = [helper.make_node(op, ["x"], [f"{op}_r"]), helper.make_node("Neg", [f"{op}_r"], [f"{op}_s"])]
            result = helper.make_tensor_value_info(f"{op}_s", TensorProto.FLOAT, [4, 4])
            bodies[name] = helper.make_graph(inside, name, [], [result])
        nodes = [
            helper.make_node("ReduceSum", ["x"], ["t"], keepdims=0),
            helper.make_node("Cast", ["t"], ["c"], to=TensorProto.BOOL),
            helper.make_node("If", ["c"], ["y"], name="choice", **bodies),
        ]
        graph = load_model(saved(nodes, "y"))
        whole = next(member for member in groups_of(graph).members if isinstance(member, Group))
        assert (whole.label, sorted(labels(whole))) == ("If choice", ["else_branch", "then_branch"])
        rows = GraphData(graph, {}).rows()
        branch = next(row for row in rows["nodes"] if row[0] == "choice")
        assert len(branch[8]) == 2  # what its bodies give

    def test_names_of_ten_thousand_scopes_are_groups_of_a_few(self, tmp_path: Path) -> None:
        scopes = "/".join("ab" * 5_000)
        graph = load_model(saved([helper.make_node("Relu", ["x"], ["y"], name=f"{scopes}/r")], "y"))
        graph.nodes += [Node("Neg", [], [], name=f"b/n{number}") for number in range(2)]
        assert groups_of(graph).nodes() == graph.nodes
        depth, group = 0, groups_of(graph)
        while isinstance(first := group.members[0], Group):
            depth, group = depth + 1, first
        assert depth <= MOST_DEEP

    @given(st.integers(0, 400))
    def test_a_large_model_without_names_comes_in_pieces(self, count: int) -> None:
        graph = Graph("flat")
        graph.nodes = [Node("Relu", [], [], name=f"n{number}") for number in range(count)]
        root = groups_of(graph)
        assert root.nodes() == graph.nodes
        waiting = [root]
        while waiting:
            group = waiting.pop()
            assert len(group.members) <= max(MOST_TOGETHER, 120 if count <= 120 else 0)
            waiting += [member for member in group.members if isinstance(member, Group)]


class TestStatistics:
    def test_of_numbers(self) -> None:
        found = statistics_of(Tensor.from_numpy(np.concatenate([np.zeros(50), np.arange(50)]).astype(np.float32)))
        assert found is not None
        assert (found["low"], found["high"], found["zeros"], found["bad"]) == (0, 49, 0.51, 0)
        assert found["mean"] == pytest.approx(12.25)
        assert sum(found["counts"]) == 100

    def test_of_what_is_not_finite_of_few_and_of_none(self) -> None:
        array = np.full(30, np.nan, np.float32)
        assert statistics_of(Tensor.from_numpy(array)) == {"of": 30, "bad": 30}
        array[3] = 7
        found = statistics_of(Tensor.from_numpy(array))
        assert found is not None and (found["bad"], found["low"], found["high"]) == (29, 7, 7)
        assert statistics_of(Tensor.from_numpy(np.array([1.5, 2], np.float32))) == {"values": "1.5, 2"}
        assert statistics_of(Tensor.from_numpy(np.empty(0, np.float32))) is None

    @pytest.mark.parametrize(
        ("values", "mean", "deviation", "counts"),
        [
            ([1.7e308], 1.7e308, 0, {12: 32}),
            ([2**63 - 1], 2**63, 0, {12: 32}),
            ([1.7e308, -1.7e308], 0, 1.7e308, {0: 16, 23: 16}),
            ([2**60, 2**60 + 1024], 2**60 + 512, 512, {0: 16, 23: 16}),
            ([0.0, 5e-324], 0, 0, {0: 16, 23: 16}),
            ([0, 1, 24, 12], 9.25, 9.730750227, {0: 8, 1: 8, 12: 8, 23: 8}),
        ],
    )
    def test_of_numbers_at_the_ends_of_their_type(
        self, values: list[Any], mean: float, deviation: float, counts: dict[int, int]
    ) -> None:
        found = statistics_of(Tensor.from_numpy(np.array(values * (32 // len(values)))))
        assert found is not None
        assert (found["mean"], found["deviation"]) == pytest.approx((mean, deviation))
        assert {part: count for part, count in enumerate(found["counts"]) if count} == counts
        json.dumps(found, allow_nan=False)

    def test_small_integers_and_halves(self) -> None:
        import ml_dtypes

        for kind in (ml_dtypes.int4, ml_dtypes.bfloat16, np.bool_):
            found = statistics_of(Tensor.from_numpy(np.ones(40).astype(kind)))
            assert found is not None and (found["low"], found["high"]) == (1, 1)


@needs_layout
class TestPage:
    @pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1500, "light")])
    def test_it_is_whole_offline_in_light_and_dark_small_and_wide(
        self, page: Page, tmp_path: Path, width: int, scheme: str
    ) -> None:
        written = page_of(scoped(2, 2, 3), tmp_path / "m.html")
        page.resize(width, 900)
        page.prefer(scheme)
        page.open(written)
        assert page.problems == []
        assert [url for url in page.requests if not url.startswith("blob:")] == [written.as_uri()]
        assert page.run("document.getElementById('label').textContent").startswith("</script>")
        assert page.run("document.querySelectorAll('img').length") == 0
        assert page.run("document.documentElement.scrollWidth <= innerWidth") is True
        assert page.run("document.documentElement.dataset.boxes") == "14"  # all nodes, an input, an output

    def test_groups_open_and_close_and_a_search_opens_what_it_finds(self, page: Page, tmp_path: Path) -> None:
        page.open(page_of(scoped(5, 6, 20), tmp_path / "m.html"))
        at_first = int(page.run("document.documentElement.dataset.boxes"))
        assert at_first <= 100
        page.run("document.getElementById('collapse').click()")
        page.wait("document.documentElement.dataset.boxes === '7'")  # five stages, an input, an output
        field = "document.getElementById('search')"
        page.run(f"{field}.value = 'r333'; {field}.oninput()")
        assert page.run("document.getElementById('found').textContent") == "1 of 600"
        page.run(f"{field}.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Enter', bubbles: true }}))")
        page.wait("document.__view.boxes.has('n333')")
        shown = page.run("document.getElementById('details').textContent")
        assert "/stage2/block16/r333" in shown and "MatMul" in shown
        assert "-1, -0.8, -0.6" in shown  # the weight that it reads
        page.run("document.getElementById('graph').dispatchEvent(new KeyboardEvent('keydown', { key: 'c' }))")
        page.wait("!document.__view.boxes.has('n333')")

    def test_all_nodes_of_a_thousand_at_once(self, page: Page, tmp_path: Path) -> None:
        page.open(page_of(scoped(5, 10, 20), tmp_path / "m.html"))
        page.run("document.getElementById('expand').click()")
        page.wait("document.documentElement.dataset.boxes === '1002'")
        assert page.problems == []

    def test_keys_go_from_node_to_node(self, page: Page, tmp_path: Path) -> None:
        page.open(page_of(scoped(1, 2, 3), tmp_path / "m.html"))
        for key, expected in (("n", "n0"), ("n", "n1"), ("p", "n0")):
            press = json.dumps({"key": key})
            page.run(f"document.getElementById('graph').dispatchEvent(new KeyboardEvent('keydown', {press}))")
            assert page.run("selection.key") == expected
