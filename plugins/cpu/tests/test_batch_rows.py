"""Stretches that are computed for one row of the batch after the other."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import mace_cpu.batch.stretches as stretches
import numpy as np
import onnx
import pytest
from harness import FEATURES, Array, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from mace_core import Session
from mace_core.errors import CancelledError
from mace_core.provider.execution import CancelFlag

ROWS = "row by row"


@pytest.fixture(autouse=True)
def _take_whatever_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "LEAST_WINDOWS", 2)
    monkeypatch.setattr(stretches, "LEAST_BATCH_BYTES", 0)
    monkeypatch.setattr(stretches, "FITTING_WEIGHTS", 1 << 30)
    monkeypatch.setattr(stretches, "_pays", lambda view, nodes, batch: _windows(nodes) >= 2)


def _windows(nodes: Any) -> int:
    return sum(node.op_type in stretches.WINDOWS for node in nodes)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op} {outputs}", **attributes)


def network(channels: int) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """A little of everything between two convolutions: a residual, squeeze and excite, parts and their concatenation,
    a shape that is stated, and what two readers need."""
    c = channels
    same = {"pads": [1, 1, 1, 1]}
    weights = {
        "w0": numbers(c, 3, 3, 3, seed=1), "w1": numbers(c, 1, 3, 3, seed=2), "w2": numbers(c, c, 1, 1, seed=3),
        "w3": numbers(c, c, 1, 1, seed=4), "w4": numbers(c, 2 * c, 3, 3, seed=5) / 8, "b": numbers(c, seed=6),
        "like": np.array([0, c, -1], np.int64),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w0 b", "a", strides=[2, 2], **same), node("Relu", "a", "r"),
        node("Conv", "r w1", "d", group=c, **same), node("Add", "d r", "e"),
        node("GlobalAveragePool", "e", "g"), node("Conv", "g w2 b", "h"), node("HardSigmoid", "h", "s"),
        node("Mul", "e s", "m"), node("Conv", "m w3", "p"), node("Clip", "p", "q"),
        node("Concat", "q e", "k", axis=1), node("Conv", "k w4 b", "z", **same), node("Sigmoid", "z", "y"),
        node("MaxPool", "y", "t", kernel_shape=[2, 2]), node("Reshape", "t like", "u"), node("Softmax", "u", "o"),
    ]  # fmt: skip
    return nodes, weights


@pytest.mark.parametrize("features", FEATURES)
@settings(max_examples=3, deadline=None)
@given(st.integers(2, 5), st.integers(1, 3), st.sampled_from([3, 16, 20, 40]), st.integers(5, 14), st.integers(5, 14))
def test_rows_give_what_the_whole_batch_gives(
    features: str, batch: int, threads: int, channels: int, height: int, width: int
) -> None:
    nodes, weights = network(channels)
    given = {"x": numbers(batch, 3, height, width), **weights}
    ran = check_nodes(
        nodes, given, ["o", "y", "m"], constants=list(weights), features=features, threads=threads, tol=1e-4,
        oracle="onnxruntime",
    )  # fmt: skip
    assert any(ROWS in name for name in ran.steps) is stretches.keeps_busy(batch, threads)


@pytest.mark.parametrize(
    ("batch", "threads", "is_busy"),
    [(1, 1, False), (2, 1, True), (1, 2, False), (2, 2, True), (3, 2, True), (2, 3, False), (4, 3, False),
     (8, 8, True), (9, 8, False), (15, 8, True)],
)  # fmt: skip
def test_threads_that_take_whole_rows_have_enough_of_them(batch: int, threads: int, is_busy: bool) -> None:
    assert stretches.keeps_busy(batch, threads) is is_busy


def model(nodes: list[onnx.NodeProto], weights: dict[str, Array], output: str, shape: list[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_is_bit_for_bit_what_it_is_alone_whatever_the_batch(threads: int) -> None:
    """Batches of other sizes share a plan, but for those that are too small for all threads."""
    nodes, weights = network(20)
    x = numbers(7, 3, 12, 10)
    options = {"cpu": {"threads": threads}}
    with Session(
        model(nodes, weights, "y", ["N", 3, 12, 10]), devices=["cpu"], options=options, cache=False
    ) as session:
        alone = np.concatenate([session.run({"x": x[i : i + 1]})["y"] for i in range(7)])
        for batch in (3, 7, 2, 1, 5):
            profile = session.profile({"x": x[:batch]})
            assert np.array_equal(profile.outputs["y"], alone[:batch])
            parts = [part for part in profile.parts if "Conv z" in part.source and part.name.startswith("Conv")]
            if batch > 1:
                assert len(parts) == batch, "a profile has each step of each row"
            spans = [span for span in profile.spans if "Conv z" in span.source and span.name.startswith("Conv")]
            assert len(spans) == 1
            assert all(0 <= span.duration_ns <= profile.duration_ns for span in profile.spans)
            assert sum(span.duration_ns for span in profile.spans) <= profile.duration_ns


SAME = {"pads": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("between", "constants"),
    [
        ([node("Softmax", "a", "b", axis=0)], {}),
        ([node("Transpose", "a", "b", perm=[1, 0, 2, 3])], {}),
        ([node("ReduceMean", "a", "s", axes=[0]), node("Add", "a s", "b")], {}),
        ([node("Mul", "a each", "b")], {"each": numbers(4, 1, 1, 1, seed=7)}),
        ([node("CumSum", "a zero", "b")], {"zero": np.array(0, np.int64)}),
        ([node("Reshape", "a like", "s"), node("Reshape", "s back", "b")],
         {"like": np.array([2, 8, 6, 6], np.int64), "back": np.array([4, 4, 6, 6], np.int64)}),
    ],
)  # fmt: skip
def test_what_mixes_rows_or_has_its_own_for_each_is_left_out(
    between: list[onnx.NodeProto], constants: dict[str, Array]
) -> None:
    weights = {"w": numbers(4, 4, 3, 3), **constants}
    nodes = [node("Conv", "x w", "c", **SAME), node("Conv", "c w", "a", **SAME), *between,
             node("Conv", "b w", "d", **SAME), node("Conv", "d w", "y", **SAME)]  # fmt: skip
    ran = check_nodes(
        nodes, {"x": numbers(4, 4, 6, 6), **weights}, ["y"], 13, constants=list(weights), tol=1e-4, oracle="onnxruntime"
    )
    assert sum(ROWS in name for name in ran.steps) == 2


def test_what_is_computed_in_between_takes_the_memory_of_a_row_for_each_thread() -> None:
    weights = {"w": numbers(16, 16, 1, 1) / 8}
    names = ["x", *(f"v{i}" for i in range(6)), "y"]
    nodes = [node("Conv", f"{a} w", b) for a, b in itertools.pairwise(names)]
    row = 4 * 16 * 32 * 32
    ran = check_nodes(nodes, {"x": numbers(8, 16, 32, 32), **weights}, ["y"], constants=["w"], threads=2, tol=1e-4,
                      oracle="onnxruntime")  # fmt: skip
    assert ran.workspace_bytes < 2 * 3 * row, "layer by layer, two of its values for 8 rows are there at a time"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_is_cancelled_ends_within_a_row(threads: int) -> None:
    weights = {"w": numbers(32, 32, 3, 3) / 16}
    names = ["x", *(f"v{i}" for i in range(40)), "y"]
    nodes = [node("Conv", f"{a} w", b, **SAME) for a, b in itertools.pairwise(names)]
    flag = CancelFlag()
    options = {"cpu": {"threads": threads}}
    with Session(
        model(nodes, weights, "y", [2, 32, 768, 768]), devices=["cpu"], options=options, cache=False
    ) as session:
        set_at: list[float] = []

        def cancel() -> None:
            set_at.append(time.process_time())
            flag.set()

        timer = threading.Timer(0.2, cancel)
        timer.start()
        with pytest.raises(CancelledError):
            session.run({"x": np.zeros((2, 32, 768, 768), np.float32)}, cancel=flag)
        spent = time.process_time() - set_at[0]
        timer.join()
    assert spent < 1.0, "a row takes more than two seconds"
