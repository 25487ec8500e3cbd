"""Laws of plans of symbolic sizes: planned once, they serve every size that their guards admit.

A model is planned with a symbol for each size of 2 and more, then run with other shapes; `check_other_sizes` compares
each run with a session that is opened for it alone.  Memory is poisoned, so that buffers that overlap, or that are
smaller than what is written to them, show in the results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.graphs import GraphCase, graph_cases
from mace_testing.fuzzing.registry import cases, covered
from mace_testing.fuzzing.sizes import SizeFindings, SymbolicModel, changed_feeds, check_other_sizes, free_dimensions
from mace_testing.fuzzing.stored_sizes import StoredFindings, compare_stored

from mace_core.errors import MaceError
from mace_core.provider.poison import VARIABLE
from mace_core.symbolic import Guard, Trace

MOST_ELEMENTS = 1 << 16

QUICK = (
    *("MatMul", "Add", "Softmax", "Slice", "Concat", "Gather", "ReduceMean", "LayerNormalization", "Attention"),
    "EyeLike",
)
"""The rest takes minutes, and is of the slow tier."""


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "ff")


def other_shapes(feeds: Mapping[str, Array], numbers: Sequence[int]) -> list[dict[str, Array]]:
    """All sizes larger, all doubled, and one by one to some number; equal sizes stay equal."""
    sizes = sorted({size for array in feeds.values() for size in array.shape if size >= 2})
    changes: list[dict[int, int]] = [{size: size + 1 for size in sizes}, {size: 2 * size for size in sizes}]
    changes += [{size: number} for size, number in zip(sizes, numbers, strict=False)]
    found = [changed_feeds(feeds, change) for change in changes]
    return [given for given in found if all(array.size <= MOST_ELEMENTS for array in given.values())]


def examine(case: OpCase, numbers: Sequence[int]) -> SizeFindings:
    case = dataclasses.replace(case, symbolic=True)
    try:
        return check_other_sizes(
            case.model(), case.feeds, other_shapes(case.feeds, numbers), tolerance=case.tolerance, off_by=case.off_by
        )
    except MaceError:
        hypothesis.reject()  # not for this provider, or for nobody


@st.composite
def sized_cases(draw: st.DrawFn, op: str, domain: str = "") -> tuple[OpCase, list[int]]:
    return draw(cases(op, domain)), draw(st.lists(st.integers(1, 40), min_size=3, max_size=3))


def check_operator(op: str, domain: str, examples: int) -> None:
    @hypothesis.settings(max_examples=examples, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(sized_cases(op, domain))
    def probe(drawn: tuple[OpCase, list[int]]) -> None:
        assert not examine(*drawn).faults

    try:
        probe()
    except hypothesis.errors.Unsatisfiable:
        pytest.skip("the provider takes no node of this operator")


@pytest.mark.parametrize("op", QUICK)
def test_any_size_gives_what_a_fresh_session_gives(op: str) -> None:
    check_operator(op, "", 3)


@pytest.mark.full
@pytest.mark.parametrize(("domain", "op"), sorted(covered()))
def test_any_size_of_any_operator_gives_what_a_fresh_session_gives(domain: str, op: str) -> None:
    check_operator(op, domain, 12)


def check_graph(case: GraphCase, numbers: Sequence[int]) -> None:
    assert not check_other_sizes(case.proto, case.feeds, other_shapes(case.feeds, numbers), tolerance=1e-4).faults


@hypothesis.settings(max_examples=4)
@hypothesis.given(graph_cases(), st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_any_size_of_a_random_graph(case: GraphCase, numbers: list[int]) -> None:
    check_graph(case, numbers)


@pytest.mark.full
@hypothesis.settings(max_examples=150)
@hypothesis.given(graph_cases(), st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_any_size_of_many_random_graphs(case: GraphCase, numbers: list[int]) -> None:
    check_graph(case, numbers)


# --- idioms of exporters ----------------------------------------------------------------------------------------------

IDIOMS = {
    "the first rows of a table of positions": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[b, s, 4] x) => (float[p, q, r] y) {
            one = Constant <value_ints = [1]> ()
            two = Constant <value_ints = [2]> ()
            zero = Constant <value_ints = [0]> ()
            shape = Shape (x)
            rows = Slice (shape, one, two, zero)
            positions = Slice (table, zero, rows, zero)
            y = Add (x, positions)
        }""",
    "positions as a range": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[b, s, 4] x) => (float[p, q, r] y, int64[n] z) {
            zero = Constant <value = int64 {0}> ()
            one = Constant <value = int64 {1}> ()
            axis = Constant <value_ints = [1]> ()
            shape = Shape (x)
            rows = Gather (shape, one)
            z = Range (zero, rows, one)
            floats = Cast <to = 1> (z)
            column = Unsqueeze (floats, axis)
            y = Mul (x, column)
        }""",
    "heads split and joined": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[b, s, 8] x) => (float[p, q, r] y) {
            zero = Constant <value = int64 {0}> ()
            one = Constant <value = int64 {1}> ()
            axis = Constant <value_ints = [0]> ()
            heads = Constant <value_ints = [2, 4]> ()
            width = Constant <value_ints = [8]> ()
            shape = Shape (x)
            batch = Gather (shape, zero)
            rows = Gather (shape, one)
            b1 = Unsqueeze (batch, axis)
            s1 = Unsqueeze (rows, axis)
            four = Concat <axis = 0> (b1, s1, heads)
            three = Concat <axis = 0> (b1, s1, width)
            split = Reshape (x, four)
            q = Transpose <perm = [0, 2, 1, 3]> (split)
            k = Transpose <perm = [0, 2, 3, 1]> (split)
            scores = MatMul (q, k)
            weights = Softmax <axis = -1> (scores)
            mixed = MatMul (weights, q)
            back = Transpose <perm = [0, 2, 1, 3]> (mixed)
            y = Reshape (back, three)
        }""",
    "a mask of ones, and where it is not zero": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[b, s] x) => (int64[p, q] y) {
            shape = Shape (x)
            ones = ConstantOfShape <value = int64[1] {1}> (shape)
            y = NonZero (ones)
        }""",
    "expanded and tiled": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[b, 1, 4] x, float[s] z) => (float[p, q, r] y, float[t, u] w) {
            axis = Constant <value_ints = [0]> ()
            four = Constant <value_ints = [4]> ()
            one = Constant <value_ints = [1]> ()
            sx = Shape (x)
            zero = Constant <value = int64 {0}> ()
            batch = Gather (sx, zero)
            b1 = Unsqueeze (batch, axis)
            s1 = Shape (z)
            target = Concat <axis = 0> (b1, s1, four)
            y = Expand (x, target)
            row = Unsqueeze (z, axis)
            repeats = Concat <axis = 0> (b1, one)
            w = Tile (row, repeats)
        }""",
    "the last row": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[b, s, 4] x) => (float[p, q] y, float[t, u, v] z) {
            last = Constant <value = int64 {-1}> ()
            start = Constant <value_ints = [-3]> ()
            end = Constant <value_ints = [9223372036854775807]> ()
            axis = Constant <value_ints = [1]> ()
            y = Gather <axis = 1> (x, last)
            z = Slice (x, start, end, axis)
        }""",
    "half of the rows, rounded up": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[b, s] x) => (float[p, q] y) {
            one = Constant <value_ints = [1]> ()
            two = Constant <value_ints = [2]> ()
            zero = Constant <value_ints = [0]> ()
            shape = Shape (x)
            rows = Slice (shape, one, two, zero)
            floats = Cast <to = 1> (rows)
            factor = Constant <value_floats = [0.5]> ()
            half = Mul (floats, factor)
            up = Ceil (half)
            end = Cast <to = 7> (up)
            y = Slice (x, zero, end, one)
        }""",
    "a causal mask made by comparing positions": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[s, t] x) => (float[p, q] y) {
            zero = Constant <value = int64 {0}> ()
            one = Constant <value = int64 {1}> ()
            column = Constant <value_ints = [1]> ()
            row = Constant <value_ints = [0]> ()
            shape = Shape (x)
            rows = Gather (shape, zero)
            columns = Gather (shape, one)
            i = Range (zero, rows, one)
            j = Range (zero, columns, one)
            ic = Unsqueeze (i, column)
            jr = Unsqueeze (j, row)
            hidden = Greater (jr, ic)
            low = Constant <value = float {-10000.0}> ()
            y = Where (hidden, low, x)
        }""",
}


def idiom(name: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(IDIOMS[name])
    if any("table" in node.input for node in model.graph.node):
        table = np.random.default_rng(1).standard_normal((64, 4)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    return model


def feeds_of(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        value.name: rng.standard_normal(
            [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in model.graph.input
    }


@pytest.mark.parametrize("name", IDIOMS)
def test_an_idiom_needs_one_plan_for_all_sizes(name: str) -> None:
    model = idiom(name)
    first = {"b": 3, "s": 5, "t": 6}
    others = [{"b": 2, "s": 9, "t": 7}, {"b": 7, "s": 31, "t": 40}, {"b": 3, "s": 6, "t": 13}]
    found = check_other_sizes(model, feeds_of(model, first), [feeds_of(model, sizes) for sizes in others], free=False)
    assert not found.faults and not found.unplanned
    assert not found.pins
    assert found.admitted == found.tried == len(others)


# --- what is stored ---------------------------------------------------------------------------------------------------

SIZES = [{"b": 3, "s": 5, "t": 6}, {"b": 2, "s": 9, "t": 7}, {"b": 7, "s": 31, "t": 40}, {"b": 3, "s": 6, "t": 13}]


@pytest.mark.parametrize("name", IDIOMS)
def test_a_stored_idiom_is_what_was_made(name: str) -> None:
    model = idiom(name)
    first, *others = [feeds_of(model, sizes) for sizes in SIZES]
    found = compare_stored(model, first, others, free=False)
    assert not found.faults
    assert found.made and found.restored >= 1


def check_stored_operator(op: str, domain: str, examples: int) -> int:
    """How many plans were restored."""
    restored = 0

    @hypothesis.settings(max_examples=examples, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(sized_cases(op, domain))
    def probe(drawn: tuple[OpCase, list[int]]) -> None:
        nonlocal restored
        case, numbers = drawn
        try:
            found = compare_stored(case.model(), case.feeds, other_shapes(case.feeds, numbers))
        except MaceError:
            hypothesis.reject()  # not for this provider, or for nobody
        assert not found.faults
        restored += found.restored

    try:
        probe()
    except hypothesis.errors.Unsatisfiable:
        pytest.skip("the provider takes no node of this operator")
    return restored


@pytest.mark.parametrize("op", QUICK)
def test_a_stored_operator_is_what_was_made(op: str) -> None:
    assert check_stored_operator(op, "", 2)


@pytest.mark.full
@pytest.mark.parametrize(("domain", "op"), sorted(covered()))
def test_any_stored_operator_is_what_was_made(domain: str, op: str) -> None:
    check_stored_operator(op, domain, 6)


def check_stored_graph(case: GraphCase, numbers: Sequence[int]) -> StoredFindings:
    found = compare_stored(case.proto, case.feeds, other_shapes(case.feeds, numbers))
    assert not found.faults
    return found


@hypothesis.settings(max_examples=4)
@hypothesis.given(graph_cases(), st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_a_stored_random_graph_is_what_was_made(case: GraphCase, numbers: list[int]) -> None:
    check_stored_graph(case, numbers)


@pytest.mark.full
@hypothesis.settings(max_examples=120)
@hypothesis.given(graph_cases(), st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_many_stored_random_graphs_are_what_was_made(case: GraphCase, numbers: list[int]) -> None:
    check_stored_graph(case, numbers)


# --- the judge itself -------------------------------------------------------------------------------------------------


def test_a_guard_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a slice is clamped for fewer than 5 rows: without the guard that says so, results are wrong."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 4] x) => (float[m, k] y) {
            zero = Constant <value_ints = [0]> ()
            five = Constant <value_ints = [5]> ()
            y = Slice (x, zero, five, zero)
        }""")
    feeds, others = feeds_of(model, {"n": 8}), [feeds_of(model, {"n": n}) for n in (9, 3)]
    assert not check_other_sizes(model, feeds, others).faults
    decide = Trace.decide

    def forgetful(trace: Trace, *question: object) -> bool:
        before = set(trace.guards)
        answer = decide(trace, *question)  # type: ignore[arg-type]
        for key in set(trace.guards) - before:
            if is_about_five(trace.guards[key]):
                del trace.guards[key]
        return answer

    def is_about_five(guard: Guard) -> bool:
        return abs(guard.expression.get((), 0)) in (4, 5, 6)

    monkeypatch.setattr(Trace, "decide", forgetful)
    assert check_other_sizes(model, feeds, others).faults


def test_pins_are_counted() -> None:
    """An identity matrix is made while planning, for a number of rows."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, m] x) => (float[p, q] y) { y = MatMul (x, c) }""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "c"))
    with SymbolicModel(free_dimensions(model)) as symbolic:
        symbolic.run(feeds_of(model, {"n": 5, "m": 4}))
        assert len(symbolic.pins) == 1 and symbolic.pins[0].endswith("== 4")


def test_shapes_that_the_model_refuses_do_not_end_symbolic_plans() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, m] x, float[m, k] z) => (float[p, q] y) { y = MatMul (x, z) }""")
    with SymbolicModel(free_dimensions(model)) as symbolic:
        symbolic.run({"x": np.ones((3, 4), np.float32), "z": np.ones((4, 5), np.float32)})
        for rows in (6, 7, 8):
            with pytest.raises(MaceError):
                symbolic.run({"x": np.ones((3, 4), np.float32), "z": np.ones((rows, 5), np.float32)})
        assert symbolic.failures == 0


def test_a_guard_that_is_lost_on_the_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a slice is clamped for fewer than 5 rows: a plan that forgot so in the cache gives wrong results."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        lost (float[n, 4] x) => (float[m, k] y) {
            zero = Constant <value_ints = [0]> ()
            five = Constant <value_ints = [5]> ()
            y = Slice (x, zero, five, zero)
        }""")
    feeds, others = feeds_of(model, {"n": 8}), [feeds_of(model, {"n": n}) for n in (9, 3)]
    assert not compare_stored(model, feeds, others).faults
    restored = Trace.restored

    def forgetful(state: Any) -> Trace:
        kept = tuple(guard for guard in state.guards if not is_about_five(guard))
        return restored(state._replace(guards=kept))

    def is_about_five(guard: Guard) -> bool:
        return abs(guard.expression.get((), 0)) in (4, 5, 6)

    monkeypatch.setattr(Trace, "restored", forgetful)
    found = compare_stored(model, feeds, others)
    assert any(fault.startswith("at {'x': (3, 4)}") for fault in found.faults), found.faults
    assert any(fault.startswith("guards") for fault in found.faults)
