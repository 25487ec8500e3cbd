"""Inputs that another thread changes while a run reads them: one content counts, and only the run's memory is touched.

The feeds belong to the caller.  What decides shapes, room and tables of kernels is copied once, before it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

import mace_core as mace
from mace_core.errors import MaceError
from mace_core.scheduler.running import runner

Array = npt.NDArray[Any]

X = np.arange(1, 25, dtype=np.float32).reshape(4, 6)
ROUNDS = 300


@pytest.fixture
def own_cache() -> Iterator[None]:
    """None of its own: kernels that are built already serve."""
    yield None


def model(op: str, inputs: dict[str, Array | None], outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    """One node over inputs of these types, the names of absent ones empty; of free sizes."""
    given = {name: array for name, array in inputs.items() if array is not None}
    node = helper.make_node(
        op, [name if name in given else "" for name in inputs], [f"y{i}" for i in range(outputs)], **attributes
    )
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
    infos = [
        helper.make_tensor_value_info(name, types[name], [f"{name}{axis}" for axis in range(array.ndim)])
        for name, array in given.items()
    ]
    results = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "changing", infos, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


# operator, attributes, further inputs, the input that decides shapes, what it is at first, what it becomes
CASES: list[tuple[str, dict[str, Any], dict[str, Array | None], str, Array, Array]] = [
    ("Pad", {}, {}, "pads", ints(1, 0, 0, 1), ints(70, 60, 50, 40)),
    ("Reshape", {}, {}, "shape", ints(8, 3), ints(2, 12)),
    ("Expand", {}, {}, "shape", ints(2, 4, 6), ints(50, 4, 6)),
    ("Tile", {}, {}, "repeats", ints(1, 2), ints(40, 30)),
    ("TopK", {}, {}, "k", ints(1), ints(6)),
    ("Slice", {}, {"starts": ints(0), "ends": ints(4)}, "axes", ints(1), ints(0)),
    ("Slice", {}, {"starts": ints(1)}, "ends", ints(2), ints(4)),
    ("Resize", {}, {"roi": None, "scales": None}, "sizes", ints(3, 3), ints(60, 60)),
    ("Resize", {}, {"roi": None}, "scales", np.float32([1, 1]), np.float32([9, 9])),
    ("CenterCropPad", {}, {}, "shape", ints(2, 2), ints(90, 90)),
    ("Unsqueeze", {}, {}, "axes", ints(0), ints(2)),
    ("ReduceSum", {}, {}, "axes", ints(0), ints(1)),
    ("OneHot", {"axis": -1}, {}, "depth", ints(2), ints(90)),
    ("Split", {}, {}, "split", ints(1, 3), ints(3, 1)),
]


def case_model(op: str, attributes: dict[str, Any], inputs: dict[str, Array | None]) -> onnx.ModelProto:
    return model(op, inputs, outputs={"Split": 2, "TopK": 2}.get(op, 1), **attributes)


def feeds_of(op: str, further: dict[str, Array | None], name: str, content: Array) -> dict[str, Array | None]:
    first = {"x": ints(0, 1, 0) if op == "OneHot" else X}
    last = {"values": np.float32([0, 1])} if op == "OneHot" else {}
    return {**first, **further, name: content.copy(), **last}


@pytest.mark.parametrize("moment", ["after the key", "after the shapes", "while compiling", "before the run"])
@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{case[3]}" for case in CASES])
def test_contents_that_decide_shapes_count_as_they_were_at_first(
    case: tuple[str, dict[str, Any], dict[str, Array | None], str, Array, Array],
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    op, attributes, further, name, content, other = case
    feeds = {n: a for n, a in feeds_of(op, further, name, content).items() if a is not None}
    built = case_model(op, attributes, feeds_of(op, further, name, content))
    with mace.Session(built, devices=["cpu"], cache=False) as quiet:
        expected = {n: a.copy() for n, a in quiet.run(feeds).items()}
        expected_of_other = quiet.run({**feeds, name: other})

    def change() -> None:
        feeds[name][...] = other

    with mace.Session(built, devices=["cpu"], cache=False) as session:
        _change_at(session, moment, change, monkeypatch)
        found = session.run(feeds)
        monkeypatch.undo()
        assert np.array_equal(feeds[name], other), "the test changed nothing"
        _assert_same(found, expected)
        # the plan is kept under the content that it was made for
        _assert_same(session.run({**feeds, name: content}), expected)
        _assert_same(session.run(feeds), expected_of_other)


def _change_at(session: mace.Session, moment: str, change: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``change`` happen at a moment of the next run."""
    planner = session._planner

    def after(function: Callable[..., Any], *, if_decided: bool = False) -> Callable[..., Any]:
        def changing(*args: Any) -> Any:
            found = function(*args)
            decided = args[3] if len(args) > 3 else args[-1]  # contents: of `make`, of `resolve`
            if not if_decided or decided:
                change()
            return found

        return changing

    match moment:
        case "after the key":
            monkeypatch.setattr(runner.GraphRunner, "plan_for", _between(change))
        case "after the shapes":
            monkeypatch.setattr(planner, "resolve", after(planner.resolve, if_decided=True))
        case "while compiling":
            monkeypatch.setattr(planner, "compile_with", after(planner.compile_with))
        case "before the run":
            monkeypatch.setattr(runner.GraphRunner, "make", after(runner.GraphRunner.make, if_decided=True))


def _between(change: Callable[[], None]) -> Callable[..., Any]:
    """`plan_for` with a change between the key and everything that it is the key of."""

    def plan_for(self: runner.GraphRunner, values: Any) -> Any:
        key = self.key_of(values)
        if self._contents:
            change()
        plan = self.find(key)
        return plan if plan is not None else self.make(key, self.types_of(values), self._decided(values))

    return plan_for


def _assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{case[3]}" for case in CASES])
def test_contents_that_vary_have_a_plan_of_symbolic_sizes(
    case: tuple[str, dict[str, Any], dict[str, Array | None], str, Array, Array], caplog: pytest.LogCaptureFixture
) -> None:
    """Or one that holds for the content at hand: no lowering and no inference may fail on a symbol."""
    op, attributes, further, name, content, other = case
    feeds = {n: a for n, a in feeds_of(op, further, name, content).items() if a is not None}
    built = case_model(op, attributes, feeds_of(op, further, name, content))
    caplog.set_level("INFO", "mace")
    with mace.Session(built, devices=["cpu"], cache=False) as session:
        session.run(feeds)
        session.run({**feeds, name: other})
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if "no plan of symbolic sizes" in text or "defect" in text] == []


def test_a_plan_does_not_refer_to_the_callers_memory() -> None:
    pads = ints(1, 1, 1, 1)
    with mace.Session(model("Pad", {"x": X, "pads": pads}), devices=["cpu"], cache=False) as session:
        expected = session.run({"x": X, "pads": pads})["y0"]
        pads[:] = 0
        np.testing.assert_array_equal(session.run({"x": X, "pads": ints(1, 1, 1, 1)})["y0"], expected)


# operator, attributes, further inputs, the input that changes, its two contents; none of them are constants for a plan
MOVING: list[tuple[str, dict[str, Any], dict[str, Array | None], str, Array, Array]] = [
    ("Compress", {"axis": 0}, {}, "condition", np.zeros(4096, bool), np.ones(4096, bool)),
    ("NonZero", {}, {}, "x", np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)),
    ("Unique", {}, {}, "x", np.zeros(4096, np.float32), np.arange(4096, dtype=np.float32)),
    ("Gather", {"axis": 0}, {}, "indices", np.zeros(4096, np.int64), np.full(4096, 2**40)),
    ("GatherElements", {"axis": 0}, {}, "indices", np.zeros((4096, 4), np.int64), np.full((4096, 4), -(2**40))),
    ("GatherND", {}, {}, "indices", np.zeros((4096, 2), np.int64), np.full((4096, 2), 2**40)),
    ("ScatterND", {}, {}, "indices", np.zeros((4096, 2), np.int64), np.full((4096, 2), 2**40)),
    ("ScatterElements", {"axis": 0}, {}, "indices", np.zeros((4096, 4), np.int64), np.full((4096, 4), 2**40)),
    ("ReverseSequence", {}, {}, "sequence_lens", ints(*[1] * 4), ints(*[2**40] * 4)),
    (
        "MaxUnpool",
        {"kernel_shape": [2, 2]},
        {},
        "indices",
        np.zeros((1, 1, 64, 64), np.int64),
        np.full((1, 1, 64, 64), 2**40),
    ),
]


@pytest.mark.parametrize("case", MOVING, ids=[case[0] for case in MOVING])
def test_indices_and_counts_that_change_during_a_run_lead_nowhere(case: tuple[Any, ...]) -> None:
    """A result of one content, the other or both, or the error of a wrong index; nothing outside is read or written."""
    op, attributes, _, name, content, other = case
    rows = np.random.default_rng(0).random((4096, 4)).astype(np.float32)
    square = np.ones((1, 1, 64, 64), np.float32)
    first = {"MaxUnpool": square, "ReverseSequence": rows}.get(op, rows)
    moving = content.copy()
    feeds: dict[str, Array] = {name: moving} if name == "x" else {"x": first, name: moving}
    if op in ("ScatterND", "ScatterElements"):
        feeds["updates"] = np.ones(4096 if op == "ScatterND" else (4096, 4), np.float32)
    stop = threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            moving[...] = other
            moving[...] = content

    with mace.Session(model(op, dict(feeds), **attributes), devices=["cpu"], cache=False) as session:
        expected = session.run({**feeds, name: content})["y0"]
        thread = threading.Thread(target=flicker)
        thread.start()
        try:
            for _ in range(ROUNDS):
                try:
                    found = session.run(feeds)["y0"]
                except MaceError as error:
                    assert "holds" in str(error), error
                else:
                    assert found.ndim == expected.ndim
        finally:
            stop.set()
            thread.join()
        np.testing.assert_array_equal(session.run({**feeds, name: content.copy()})["y0"], expected)


def test_results_whose_size_the_run_decides_are_whole_when_the_input_changes() -> None:
    """Compress goes by one condition: each kept row is kept in every outer position, whatever happens meanwhile."""
    outer, entries = 64, 512
    x = np.broadcast_to(np.arange(1, entries + 1, dtype=np.float32), (outer, entries)).copy()
    condition = np.zeros(entries, bool)
    stop = threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            condition[::2] ^= True
            condition[1::2] ^= True

    built = model("Compress", {"x": x, "condition": condition}, axis=1)
    with mace.Session(built, devices=["cpu"], cache=False) as session:
        thread = threading.Thread(target=flicker)
        thread.start()
        try:
            for _ in range(ROUNDS):
                found = session.run({"x": x, "condition": condition})["y0"]
                assert (found == found[0]).all() and (np.diff(found[0]) > 0).all()
        finally:
            stop.set()
            thread.join()


def test_another_shape_given_to_a_fed_array_meanwhile_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The array object is the caller's too: its shape is read once."""
    x = X.copy()
    built = model("Softmax", {"x": x}, axis=1)
    with mace.Session(built, devices=["cpu"], cache=False) as session:
        expected = session.run({"x": x})["y0"]
        session._runner.drop_plans()
        key_of = runner.GraphRunner.key_of

        def changing(self: runner.GraphRunner, values: Any) -> Any:
            found = key_of(self, values)
            x.shape = (6, 4)
            return found

        monkeypatch.setattr(runner.GraphRunner, "key_of", changing)
        np.testing.assert_array_equal(session.run({"x": x})["y0"], expected)
        monkeypatch.undo()
        assert x.shape == (6, 4)
        np.testing.assert_array_equal(session.run({"x": x.reshape(4, 6)})["y0"], expected)
