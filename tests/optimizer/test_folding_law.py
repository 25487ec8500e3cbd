"""The law of constant folding: a node gives the same bits whether its inputs are fed or are constants of the model."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from folding_support import DTYPES, Array, difference, fed, folded, telling
from hypothesis import HealthCheck, Phase, given, seed, settings
from mace_testing.backend_suite.cases import RANDOM_OPS, suite_cases
from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import cases, covered
from onnx import helper, numpy_helper

from mace_core import Session
from mace_core.errors import MaceError
from mace_core.operators.registry import find_evaluator
from mace_core.optimizer.constants import FoldConstants
from mace_core.optimizer.evaluate import ConstantFacts

FEW, MANY = 4, 60

DRAWN = sorted(op for domain, op in covered() if not domain)
EVALUATED = [op for op in DRAWN if find_evaluator("", op) is not None]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A node that cannot be computed, and an overflow, are nothing to warn of here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        yield
        logging.disable(logging.NOTSET)


# --- drawn nodes ------------------------------------------------------------------------------------------------------


def _check_drawn(op: str, examples: int) -> None:
    folds = []

    @seed(3)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(cases(op))
    def check(case: OpCase) -> None:
        found = folded(case)
        text = difference(fed(case), found)
        assert not text, f"{case!r}: {text}"
        folds.append(found.nodes == 0)

    check()
    assert folds


@pytest.mark.parametrize("examples", [1, pytest.param(FEW, marks=pytest.mark.full)])
@pytest.mark.parametrize("op", EVALUATED)
def test_what_the_core_evaluates_itself_is_what_a_run_gives(op: str, examples: int) -> None:
    _check_drawn(op, examples)


@pytest.mark.full
@pytest.mark.parametrize("op", DRAWN)
def test_what_is_folded_is_what_a_run_gives(op: str) -> None:
    _check_drawn(op, MANY)


@pytest.mark.parametrize(
    "op", [pytest.param(op, marks=[pytest.mark.full] if at % 5 else []) for at, op in enumerate(EVALUATED)]
)
def test_what_a_session_computes_once_is_what_a_run_gives(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every constant were too large to be folded."""
    monkeypatch.setattr(FoldConstants, "run", lambda *_: 0)
    monkeypatch.setattr(ConstantFacts, "is_cheap", lambda *_: False)
    _check_drawn(op, FEW)


OLD_FORMS = [
    OpCase(op, opset, (np.random.default_rng(opset).normal(size=(2, 3, 4)).astype(np.float32),), attributes)
    for op in ("Softmax", "LogSoftmax", "Hardmax")
    for opset in (7, 11, 12, 13)
    for attributes in ({}, {"axis": 0}, {"axis": 1}, {"axis": 2})
]


@pytest.mark.parametrize("case", OLD_FORMS, ids=repr)
def test_old_forms_keep_their_meaning_as_constants(case: OpCase) -> None:
    found = folded(case)
    assert found.nodes == 0, "it was not folded, so this test tells nothing"
    assert not difference(fed(case), found)


@pytest.mark.parametrize(
    "case",
    [
        OpCase("Slice", 13, (np.arange(4.0, dtype=np.float32), *(np.array([i]) for i in (-9, -(2**31), 0, -1)))),
        OpCase("Unsqueeze", 11, (np.ones((1, 1, 2), np.float32),), {"axes": [3, 0]}),
        OpCase("Unique", 13, (np.float32([2, 0, 2, 1]),), {"sorted": 0}),
        OpCase("Shape", 19, (np.ones((1, 1), np.float32),), {"end": -3}),
        OpCase("ReduceSumSquare", 18, (np.arange(4, dtype=np.int32),)),
        OpCase("LRN", 13, (np.ones((1, 2, 1, 1), np.float32),), {"size": 1}),
        OpCase("GlobalMaxPool", 13, (np.ones((1, 1, 1), np.float32),)),
    ],
    ids=repr,
)
def test_where_onnx_reference_is_wrong_constants_are_right(case: OpCase) -> None:
    assert not difference(fed(case), folded(case))


# --- numbers where implementations differ -----------------------------------------------------------------------------

UNARY = ("Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Relu", "Identity", "Not", "IsNaN")
BINARY = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
    *("And", "Or", "Xor", "Min", "Max", "Sum"),
)
REST = ("Mod", "Where", "Clip", "Cast", "CastLike", "ReduceSum", "ReduceProd", "ReduceMax", "CumSum", "Exp", "Log")


def _telling_cases(op: str) -> Iterator[OpCase]:
    opset = schema.opsets(op)[-1]
    allowed = {np.dtype(dtype) for dtype in schema.dtypes(op, opset, 1 if op == "Where" else 0)}
    for dtype in DTYPES:
        if np.dtype(dtype) in allowed:
            for inputs, attributes in _telling_inputs(op, telling(dtype)):
                yield OpCase(op, opset, inputs, attributes)


def _telling_inputs(op: str, numbers: Array) -> Iterator[tuple[tuple[Array | None, ...], dict[str, object]]]:
    column, row = numbers.reshape(-1, 1), numbers.reshape(1, -1)
    match op:
        case "Mod":
            yield (column, row[row != 0].reshape(1, -1)), {"fmod": int(numbers.dtype.kind == "f")}
        case "Where":
            yield (np.array([[True], [False]]), row, row[:, ::-1].copy()), {}
        case "Clip":
            for low, high in ((3, 5), (5, 2), (None, 5), (-1, None)):
                limits = [None if i is None else numbers[i] for i in (low, high)]
                yield (numbers, *limits), {}
        case "Cast":
            for dtype in DTYPES:
                yield (numbers,), {"to": onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
        case "CastLike":
            for dtype in DTYPES:
                yield (numbers, np.zeros(1, dtype)), {}
        case "ReduceSum" | "ReduceProd" | "ReduceMax":
            drawn = (np.random.default_rng(0).normal(size=(5, 67)) * 3).astype(numbers.dtype)
            for data, axes in itertools.product((drawn, row, row[:, :3]), ([0], [1], [0, 1])):
                yield (data, np.array(axes)), {}
        case "CumSum":
            yield (numbers, np.array(0)), {}
            yield ((np.random.default_rng(0).normal(size=70) * 3).astype(numbers.dtype), np.array(0)), {}
        case _ if op in BINARY:
            yield (column, row), {}
            if op in ("Min", "Max", "Sum"):
                yield (column, row, row[:, ::-1].copy()), {}
        case _:
            yield (numbers,), {}


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("op", [*UNARY, *BINARY, *REST])
def test_telling_numbers_fold_to_what_a_run_gives(op: str, every: int) -> None:
    chosen = itertools.islice(_telling_cases(op), 0, None, every)
    faults = {repr(case): text for case in chosen if (text := difference(fed(case), folded(case)))}
    assert not faults


# --- the ONNX backend suite -------------------------------------------------------------------------------------------


@pytest.mark.full
def test_the_backend_suite_folds_to_what_a_run_gives() -> None:
    faults = {}
    count = 0
    for name, suite_case in sorted(suite_cases().items()):
        case = _node_case(suite_case.model, suite_case)
        if case is not None:
            count += 1
            text = difference(fed(case), folded(case))
            if text:
                faults[name] = text[:300]
    assert count > 700
    assert not faults


def _node_case(model: onnx.ModelProto, suite_case: object) -> OpCase | None:
    """A case of one node of the standard's domain on tensors; None for anything else."""
    graph = model.graph
    if len(graph.node) != 1 or graph.initializer or graph.node[0].domain or graph.node[0].op_type in RANDOM_OPS:
        return None
    node = graph.node[0]
    data_sets = getattr(suite_case, "data_sets", None)
    if any(a.type in (a.GRAPH, a.GRAPHS, a.SPARSE_TENSOR) for a in node.attribute) or not data_sets:
        return None
    inputs, _ = data_sets[0]
    arrays = [item if isinstance(item, np.ndarray) else None for item in inputs]
    if any(array is None for array in arrays) or len(arrays) != len(graph.input):
        return None
    by_name = dict(zip([info.name for info in graph.input], arrays, strict=True))
    attributes = {a.name: _plain(a) for a in node.attribute}
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    given_inputs = tuple(by_name.get(name) if name else None for name in node.input)
    return OpCase(node.op_type, opset, given_inputs, attributes, tuple(bool(name) for name in node.output))


def _plain(attribute: onnx.AttributeProto) -> object:
    found = onnx.helper.get_attribute_value(attribute)
    return numpy_helper.to_array(found) if isinstance(found, onnx.TensorProto) else found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64])
@pytest.mark.parametrize("operator", ["Shrink", "ThresholdedRelu", "HardSwish"])
def test_bodies_mean_nothing_for_types_that_their_operators_do_not_have(operator: str, dtype: type) -> None:
    """Shrink's has a Neg, which unsigned numbers have not: it is run, not evaluated, and gives what a run gives."""
    x = np.array([0, 1, 3], dtype)
    attributes = {"bias": 2.0, "lambd": 1.0} if operator == "Shrink" else {}
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), [3])
    out = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(x.dtype), [3])
    found = []
    for inputs, constants in (([info], []), ([], [numpy_helper.from_array(x, "x")])):
        graph = helper.make_graph([node], "g", inputs, [out], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9)
        try:
            with Session(model, devices=["cpu"], cache=False) as session:
                found.append(session.run({"x": x} if inputs else {})["y"].tolist())
        except MaceError as error:
            found.append(type(error))
    assert found[0] == found[1]
