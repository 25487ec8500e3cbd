"""Which models take several requests in one run: where one does, every request gets what it would get alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.requests.asking import batcher_for
from mace_core.testing.models import PP_OCR_REC, find_packaged_model

Arrays = dict[str, np.ndarray]
OUTCOMES: dict[str, int] = {"batched": 0, "refused": 0}


def model(nodes: list[Any], shapes: dict[str, list[Any]], outputs: list[str], weights: Arrays, **types: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "rows",
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
            for name, shape in shapes.items()
        ],
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return proto.SerializeToString()


def one(op: str, *more: str, **attributes: Any) -> list[Any]:
    return [helper.make_node(op, ["x", *more], ["y"], name="node", **attributes)]


@st.composite
def random_graphs(draw: st.DrawFn) -> bytes:
    """A chain of operators on x (n, s, 4) that move, merge, part and mix axes; 7 stands for n, and 5 for s."""
    nodes: list[Any] = []
    weights: Arrays = {}
    name, shape, made = "x", (7, 5, 4), 0
    earlier = [(name, shape)]

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        nonlocal made
        made += 1
        nodes.append(helper.make_node(op, list(inputs), [f"v{made}"], name=f"{op}_{made}", **attributes))
        return f"v{made}"

    def weight(array: np.ndarray) -> str:
        weights[f"w{len(weights)}"] = array
        return f"w{len(weights) - 1}"

    for _ in range(draw(st.integers(1, 7))):
        rank = len(shape)
        kind = draw(
            st.sampled_from(["unary", "permute", "merge", "part", "soft", "sum", "mul", "join", "slice", "scale"])
        )
        if kind == "unary":
            name = add("Sigmoid", name)
        elif kind == "permute":
            order = draw(st.permutations(range(rank)))
            name, shape = add("Transpose", name, perm=order), tuple(shape[axis] for axis in order)
        elif kind == "merge":
            axis = draw(st.integers(0, rank))
            name, shape = add("Flatten", name, axis=axis), (math.prod(shape[:axis]), math.prod(shape[axis:]))
        elif kind == "part":
            last = draw(st.sampled_from([size for size in (1, 2, 4, 5, 20) if math.prod(shape) % size == 0]))
            target = draw(st.sampled_from([[-1, last], [-1, 1, last]]))
            name = add("Reshape", name, weight(np.array(target)))
            shape = (math.prod(shape) // last, *target[1:])
        elif kind == "soft":
            name = add("Softmax", name, axis=draw(st.integers(0, rank - 1)))
        elif kind == "sum":
            axis = draw(st.integers(0, rank - 1))
            name = add("ReduceSum", name, weight(np.array([axis])), keepdims=1)
            shape = (*shape[:axis], 1, *shape[axis + 1 :])
        elif kind == "mul" and shape[-1] in (1, 2, 4):
            name = add("MatMul", name, weight(np.linspace(-1, 1, shape[-1] * 4, dtype=np.float32).reshape(-1, 4)))
            shape = (*shape[:-1], 4)
        elif kind == "join":
            other = draw(st.sampled_from([each for each in earlier if each[1] == shape] or [(name, shape)]))[0]
            name = add("Add", name, other)
        elif kind == "slice" and shape[-1] > 1:
            name = add("Slice", name, weight(np.array([0])), weight(np.array([1])), weight(np.array([rank - 1])))
            shape = (*shape[:-1], 1)
        elif kind == "scale":
            sizes = add("Shape", name)
            count = add("Gather", sizes, weight(np.array(draw(st.integers(0, rank - 1)))))
            name = add("Mul", name, add("Cast", count, to=TensorProto.FLOAT))
        earlier.append((name, shape))
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    return model(nodes, {"x": ["n", "s", 4]}, ["y"], weights)


def assert_a_batch_equals_single_runs(session: Session, requests: list[Arrays], tolerance: float = 1e-5) -> bool:
    """Whether they could share a run."""
    batcher = batcher_for(session, 16, 0.0)
    assert batcher is not None
    plan = batcher.plan(requests[0])
    if plan is None:
        return False
    rows = [batcher.key(feeds, None)[1] for feeds in requests]
    parts = batcher.parted(session.run(batcher.joined(requests)), rows, plan)
    for feeds, part in zip(requests, parts, strict=True):
        for name, alone in session.run(feeds).items():
            assert part[name].shape == alone.shape, name
            np.testing.assert_allclose(part[name], alone, rtol=tolerance, atol=tolerance, err_msg=name)
    return True


@given(
    graph=random_graphs(),
    length=st.sampled_from([1, 2, 3, 5, 8]),
    rows=st.lists(st.integers(1, 3), min_size=2, max_size=3),
)
def test_where_a_graph_is_said_to_take_batches_a_batch_equals_the_single_runs(
    graph: bytes, length: int, rows: list[int]
) -> None:
    random = np.random.default_rng(0)
    requests = [{"x": random.standard_normal((count, length, 4), np.float32)} for count in rows]
    with Session(graph, devices=["reference"], optimize=False, cache=False) as session:
        try:
            could = assert_a_batch_equals_single_runs(session, requests)
        except UsageError as error:
            assert "cannot be batched" in str(error)
            could = False
    OUTCOMES["batched" if could else "refused"] += 1


def test_the_law_has_seen_both_outcomes() -> None:
    if sum(OUTCOMES.values()) < 10:
        pytest.skip("only with the law above")
    assert min(OUTCOMES.values()) > 0


ALONG_0 = np.array([0])
REFUSED = {
    "softmax over the rows": (one("Softmax", axis=0), {}),
    "norm over the rows": (one("LpNormalization", axis=0), {}),
    "sum over the rows": (one("ReduceSum", "w"), {"w": ALONG_0}),
    "mean over all axes": (one("ReduceMean"), {}),
    "sum along the rows": (one("CumSum", "w"), {"w": np.array(0)}),
    "normalization by the batch": (
        [
            helper.make_node(
                "BatchNormalization", ["x", "w", "v", "v", "w"], ["y", "m", "n"], name="node", training_mode=1
            )
        ],
        {"w": np.ones(4, np.float32), "v": np.zeros(4, np.float32)},
    ),
    "places of what is not zero": (
        [helper.make_node("NonZero", ["x"], ["p"], name="node"), helper.make_node("Cast", ["p"], ["y"], to=1)],
        {},
    ),
    "every second row": (
        one("Slice", "a", "b", "w", "c"),
        {"a": np.array([0]), "b": np.array([99]), "w": ALONG_0, "c": np.array([2])},
    ),
    "the first row": (one("Gather", "w", axis=0), {"w": np.array([0])}),
    "rows in reverse": (
        one("Slice", "a", "b", "w", "a"),
        {"a": np.array([-1]), "b": np.array([-(2**31)]), "w": ALONG_0},
    ),
    "rows times columns": (
        [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), *one("MatMul", "t")],
        {},
    ),
    "rows moved away from the first axis": (one("Transpose", perm=[1, 0]), {}),
    "how many rows there are": (
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "w"], ["c"]),
            helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
            *one("Div", "f"),
        ],
        {"w": ALONG_0},
    ),
    "the same for every request": ([helper.make_node("Neg", ["w"], ["y"], name="node")], {"w": np.ones(3, np.float32)}),
    "rows made one with others": (one("Reshape", "w"), {"w": np.array([2, -1])}),
    "noise": ([helper.make_node("RandomNormalLike", ["x"], ["r"]), *one("Add", "r")], {}),
    "a scale found in all rows": (
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        {},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_mixes_requests_is_refused(case: str) -> None:
    nodes, weights = REFUSED[case]
    with (
        Session(model(nodes, {"x": ["n", 4]}, ["y"], weights), devices=["reference"], cache=False) as session,
        pytest.raises(UsageError, match="cannot be batched"),
    ):
        session.batching()


def test_inputs_without_rows_may_be_shared_and_outputs_may_have_several_rows_each() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["m"]),
        helper.make_node("Reshape", ["m", "pair"], ["y"]),
        helper.make_node("Neg", ["scale"], ["z"]),
    ]
    proto = model(nodes, {"x": ["n", 4], "scale": []}, ["y", "z"], {"pair": np.array([-1, 2])})
    with Session(proto, devices=["reference"], cache=False) as session:
        requests = [{"x": np.full((rows, 4), rows, np.float32), "scale": np.array(2, np.float32)} for rows in (1, 2)]
        assert assert_a_batch_equals_single_runs(session, requests)
        batcher = batcher_for(session, 8, 0.0)
        assert batcher is not None
        other = {**requests[0], "scale": np.array(3, np.float32)}
        assert batcher.key(requests[0], None)[0] == batcher.key(requests[1], None)[0] != batcher.key(other, None)[0]


def test_an_encoder_with_a_mask_takes_batches() -> None:
    random = np.random.default_rng(0)
    with Session(masked_encoder(), devices=["cpu"], cache=False) as session:
        texts = [
            {"x": random.standard_normal((1, 6, 8), np.float32), "mask": np.array([[1] * used + [0] * (6 - used)])}
            for used in (2, 6, 4)
        ]
        assert assert_a_batch_equals_single_runs(session, texts)


@pytest.mark.full
def test_text_recognition_takes_batches() -> None:
    random = np.random.default_rng(0)
    with Session(str(find_packaged_model(*PP_OCR_REC)), devices=["cpu"]) as session:
        lines = [{"x": random.uniform(-1, 1, (1, 3, 48, 80)).astype(np.float32)} for _ in range(3)]
        assert assert_a_batch_equals_single_runs(session, lines, 2e-4)


def masked_encoder() -> bytes:
    """One block of attention over (batch, sequence, 8), two heads, with the sizes read from the input."""
    random = np.random.default_rng(3)
    weights = {f"w{at}": random.standard_normal((8, 8)).astype(np.float32) / 3 for at in range(4)}
    weights |= {"zero": np.array([0]), "one": np.array([1]), "split": np.array([2, 4]), "ones": np.array([1, 2])}
    weights |= {"big": np.array(-1e4, np.float32), "unit": np.array(1, np.float32), "join": np.array([8])}
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["batch"]),
        helper.make_node("Gather", ["sizes", "one"], ["length"]),
        helper.make_node("Concat", ["batch", "length", "split"], ["heads"], axis=0),
        helper.make_node("Concat", ["batch", "length", "join"], ["whole"], axis=0),
        helper.make_node("Cast", ["mask"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "ones"], ["wide"]),
        helper.make_node("Sub", ["unit", "wide"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "big"], ["bias"]),
    ]
    for at, (letter, order) in enumerate((("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))):
        nodes += [
            helper.make_node("MatMul", ["x", f"w{at}"], [f"{letter}1"]),
            helper.make_node("Reshape", [f"{letter}1", "heads"], [f"{letter}2"]),
            helper.make_node("Transpose", [f"{letter}2"], [letter], perm=order),
        ]
    nodes += [
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["soft"], axis=-1),
        helper.make_node("MatMul", ["soft", "v"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["back", "whole"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w3"], ["y"]),
    ]
    shapes = {"x": ["batch", "sequence", 8], "mask": ["batch", "sequence"]}
    return model(nodes, shapes, ["y"], weights, mask=TensorProto.INT64)
