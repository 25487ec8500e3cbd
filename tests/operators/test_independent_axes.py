"""What operators say of their axes: more positions along an independent one change nothing for those that were there,
and copies of a position give copies of its results.

That is the definition, so every rule is put to it: each form and case of its operator is computed as it is and with
random positions appended along all axes that the rule ties, so many along some and so many along others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mace_core.errors import MaceError, ProviderError
from mace_core.graph import Graph, Node, Value
from mace_core.operators.context import ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.independence import AxesContext, Lane
from mace_core.operators.registry import find_independent_axes, operators_with_independent_axes
from mace_core.operators.resolver import resolve
from mace_core.scheduler.planning.partition import UnplacedNodesError
from mace_core.session import Session
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.cases import Case, operator_cases, to_attribute
from mace_core.testing.forms import operator_forms

Array = npt.NDArray[Any]

FLOAT_TOLERANCE = 2e-6
"""Of sums whose order may depend on sizes, relative to the largest magnitude; what only moves elements is the same to
the bit anyhow."""

MOST_FORMS = 8
"""Per operator, spread over all."""


def case(op_type: str, *inputs: Array | None, outputs: int = 1, opset: int = 21, **attributes: Any) -> Case:
    return Case(f"{op_type} {attributes}", op_type, inputs, attributes=attributes, output_count=outputs, opset=opset)


def rand(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).uniform(-2, 2, shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


OWN_CASES = [
    *(case(op, rand(3, 4)) for op in ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Sin", "Sinh")),
    *(
        case(op, rand(3, 4))
        for op in ("Celu", "IsInf", "IsNaN", "Mish", "Shrink", "Softsign", "Tan", "ThresholdedRelu")
    ),
    case("CumProd", rand(3, 4, 5), np.array(1, np.int64), opset=26),
    case("SimplifiedLayerNormalization", rand(2, 3, 4), rand(4)),
    case("CumSum", rand(3, 4, 5), np.array(1, np.int64)),
    *(case(op, rand(3, 4) > 0, rand(4) > 0) for op in ("And", "Or", "Xor")),
    case("BitwiseNot", ints(1, 2, 3)),
    *(case(op, ints(1, 2, 3), ints(6)) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    case("BitShift", np.array([[1, 2, 3]], np.uint8), np.array([[1], [2]], np.uint8), direction="LEFT"),
    case("CastLike", rand(3, 4), ints(1)),
    case("Swish", rand(3, 4), opset=24),
    case("Trilu", rand(2, 3, 4), np.array(1, np.int64), upper=0),
    case("Where", rand(3, 1) > 0, rand(3, 4), rand(4)),
    case("Sum", rand(3, 4), rand(4), rand(3, 1)),
    case("Mean", rand(3, 4), rand(4), rand(3, 1)),
    case("Mod", ints(7, 8, 9), ints(3)),
    case("PRelu", rand(2, 3, 4), rand(3, 1)),
    case("Softmax", rand(2, 3, 4), axis=1, opset=11),
    case("LogSoftmax", rand(2, 3, 4), axis=-1, opset=11),
    case("Hardmax", rand(2, 3, 4), axis=1),
    case("LpNormalization", rand(2, 3, 4), axis=1, p=1),
    case("MeanVarianceNormalization", rand(2, 3, 4, 2)),
    case("MeanVarianceNormalization", rand(2, 3, 4, 2), axes=[1, 3]),
    case("InstanceNormalization", rand(2, 3, 4), rand(3), rand(3)),
    case("RMSNormalization", rand(2, 3, 4), rand(4), opset=23),
    case("LayerNormalization", rand(2, 3, 4), rand(3, 4), rand(2, 1, 1), outputs=3, axis=1),
    case("BatchNormalization", rand(2, 3, 4), rand(3), rand(3), rand(3), abs(rand(3)) + 0.1),
    case("TopK", rand(3, 5, 2), ints(2), outputs=2, axis=1),
    case("QuantizeLinear", rand(2, 3, 4), abs(rand(3)) + 0.1, np.zeros(3, np.uint8), axis=1),
    case("QuantizeLinear", rand(2, 3, 4), np.array(0.1, np.float32)),
    case("DequantizeLinear", (rand(2, 3, 4) * 9).astype(np.int8), abs(rand(4)) + 0.1, axis=-1),
    case("Reshape", rand(6, 4, 5), ints(6, 20)),
    case("Reshape", rand(6, 4, 5), ints(6, 2, 2, 5)),
    case("Reshape", rand(6, 4, 5), ints(0, -1)),
    case("Reshape", rand(6, 4, 5), ints(-1, 4, 5)),
    case("Reshape", rand(6, 4, 5), ints(2, 3, 4, 5)),
    case("Reshape", rand(1, 6, 4), ints(6, 1, 4)),
    case("Reshape", rand(1, 1, 6), ints(1, 6)),
    case("Reshape", rand(2, 3, 4), ints(2, 3, 0)),
    case("Squeeze", rand(3, 1, 4), ints(1)),
    case("Squeeze", rand(3, 1, 4)),
    case("Unsqueeze", rand(3, 4), ints(0, -1)),
    case("Expand", rand(3, 1, 4), ints(2, 1, 5, 4)),
    case("Expand", rand(3, 4), ints(3, 1)),
    case("Tile", rand(3, 4), ints(2, 1)),
    case("Slice", rand(3, 4, 5), ints(1), ints(3), ints(1)),
    case("Split", rand(3, 4), axis=1, outputs=2, num_outputs=2),
    case("ReverseSequence", rand(4, 3, 2), ints(1, 4, 2), batch_axis=1, time_axis=0),
    case("ReverseSequence", rand(3, 4, 2), ints(1, 4, 2), batch_axis=0, time_axis=1),
    case("DepthToSpace", rand(2, 8, 3, 3), blocksize=2),
    case("SpaceToDepth", rand(2, 2, 4, 4), blocksize=2),
    case("GatherElements", rand(3, 4, 2), np.array([[[0, 1], [2, 0], [1, 1], [2, 2]]]), axis=0),
    case("GatherND", rand(3, 4, 5), np.array([[[1], [0]], [[3], [2]], [[0], [1]]]), batch_dims=1),
    case("GatherND", rand(3, 4, 5), np.array([[1, 2], [0, 3]])),
    case("ScatterElements", rand(3, 4), np.array([[0, 1, 2, 0]]), rand(1, 4), axis=0),
    case("ScatterElements", rand(3, 4), np.array([[0, 1], [2, 0], [1, 3]]), rand(3, 2), axis=1),
    case("ScatterND", rand(4, 3, 2), np.array([[[0], [3]], [[1], [1]]]), rand(2, 2, 3, 2), reduction="add"),
    case("ScatterND", rand(4, 3, 2), np.array([[0, 2], [3, 1]]), rand(2, 2)),
    case("OneHot", ints(0, 2, 1), np.array(3, np.int64), np.array([0, 1], np.float32), axis=0),
    case("MatMul", rand(3, 4), rand(4, 5)),
    case("MatMul", rand(2, 1, 3, 4), rand(6, 4, 5)),
    case("MatMul", rand(4), rand(2, 4, 5)),
    case("MatMul", rand(2, 3, 4), rand(4)),
    case("MatMulInteger", ints(1, 2, 3, 4, 5, 6).astype(np.uint8).reshape(3, 2), np.ones((2, 4), np.uint8)),
    case("Gemm", rand(4, 3), rand(5, 4), rand(3, 1), transA=1, transB=1),
    case("Gemm", rand(3, 4), rand(4, 5), rand(5)),
    case("Einsum", rand(3, 4), rand(5, 4), equation="ij,kj->ki"),
    case("Einsum", rand(2, 3, 4), rand(2, 4, 5), equation="bij,bjk"),
    case("Conv", rand(2, 3, 6), rand(4, 3, 2), rand(4)),
    case("Conv", rand(2, 4, 6), rand(4, 2, 2), group=2),
    case("ConvInteger", np.ones((2, 3, 6), np.uint8), np.ones((4, 3, 2), np.uint8)),
    case("ConvTranspose", rand(2, 3, 6), rand(3, 4, 2)),
    case("MaxPool", rand(2, 3, 6), kernel_shape=[2], outputs=2),
    case("MaxPool", rand(2, 3, 6), kernel_shape=[2]),
    case("LpPool", rand(2, 3, 6), kernel_shape=[2]),
    case("GlobalLpPool", rand(2, 3, 6)),
    case("GlobalMaxPool", rand(2, 3, 6)),
    case("GridSample", rand(2, 3, 4, 5), rand(2, 3, 3, 2) / 2, mode="linear"),
    case("RoiAlign", rand(2, 3, 6, 6), abs(rand(3, 4)), ints(0, 1, 1), output_height=2, output_width=2),
    case("Resize", rand(2, 3, 4, 5), None, np.array([1, 1, 2, 1.5], np.float32)),
    case("Resize", rand(2, 3, 4, 5), None, None, ints(2, 3, 8, 5), mode="linear"),
    case("Resize", rand(2, 3, 4, 5), None, None, ints(7), axes=[2], mode="cubic"),
    case("Attention", rand(2, 3, 4, 5), rand(2, 3, 6, 5), rand(2, 3, 6, 5), rand(2, 1, 4, 6), opset=23),
    case("Attention", rand(2, 3, 4, 5), rand(2, 3, 6, 5), rand(2, 3, 6, 5), rand(4, 6), opset=23),
    case("Attention", rand(2, 4, 6), rand(2, 6, 6), rand(2, 6, 6), opset=23, q_num_heads=2, kv_num_heads=2),
    case(
        "Attention",
        *(rand(2, 3, 4, 5), rand(2, 3, 6, 5), rand(2, 3, 6, 5), None, rand(2, 3, 1, 5), rand(2, 3, 1, 5)),
        outputs=3,
        opset=23,
    ),
    case("RotaryEmbedding", rand(2, 3, 4, 6), rand(2, 4, 3), rand(2, 4, 3), opset=23),
    case("RotaryEmbedding", rand(2, 3, 4, 6), rand(9, 3), rand(9, 3), np.array([[0, 8, 1, 2], [3, 3, 2, 7]]), opset=23),
    case("RotaryEmbedding", rand(2, 4, 12), rand(2, 4, 3), rand(2, 4, 3), opset=23, num_heads=2),
    case("LSTM", rand(4, 3, 2), rand(1, 12, 2), rand(1, 12, 3), outputs=3, hidden_size=3),
    case("GRU", rand(4, 3, 2), rand(1, 9, 2), rand(1, 9, 3), None, None, rand(1, 3, 3), outputs=2, hidden_size=3),
    case("RNN", rand(4, 3, 2), rand(1, 3, 2), rand(1, 3, 3), outputs=2, hidden_size=3),
]


def cases_of(op_type: str) -> list[Case]:
    """The forms and cases of an operator, not more than are quick."""
    found = [one for one in (*OWN_CASES, *operator_cases()) if one.op_type == op_type]
    forms = operator_forms().get(op_type, ())
    return [*found, *forms[:: max(1, len(forms) // MOST_FORMS)]][: MOST_FORMS + len(found)]


def computed(form: Case, inputs: Sequence[Array | None]) -> list[Array]:
    """The results for these inputs of the operator."""
    graph = Graph(form.name)
    graph.opset_imports = {"": form.opset}
    operands: list[Value | None] = []
    for i, array in enumerate(inputs):
        value = None if array is None else Value(f"x{i}", TensorType(DType.from_numpy(array.dtype), array.shape))
        operands.append(value)
        graph.inputs += [] if value is None else [value]
    results = [Value(f"y{i}") for i in range(form.output_count)]
    attributes = {name: to_attribute(value) for name, value in form.attributes.items()}
    graph.nodes.append(Node(form.op_type, operands, results, name=form.op_type, attributes=attributes))
    graph.outputs = list(results)
    feeds = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
    try:
        with np.errstate(all="ignore"), Session(graph, devices=["reference"], optimize=False, cache=False) as session:
            return list(session.run(feeds).values())
    except ProviderError:  # the reference does not know every form; it is asked first because it compiles nothing
        with Session(graph, devices=["cpu"], optimize=False, cache=False) as session:
            return list(session.run(feeds).values())


def lanes_of(form: Case) -> list[Lane]:
    """What the rule says of a form."""
    graph = form.graph()
    (node,) = graph.nodes
    given = {value: array for value, array in zip(node.inputs, form.inputs, strict=True) if value is not None}
    types = {value: TensorType(DType.from_numpy(array.dtype), array.shape) for value, array in given.items()}
    fed = {value: types[value] for value in graph.inputs}
    known = {value: Tensor.from_numpy(array) for value, array in given.items() if value.constant is None}
    types.update(resolve(graph, fed, known).types)
    rule = find_independent_axes("", form.op_type)
    assert rule is not None
    try:
        return list(rule(AxesContext(node, form.opset, types, dict(given))))
    except (UnresolvedShapeError, ShapeMismatchError):
        return []


def longer(form: Case, tails: Sequence[tuple[Lane, int]], rng: np.random.Generator) -> list[Array | None]:
    """The inputs with so many more positions along the axes of each lane: some of those there are, in any order, and
    other numbers where any number will do."""
    inputs = list(form.inputs)
    stated: dict[int, Array] = {}
    for lane, tail in tails:
        for index, axis in lane.inputs:
            array = inputs[index]
            assert array is not None
            more = np.take(array, rng.integers(0, array.shape[axis], tail), axis)
            if array.dtype == np.float32 and index == 0:
                more = more * rng.uniform(-3, 3, more.shape).astype(np.float32)
            inputs[index] = np.concatenate([array, more], axis)
        for index, element in lane.stated:
            content = stated.setdefault(index, np.array(inputs[index]))
            content.reshape(-1)[element] += tail
    for index, content in stated.items():
        inputs[index] = content
    return inputs


def with_copies(form: Case, tails: Sequence[tuple[Lane, int]]) -> list[Array | None]:
    """The inputs with so many copies of the last position along the axes of each lane."""
    inputs = list(form.inputs)
    for lane, tail in tails:
        for index, axis in lane.inputs:
            inputs[index] = copied(inputs[index], axis, tail)
        for index, element in lane.stated:
            content = np.array(inputs[index])
            content.reshape(-1)[element] += tail
            inputs[index] = content
    return inputs


def copied(array: Array | None, axis: int, tail: int) -> Array:
    assert array is not None
    return np.concatenate([array, np.repeat(np.take(array, [-1], axis), tail, axis)], axis)


def check(form: Case, lanes: Sequence[Lane], rng: np.random.Generator) -> None:
    tails = [(lane, int(rng.integers(1, 5))) for lane in lanes]
    before = computed(form, form.inputs)
    after = computed(form, longer(form, tails, rng))
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        shape = list(old.shape)
        for lane, tail in tails:
            for output, axis in lane.outputs:
                shape[axis] += tail if output == place else 0
        assert list(new.shape) == shape, f"{form.name}, {lanes}"
        compare(new[tuple(slice(size) for size in old.shape)], old, f"{form.name}, {lanes}")
    for place, (old, new) in enumerate(zip(before, computed(form, with_copies(form, tails)), strict=True)):
        for lane, tail in tails:
            for output, axis in lane.outputs:
                old = copied(old, axis, tail) if output == place else old
        compare(new, old, f"copies: {form.name}, {lanes}")


def compare(found: Array, expected: Array, told: str) -> None:
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, told)
        return
    largest = np.max(np.abs(expected[np.isfinite(expected)]), initial=1e-30)
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT_TOLERANCE * largest, err_msg=told)


FEW_FORMS, ALL_FORMS = 2, 1_000_000
"""After how many pairs of a form and an axis an operator is left."""


def usable(form: Case, lanes: Sequence[Lane]) -> list[Lane]:
    """Lanes with something to append to."""
    arrays = form.inputs
    return [lane for lane in lanes if all((a := arrays[i]) is not None and a.shape[axis] for i, axis in lane.inputs)]


@pytest.mark.parametrize("forms", [FEW_FORMS, pytest.param(ALL_FORMS, marks=pytest.mark.full)], ids=["few", "all"])
@pytest.mark.parametrize("op_type", operators_with_independent_axes(""))
def test_more_positions_along_an_independent_axis_change_no_others(op_type: str, forms: int) -> None:
    rng = np.random.default_rng(len(op_type))
    tried = 0
    for form in cases_of(op_type):
        if tried >= forms:
            break
        lanes = usable(form, lanes_of(form))
        if lanes:
            with contextlib.suppress(UnplacedNodesError):  # a type that neither device takes
                check(form, lanes, rng)
                tried += len(lanes)
    assert tried, f"no form of {op_type} has an independent axis: the rule is not tried, or says nothing"


@pytest.mark.parametrize(
    ("form", "lane"),
    [
        (case("Softmax", rand(3, 4), axis=1), Lane(((0, 1),), ((0, 1),))),
        (case("CumSum", rand(3, 4), np.array(0), reverse=1), Lane(((0, 0),), ((0, 0),))),
        (case("MatMul", rand(3, 4), rand(4, 5)), Lane(((0, 1), (1, 0)), ((0, 1),))),
        (case("Reshape", rand(6, 4), ints(4, -1)), Lane(((0, 0),), ((0, 1),))),
        (case("MaxPool", rand(2, 3, 6), kernel_shape=[2], outputs=2), Lane(((0, 1),), ((0, 1), (1, 1)))),
        (case("MaxPool", rand(2, 3, 6), kernel_shape=[2], outputs=2), Lane(((0, 0),), ((0, 0), (1, 0)))),
        (case("Trilu", rand(4, 3), upper=0), Lane(((0, 1),), ((0, 1),))),
        (case("BatchNormalization", rand(2, 3), rand(3), rand(3), rand(3), abs(rand(3))), Lane(((0, 1),), ((0, 1),))),
    ],
    ids=lambda value: value.op_type if isinstance(value, Case) else None,
)
def test_a_rule_that_is_wrong_is_noticed(form: Case, lane: Lane) -> None:
    with pytest.raises((AssertionError, MaceError)):
        for seed in range(8):
            check(form, [lane], np.random.default_rng(seed))
