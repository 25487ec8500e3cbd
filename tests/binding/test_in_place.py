"""A cache that grows is computed in its own memory, whoever reads it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bound_cases import CLOSE, Array, Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mace_core import Session
from mace_core.errors import MaceError


@pytest.mark.parametrize("name", ["decoder", "merged", "grouped", "masked"])
def test_caches_grow_in_place(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    random = np.random.default_rng(0)
    growing = {output for output in case.pairs.values() if "cross" not in output}
    with case.session.bind(case.pairs, case.start, capacity=64) as bound:
        for past in range(8):
            bound.run(case.feeds(past, 1, random))
            if past or name in ("decoder", "masked"):  # the others take no cache in the first run
                assert bound.in_place == growing
        assert bound.lengths == dict.fromkeys(growing, 8)


def test_nothing_as_large_as_the_cache_is_allocated(cases: dict[str, Case]) -> None:
    case, entries = cases["decoder"], 1500
    start = {name: np.ones((1, 4, entries, 32), np.float32) for name in case.pairs}
    cache_bytes = sum(array.nbytes for array in start.values())
    with case.session.bind(case.pairs, start, capacity=2000) as bound:
        bound.run({"ids": np.array([[1]])})
        bound.run({"ids": np.array([[2]])})
        room = bound._states[0].room
        peaks = []
        tracemalloc.start()
        try:
            for token in range(20):
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                bound.run({"ids": np.array([[token]])})
                peaks.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
        assert room is not None and bound._states[0].room is room
    assert np.median(peaks) < cache_bytes / 40  # of all runs but those few that enlarge the arena


def test_what_is_before_the_new_entries_is_not_written_to(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    random = np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start, capacity=32) as bound:
        for past in range(6):
            bound.run(case.feeds(past, 1, random))
        states = {state.output: state for state in bound._states}
        before = {name: state.room.part((1, 4, 32, 32)).copy() for name, state in states.items() if state.room}
        bound.run(case.feeds(6, 1, random))
        for name, old in before.items():
            now = states[name].room.part((1, 4, 32, 32))  # type: ignore[union-attr]
            changed = np.flatnonzero((now.view(np.int32) != old.view(np.int32)).any(axis=(0, 1, 3)))
            assert changed.tolist() == [6]


def test_room_is_doubled(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    random = np.random.default_rng(0)
    rooms = set()
    with case.session.bind(case.pairs, case.start, capacity=2) as bound:
        for past in range(40):
            bound.run(case.feeds(past, 1, random))
            rooms.add(bound._states[0].room.capacity)  # type: ignore[union-attr]
    assert rooms == {2, 4, 8, 16, 32, 64}


def test_no_step_of_a_token_moves_the_cache(cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in elements: what steps that only move elements do for a token after many."""
    from mace_cpu.backend import CpuBackend

    from mace_core.symbolic import hint

    lowered: list[Any] = []
    lower = CpuBackend._lower

    def noted(self: CpuBackend, view: Any) -> Any:
        program = lower(self, view)
        if view.in_place:
            lowered.append(program)
        return program

    monkeypatch.setattr(CpuBackend, "_lower", noted)
    for name in ("decoder", "grouped"):
        case, random, entries = cases[name], np.random.default_rng(0), 900
        start = {
            source: np.ones((*array.shape[:2], entries, array.shape[3]), np.float32)
            for source, array in case.start.items()
        }
        lowered.clear()
        with (
            Session(case.path, devices=["cpu"], cache=False) as session,
            session.bind(case.pairs, start, capacity=1000) as bound,
        ):
            for past in range(entries, entries + 4):
                bound.run(case.feeds(past, 1, random))
            assert bound.in_place == set(case.pairs.values())
        assert lowered
        movers = ("strided_rows", "copy_bytes", "tiled_transpose", "pack_panels")
        for program in lowered:
            moved = sum(hint(step.work) for step in program.steps.emitted if step.kernel.symbol.startswith(movers))
            assert moved < entries


@pytest.mark.parametrize("name", ["masked", "ScatterND"])
def test_plans_that_an_earlier_process_stored_do_the_same(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    restored, results = [], []
    for _ in range(2):
        random = np.random.default_rng(0)
        with Session(case.path, devices=["cpu"], strict=True) as session, session.bind(case.pairs, case.start) as bound:
            for past in range(0, 12, 2):
                results.append(next(iter(bound.run(case.feeds(past, 2, random)).values())))
            assert bound.in_place == set(case.pairs.values())
            if not case.grows:
                before, feeds = bound.read("next"), case.feeds(3, 2, random)
                feeds["at"][0, 1, 1] = 99
                with pytest.raises(MaceError, match="99"):
                    bound.run(feeds)
                np.testing.assert_array_equal(bound.read("next"), before)
            restored.append([one.restored for one in session._model.preparations])
    assert all(restored[1])
    np.testing.assert_array_equal(results[:6], results[6:])


TYPES = ("FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "INT64", "BOOL", "COMPLEX128", "INT4", "STRING")


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", TYPES)
def test_any_element_type_along_any_axis(kind: str, axis: int, tmp_path: Path) -> None:
    """What holds less than a byte, and strings, are handed over."""
    dtype = getattr(onnx.TensorProto, kind)
    value = onnx.helper.make_tensor_value_info

    def shape(name: str) -> list[int | str]:
        found: list[int | str] = [2, 3, 4]
        found[axis] = name
        return found

    nodes = [
        onnx.helper.make_node("Concat", ["past", "x"], ["present"], axis=axis),
        onnx.helper.make_node("Transpose", ["present"], ["y"], perm=[2, 0, 1]),
    ]
    inputs, outputs = (
        [value("past", dtype, shape("p")), value("x", dtype, shape("n"))],
        [value("present", dtype, shape("t"))],
    )
    outputs.append(value("y", dtype, None))
    graph = onnx.helper.make_graph(nodes, "types", inputs, outputs)
    path = tmp_path / "types.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), path)
    random = np.random.default_rng(0)
    with Session(path, devices=["cpu"], cache=False) as session, session.bind({"past": "present"}, capacity=3) as bound:
        element = session.inputs[0].dtype
        whole: Array | None = None
        for count in (2, 1, 1, 3):
            size = [2, 3, 4]
            size[axis] = count
            x = (
                random.integers(0, 2, size).astype(object).astype(str)
                if kind == "STRING"
                else random.integers(0, 2, size)
            )
            x = x.astype(object if kind == "STRING" else element)
            whole = x if whole is None else np.concatenate([whole, x], axis)
            found = bound.run({"x": x})["y"]
            np.testing.assert_array_equal(found, whole.transpose(2, 0, 1))
            np.testing.assert_array_equal(bound.read("present"), whole)
        assert bool(bound.in_place) is (kind not in ("INT4", "STRING"))


READERS: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {
    "Relu": ("Relu", (), {}),
    "Softmax": ("Softmax", (), {"axis": 2}),
    "ReduceMean": ("ReduceMean", ("axis_2",), {}),
    "ArgMax": ("ArgMax", (), {"axis": 2}),
    "Slice": ("Slice", ("minus_2", "largest", "axis_2"), {}),
    "Slice backwards": ("Slice", ("minus_1", "smallest", "axis_2", "minus_1"), {}),
    "Gather": ("Gather", ("minus_1",), {"axis": 2}),
    "Reshape": ("Reshape", ("flat",), {}),
    "Transpose": ("Transpose", (), {"perm": [2, 0, 3, 1]}),
    "MatMul": ("MatMul", ("square",), {}),
    "MatMul transposed": ("MatMul", ("square",), {}),
    "Add": ("Add", ("row",), {}),
    "Concat": ("Concat", ("self",), {"axis": 1}),
    "Concat along": ("Concat", ("self",), {"axis": 2}),
    "Split": ("Split", (), {"axis": 1, "num_outputs": 2}),
    "CumSum": ("CumSum", ("axis_2s",), {}),
    "Tile": ("Tile", ("repeats",), {}),
    "Cast": ("Cast", (), {"to": onnx.TensorProto.INT32}),
    "LayerNormalization": ("LayerNormalization", ("scale",), {}),
    "TopK": ("TopK", ("one",), {"axis": 2}),
    "Identity": ("Identity", (), {}),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    after=st.lists(st.sampled_from(sorted(READERS)), min_size=1, max_size=3),
    before=st.lists(st.sampled_from(sorted(READERS)), max_size=1),
    counts=st.lists(st.sampled_from([1, 1, 2, 3]), min_size=4, max_size=7),
    capacity=st.sampled_from([1, 4, 64]),
)
def test_whoever_reads_a_cache_with_gaps(
    after: list[str], before: list[str], counts: list[int], capacity: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Readers of the output, and of the input, take gaps or get a dense copy."""
    contents = {
        "axis_2": [2],
        "minus_1": [-1],
        "minus_2": [-2],
        "largest": [2**60],
        "smallest": [-(2**60)],
        "one": [1],
        "flat": [0, -1],
        "repeats": [1, 2, 1, 1],
        "axis_2s": 2,
    }
    weights: dict[str, Array] = {name: np.array(content) for name, content in contents.items()}
    random = np.random.default_rng(0)
    for name, shape in (("square", (8, 8)), ("row", (8,)), ("scale", (8,))):
        weights[name] = random.standard_normal(shape).astype(np.float32)
    nodes = [onnx.helper.make_node("Concat", ["past", "x"], ["present"], axis=2)]
    outputs = []
    for source, readers in (("past", before), ("present", after)):
        for place, reader in enumerate(readers):
            op_type, others, attributes = READERS[reader]
            read, name = source, f"{source}_{place}"
            if reader == "MatMul transposed":
                nodes.append(onnx.helper.make_node("Transpose", [source], [f"{name}_t"], perm=[0, 2, 1, 3]))
                read = f"{name}_t"
            ins = [read if other == "self" else other for other in others]
            made = [name, f"{name}_b"] if op_type in ("Split", "TopK") else [name]
            nodes.append(onnx.helper.make_node(op_type, [read, *ins], made, **attributes))
            kind = {"ArgMax": onnx.TensorProto.INT64, "Cast": onnx.TensorProto.INT32}.get(
                op_type, onnx.TensorProto.FLOAT
            )
            outputs.append(onnx.helper.make_tensor_value_info(name, kind, None))
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2, length, 8])
        for name, length in (("past", "p"), ("x", "n"))
    ]
    present = onnx.helper.make_tensor_value_info("present", onnx.TensorProto.FLOAT, [2, 2, "t", 8])
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "readers", inputs, [*outputs, present], constants)
    path = tmp_path_factory.mktemp("readers") / "readers.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), path)
    past = random.standard_normal((2, 2, 3, 8)).astype(np.float32)
    with (
        Session(path, devices=["cpu"], cache=False) as session,
        session.bind({"past": "present"}, {"past": past}, capacity=capacity) as bound,
    ):
        for count in counts:
            x = random.standard_normal((2, 2, count, 8)).astype(np.float32)
            expected = session.run({"past": past, "x": x})
            past = expected.pop("present")
            found = bound.run({"x": x})
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array, err_msg=f"{name}: {before} {after}")
            np.testing.assert_array_equal(bound.read("present"), past)


def test_a_device_that_takes_no_offer_is_handed_the_state(cases: dict[str, Case]) -> None:
    for name in ("decoder", "masked"):
        case = cases[name]
        random = np.random.default_rng(0)
        with (
            Session(case.path, devices=["reference"], cache=False) as session,
            session.bind(case.pairs, case.start) as bound,
            case.session.bind(case.pairs, case.start) as ours,
        ):
            for past in range(4):
                feeds = case.feeds(past, 1, random)
                for output, array in ours.run(feeds).items():
                    np.testing.assert_allclose(bound.run(feeds)[output], array, **CLOSE)
                assert not bound.in_place
            for output in case.pairs.values():
                np.testing.assert_allclose(bound.read(output), ours.read(output), **CLOSE)
