"""Laws of padding: for random graphs, and sizes in any order, a device with buckets gives what it gives without.

The graphs mix operators that treat the rows apart with some that do not; where the latter stand in the way nothing is
padded, and the results are right all the same.  Memory is poisoned, so that positions that nobody wrote would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from scheduler_models import constant, model, op, tensor
from scheduler_stand_ins import StandInBackend, StandInProvider, make_provider, registry_of

from mace_core.operators import registry as operators
from mace_core.operators.independence import same_axes
from mace_core.provider import Buckets
from mace_core.provider.poison import VARIABLE
from mace_core.session import Session
from mace_core.tensor import MemoryKind

WIDTH = 4
SETTINGS = hypothesis.settings(max_examples=40, deadline=None)

Nodes = list[onnx.NodeProto]
Make = Callable[[str, str, str], Nodes]
"""Nodes from two values (n, 4) to one of the same shape."""


def one(op_type: str, *more: str, **attributes: Any) -> Make:
    return lambda a, b, y: [op(op_type, [a, *more], [y], **attributes)]


def two(op_type: str, **attributes: Any) -> Make:
    return lambda a, b, y: [op(op_type, [a, b], [y], **attributes)]


def chained(*steps: tuple[str, list[str], dict[str, Any]]) -> Make:
    """Nodes one after another; "a" and "b" are the values given, "-" is the result of the node before."""

    def make(a: str, b: str, y: str) -> Nodes:
        found: Nodes = []
        names = {"a": a, "b": b}
        for number, (op_type, inputs, attributes) in enumerate(steps):
            result = y if number == len(steps) - 1 else f"{y}_{number}"
            found.append(op(op_type, [names.get(name, name) for name in inputs], [result], **attributes))
            names["-"] = names[f"-{number}"] = result
        return found

    return make


APART: dict[str, Make] = {
    "Neg": one("Neg"),
    "Tanh": one("Tanh"),
    "Add": two("Add"),
    "Max": two("Max"),
    "bias": one("Add", "bias"),
    "MatMul": one("MatMul", "square"),
    "Gemm": one("Gemm", "square", "bias", transB=1),
    "Softmax": one("Softmax", axis=-1),
    "LayerNormalization": one("LayerNormalization", "bias", axis=-1),
    "CumSum": one("CumSum", "one"),
    "Gather columns": one("Gather", "columns", axis=1),
    "reduced": chained(("ReduceSum", ["a", "ones"], {"keepdims": 1}), ("Mul", ["-", "b"], {})),
    "squeezed": chained(
        ("ReduceMax", ["a"], {"axes": [1], "keepdims": 0}),
        ("Unsqueeze", ["-", "ones"], {}),
        ("Sub", ["b", "-"], {}),
    ),
    "transposed": chained(("Transpose", ["a"], {}), ("Softmax", ["-"], {"axis": 0}), ("Transpose", ["-"], {})),
    "reshaped": chained(("Reshape", ["a", "halves"], {}), ("Relu", ["-"], {}), ("Reshape", ["-", "whole"], {})),
    "restated": chained(
        ("Shape", ["a"], {}),
        ("Gather", ["-", "first"], {}),
        ("Concat", ["-", "pair"], {"axis": 0}),
        ("Reshape", ["a", "-"], {}),
        ("ReduceSum", ["-", "ones"], {"keepdims": 1}),
        ("Expand", ["-", "pair"], {}),
        ("Reshape", ["-", "whole"], {}),
    ),
    "split": chained(("Concat", ["a", "b"], {"axis": 1}), ("Slice", ["-", "first", "last", "ones"], {})),
    "looked up": chained(("ArgMax", ["a"], {"axis": 1, "keepdims": 0}), ("Gather", ["square", "-"], {"axis": 0})),
}
MIXED: dict[str, Make] = {
    "Softmax of rows": one("Softmax", axis=0),
    "running sum": one("CumSum", "zero"),
    "running sum from the end": one("CumSum", "zero", reverse=1),
    "scores": chained(
        ("Transpose", ["b"], {}),
        ("MatMul", ["a", "-"], {}),
        ("Relu", ["-"], {}),
        ("Slice", ["-", "first", "ones", "ones"], {}),
        ("Mul", ["-", "a"], {}),
    ),
    "last row": chained(("Gather", ["a", "final"], {"axis": 0}), ("Add", ["-", "b"], {})),
    "mean": chained(("ReduceMean", ["a"], {"axes": [0], "keepdims": 1}), ("Sub", ["b", "-"], {})),
    "attention": chained(
        ("Transpose", ["b"], {}),
        ("MatMul", ["a", "-"], {}),
        ("Softmax", ["-"], {"axis": -1}),
        ("MatMul", ["-", "b"], {}),
    ),
}
PARTLY = ("last row", "mean", "attention", "scores")
"""One of the two values is padded, and the other is not."""

ALL = {**APART, **MIXED}

CONSTANTS = [
    constant("bias", np.array([0.5, -1, 2, 0.25], np.float32)),
    constant("square", np.random.default_rng(3).uniform(-1, 1, (WIDTH, WIDTH)).astype(np.float32)),
    constant("columns", np.array([3, 2, 1, 0], np.int64)),
    constant("one", np.array(1, np.int64)),
    constant("zero", np.array(0, np.int64)),
    constant("ones", np.array([1], np.int64)),
    constant("first", np.array([0], np.int64)),
    constant("last", np.array([WIDTH], np.int64)),
    constant("final", np.array([-1], np.int64)),
    constant("halves", np.array([0, 2, 2], np.int64)),
    constant("whole", np.array([0, WIDTH], np.int64)),
    constant("pair", np.array([2, 2], np.int64)),
]


def graph(makers: list[Make], reads: list[tuple[int, int]], outputs: list[int]) -> onnx.ModelProto:
    """Each maker reads two of the values before it; ``outputs`` are some of the values, the last one too."""
    values = ["x0", "x1"]
    nodes: Nodes = []
    for number, (make, (a, b)) in enumerate(zip(makers, reads, strict=True)):
        nodes += make(values[a % len(values)], values[b % len(values)], f"v{number}")
        values.append(f"v{number}")
    wanted = dict.fromkeys([values[-1], *(values[2 + i % len(makers)] for i in outputs)])
    feeds = [tensor("x0", ["n", WIDTH]), tensor("x1", ["n", WIDTH])]
    return model(nodes, feeds, [tensor(name, ["n", WIDTH]) for name in wanted], CONSTANTS)


def feeds_of(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    return {name: rng.uniform(-1, 1, (count, WIDTH)).astype(np.float32) for name in ("x0", "x1")}


@contextmanager
def opened(whole: onnx.ModelProto, provider: type[StandInProvider], **arguments: Any) -> Iterator[Session]:
    with Session(whole, devices=[provider.name], registry=registry_of(provider), cache=False, **arguments) as session:
        yield session


def compare(whole: onnx.ModelProto, provider: type[StandInProvider], sizes: list[int]) -> None:
    """Run all sizes in one session of a device with buckets, and each beside it without."""
    exact = make_provider("exact")
    with opened(whole, provider, max_signatures=2) as padded, opened(whole, exact, max_signatures=2) as plain:
        for count in sizes:
            found, wanted = padded.run(feeds_of(count)), plain.run(feeds_of(count))
            for name, array in wanted.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=f"{name} of {count} rows")
            assert provider.opened[0].executions <= 2 * 2 * len(whole.graph.node)
    assert provider.opened[0].compiled_alive == provider.opened[0].executions == 0


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "ff")


@pytest.fixture(autouse=True)
def declares_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stand-ins, only the one called "exact" declares none."""
    declared = Buckets((1, 2, 4, 8, 16, 32), most_compiled=3)
    found = property(lambda self: None if self.device.provider == "exact" else declared)
    monkeypatch.setattr(StandInBackend, "buckets", found)


@pytest.mark.parametrize("name", ALL)
def test_every_piece_alone(name: str) -> None:
    provider = make_provider("odd")
    whole = graph([ALL[name]], [(0, 1)], [])
    with opened(whole, provider) as session:
        session.run(feeds_of(5))
        told = str(session.explain())
    assert ("not padded" in told) is (name in MIXED), told
    assert ("5 -> 8" in told) is (name in APART or name in PARTLY), told
    compare(whole, make_provider("odd"), [5, 3, 1, 33, 8, 2, 5])


@SETTINGS
@hypothesis.given(
    names=st.lists(st.sampled_from([*APART, *APART, *MIXED]), min_size=1, max_size=5),
    reads=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=5, max_size=5),
    outputs=st.lists(st.integers(0, 4), max_size=2),
    sizes=st.lists(st.integers(1, 40), min_size=3, max_size=6),
    left_out=st.sets(st.sampled_from(["Relu", "Add", "Transpose", "MatMul", "Reshape"]), max_size=2),
    memory=st.sampled_from(list(MemoryKind)[:3]),
    has_queue=st.booleans(),
)
def test_padded_runs_give_what_exact_ones_give(
    names: list[str],
    reads: list[tuple[int, int]],
    outputs: list[int],
    sizes: list[int],
    left_out: set[str],
    memory: MemoryKind,
    has_queue: bool,
) -> None:
    whole = graph([ALL[name] for name in names], reads[: len(names)], outputs)
    kept = {node.op_type for node in whole.graph.node} - left_out
    hypothesis.assume(kept)
    compare(whole, make_provider("odd", memory=memory, has_queue=has_queue, claims=kept), sizes)


@SETTINGS
@hypothesis.given(
    rows=st.lists(st.integers(1, 20), min_size=2, max_size=4),
    columns=st.lists(st.integers(1, 20), min_size=4, max_size=4),
)
def test_several_axes_are_padded_at_once(rows: list[int], columns: list[int]) -> None:
    nodes = [op("MatMul", ["a", "b"], ["p"]), op("Relu", ["p"], ["q"]), op("Transpose", ["q"], ["y"])]
    whole = model(nodes, [tensor("a", ["n", 3]), tensor("b", [3, "m"])], [tensor("y", None), tensor("q", None)])
    provider = make_provider("odd")
    with opened(whole, provider) as session:
        for n, m in zip(rows, columns, strict=False):
            rng = np.random.default_rng(n * m)
            a, b = rng.uniform(-1, 1, (n, 3)).astype(np.float32), rng.uniform(-1, 1, (3, m)).astype(np.float32)
            found = session.run({"a": a, "b": b})
            np.testing.assert_allclose(found["q"], np.maximum(a @ b, 0), rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(found["y"], found["q"].T)
            padding = session.explain().partitions[0].padding
            assert [note.split(":")[0] for note in padding] == ["padded along n", "padded along m"]


def test_nothing_is_added_to_no_rows() -> None:
    whole = graph([APART["MatMul"], APART["Softmax"], APART["Add"]], [(0, 1), (2, 0), (3, 1)], [])
    compare(whole, make_provider("odd"), [0, 3, 0, 4])


@pytest.mark.parametrize(
    ("op_type", "name", "lanes"),
    [
        ("Softmax", "Softmax of rows", lambda ctx: list(same_axes(ctx))),
        ("CumSum", "running sum", None),
        ("CumSum", "running sum from the end", lambda ctx: list(same_axes(ctx))),
    ],
)
def test_a_rule_that_is_wrong_breaks_the_law(op_type: str, name: str, lanes: Any) -> None:
    """The law notices a rule that claims too much.  A running sum forwards is the one that it cannot notice by its
    results: positions that are appended change none before them."""
    honest = operators.find_independent_axes("", op_type)
    assert honest is not None
    whole = graph([ALL[name]], [(0, 1)], [])
    operators._independent.replace("", op_type, lanes or (lambda ctx: list(same_axes(ctx))))
    try:
        if lanes is None:
            compare(whole, make_provider("odd"), [5, 3])
        else:
            with pytest.raises(AssertionError):
                compare(whole, make_provider("odd"), [5, 3])
    finally:
        operators._independent.replace("", op_type, honest)
