"""Tensors without elements: every operator with a zero on each axis, against onnxruntime where it takes them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from mace_testing.fuzzing.apart import JudgeApart, JudgeDiedError
from mace_testing.fuzzing.case import CONTRIB, Array, OpCase
from mace_testing.fuzzing.known import RUNTIME, excuse
from mace_testing.fuzzing.registry import cases, covered
from mace_testing.fuzzing.verdict import Outcome, decide, difference

from mace_core.errors import MaceError, StrictPlacementError
from mace_core.session import Session

RULED_OUT: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Attention"): (
        "must agree in batch, heads and rows",
        "queries of 4 elements meet keys of 0",
        "does not broadcast to",
        "the past keys must be",
        "the past values must be",
    ),
    ("", "Compress"): ("which is outside its axis",),
    ("", "GatherND"): ("must begin with the same",),
    ("", "LayerNormalization"): ("does not broadcast to",),
    ("", "NonMaxSuppression"): ("must be [] or [1], not [0]",),
    ("", "PRelu"): ("must broadcast to the input",),
    (CONTRIB, "DynamicQuantizeMatMul"): ("the bias must be [0], not",),
    (CONTRIB, "GatherBlockQuantized"): ("which is outside its axis of 0 elements",),
    (CONTRIB, "MatMulNBits"): ("the packed weights must have",),
    (CONTRIB, "SkipLayerNormalization"): ("does not broadcast to",),
    (CONTRIB, "SkipSimplifiedLayerNormalization"): ("does not broadcast to",),
}
"""What refusals say of forms that the standard rules out; onnxruntime takes them where there is little to compute."""

QUICK = (
    *("ArgMax", "Concat", "Conv", "CumSum", "Einsum", "Expand", "Gather", "GatherElements", "Gemm", "Hardmax"),
    *("InstanceNormalization", "MatMul", "Pad", "ReduceMean", "ReduceProd", "Reshape", "Resize", "ScatterElements"),
    *("Slice", "Softmax", "Split", "Tile", "TopK", "Transpose", "Unique", "Where"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A node that one of the two refuses is nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        yield
        logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeApart]:
    with JudgeApart(RUNTIME) as found:
        yield found


def _emptied(case: OpCase) -> Iterator[OpCase]:
    """The case with one axis of one input cut to nothing, and with all axes of its size."""
    seen = set()
    for index, array in enumerate(case.inputs):
        for axis in range(0 if array is None else array.ndim):
            for together in (False, True):
                inputs = [_cut(other, n, case, (index, axis), together) for n, other in enumerate(case.inputs)]
                shapes = tuple(None if found is None else found.shape for found in inputs)
                if shapes not in seen:
                    seen.add(shapes)
                    yield dataclasses.replace(case, inputs=tuple(inputs), symbolic=False)


def _cut(array: Array | None, number: int, case: OpCase, place: tuple[int, int], together: bool) -> Array | None:
    if array is None:
        return None
    first = case.inputs[place[0]]
    assert first is not None
    size = first.shape[place[1]]
    gone = [(number, axis) == place or (together and dim == size) for axis, dim in enumerate(array.shape)]
    return array[tuple(slice(0, 0) if empty else slice(None) for empty in gone)]


def _fault(case: OpCase, judge: JudgeApart, found: Counter[str]) -> str:
    """What the provider does that onnxruntime does not; "" where it does not take the case, or agrees."""
    model = case.model()
    try:
        expected = judge.ask(model, case.feeds)
    except JudgeDiedError:  # as it does of some
        expected = None
    try:
        with Session(model, devices=["cpu"], strict=True, cache=False) as session:
            results = session.run(case.feeds)
    except StrictPlacementError as error:
        return "" if expected is None else f"declined: {error}"
    except MaceError as error:
        rules = RULED_OUT.get((case.domain, case.op), ())
        is_right = expected is None or any(rule in str(error) for rule in rules)
        return "" if is_right else f"refused: {error}"
    if expected is None:
        return ""
    found["judged"] += 1
    mine = [np.asarray(results[f"y{i}"]) for i, asked in enumerate(case.outputs) if asked]
    texts = [difference(a, np.asarray(b), case.tolerance, case.off_by) for a, b in zip(mine, expected, strict=True)]
    return "" if excuse(RUNTIME, case) else "; ".join(filter(None, texts))


def _check_every_axis(op: str, domain: str, judge: JudgeApart, examples: int) -> Counter[str]:
    found: Counter[str] = Counter()

    @seed(7)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(cases(op, domain))
    def check(case: OpCase) -> None:
        for emptied in _emptied(case):
            fault = _fault(emptied, judge, found)
            assert not fault, f"{emptied!r}: {fault}"

    check()
    return found


@pytest.mark.parametrize("op", QUICK)
def test_operators_take_tensors_without_elements(op: str, judge: JudgeApart) -> None:
    _check_every_axis(op, "", judge, 3)


@pytest.mark.full
@pytest.mark.parametrize(("domain", "op"), sorted(covered()), ids=lambda part: part or "ai.onnx")
def test_every_operator_takes_tensors_without_elements(domain: str, op: str, judge: JudgeApart) -> None:
    _check_every_axis(op, domain, judge, 12)


# --- recurrent layers -------------------------------------------------------------------------------------------------

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FEATURES, HIDDEN = 2, 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_layers_of_no_steps_hand_their_first_states_on(op: str, direction: str, dtype: type) -> None:
    for layout, given_states, steps, batch, constant in itertools.product((0, 1), (0, 1), (0, 2), (0, 2), (0, 1)):
        case = _layer(op, direction, dtype, layout, bool(given_states), steps, batch)
        if constant:
            case = dataclasses.replace(case, constants=frozenset({1, 2}))
        with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
            found = session.run(case.feeds)
        directions = 2 if direction == "bidirectional" else 1
        everything = (batch, steps, directions, HIDDEN) if layout else (steps, directions, batch, HIDDEN)
        np.testing.assert_array_equal(found["y0"], np.zeros(everything, dtype), strict=True)
        state = (batch, directions, HIDDEN) if layout else (directions, batch, HIDDEN)
        for name, first in (("y1", case.inputs[5]), ("y2", case.inputs[6] if op == "LSTM" else None)):
            if name in found:
                expected = np.zeros(state, dtype) if first is None else first
                np.testing.assert_array_equal(found[name], expected, strict=True)


def _layer(op: str, direction: str, dtype: type, layout: int, states: bool, steps: int, batch: int) -> OpCase:
    """A layer all of whose sequences have no step, because there is none or because their lengths say so."""
    random = np.random.default_rng(1)
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[op]

    def draw(*shape: int) -> Array:
        return random.normal(size=shape).astype(dtype)

    state = (batch, directions, HIDDEN) if layout else (directions, batch, HIDDEN)
    inputs: list[Array | None] = [
        draw(*((batch, steps) if layout else (steps, batch)), FEATURES),
        draw(directions, gates * HIDDEN, FEATURES),
        draw(directions, gates * HIDDEN, HIDDEN),
        draw(directions, 2 * gates * HIDDEN),
        np.zeros(batch, np.int32) if steps else None,
        draw(*state) if states else None,
    ]
    if op == "LSTM":
        inputs.append(draw(*state) if states else None)
    attributes = {"hidden_size": HIDDEN, "direction": direction, "layout": layout}
    return OpCase(op, 14, tuple(inputs), attributes, (True,) * (3 if op == "LSTM" else 2))


# --- attention --------------------------------------------------------------------------------------------------------


def _ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


FOUR = (_ones(1, 2, 3, 4), _ones(1, 2, 0, 4), _ones(1, 2, 0, 5))


@pytest.mark.parametrize(
    "case",
    [
        OpCase("Attention", 23, FOUR),
        OpCase("Attention", 23, (*FOUR, _ones(3, 0))),
        OpCase("Attention", 23, (*FOUR, np.ones((1, 2, 3, 0), bool))),
        OpCase("Attention", 23, FOUR, {"is_causal": 1, "softcap": 2.0}),
        OpCase("Attention", 23, FOUR, {"qk_matmul_output_mode": 0}, (True, False, False, True)),
        OpCase("Attention", 23, (*FOUR, None, *FOUR[1:]), outputs=(True, True, True)),
        OpCase("Attention", 23, tuple(array.astype(np.float16) for array in FOUR)),
        OpCase(
            "Attention", 23, (_ones(1, 3, 8), _ones(1, 0, 8), _ones(1, 0, 6)), {"q_num_heads": 2, "kv_num_heads": 2}
        ),
        OpCase(
            "MultiHeadAttention",
            17,
            (_ones(1, 3, 8), _ones(1, 0, 8), _ones(1, 0, 8)),
            {"num_heads": 2},
            domain=CONTRIB,
        ),
    ],
    ids=repr,
)
def test_attention_to_no_keys_is_zero(case: OpCase) -> None:
    with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
        found = session.run(case.feeds)
    assert found["y0"].size and not found["y0"].any()
    assert all(array.size == 0 for name, array in found.items() if name != "y0")


@pytest.mark.parametrize(
    "case",
    [
        OpCase("MatMul", 13, (_ones(2, 0), _ones(0, 3))),
        OpCase("Gemm", 13, (_ones(2, 0), _ones(0, 3))),
        OpCase("Conv", 13, (_ones(1, 0, 5), _ones(3, 0, 1))),
        OpCase("ReduceSum", 13, (_ones(2, 0),), {}),
        OpCase("Einsum", 13, (_ones(2, 0), _ones(0, 3)), {"equation": "ij,jk->ik"}),
    ],
    ids=repr,
)
def test_a_sum_of_nothing_is_zero(case: OpCase) -> None:
    with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
        found = session.run(case.feeds)["y0"]
    assert found.size and not found.any()


def _bytes(*shape: int) -> Array:
    return np.ones(shape, np.uint8)


SCALE, ZERO = np.array(0.5, np.float32), np.array(3, np.uint8)
QUANTIZED_SUMS = {
    "MatMulInteger": (OpCase("MatMulInteger", 10, (_bytes(2, 0), _bytes(0, 3))), 0),
    "ConvInteger": (OpCase("ConvInteger", 10, (_bytes(1, 0, 5), _bytes(3, 0, 2))), 0),
    "QLinearMatMul": (
        OpCase("QLinearMatMul", 10, (_bytes(2, 0), SCALE, ZERO, _bytes(0, 3), SCALE, ZERO, SCALE, ZERO)),
        ZERO,
    ),
    "QLinearConv": (
        OpCase("QLinearConv", 10, (_bytes(1, 0, 5), SCALE, ZERO, _bytes(3, 0, 2), SCALE, ZERO, SCALE, ZERO)),
        ZERO,
    ),
    "QLinearConv with a bias": (
        OpCase(
            "QLinearConv",
            10,
            (
                *(_bytes(1, 0, 5), SCALE, ZERO, _bytes(3, 0, 2), SCALE, ZERO, SCALE, ZERO),
                np.full(3, 4, np.int32),  # of a quarter each, which are two halves
            ),
        ),
        ZERO + 2,
    ),
    "QGemm": (
        OpCase("QGemm", 17, (_bytes(2, 0), SCALE, ZERO, _bytes(0, 3), SCALE, ZERO), domain=CONTRIB),
        np.float32(0),
    ),
    "QGemm to bytes": (
        OpCase(
            "QGemm",
            17,
            (_bytes(0, 2), SCALE, ZERO, _bytes(0, 3), SCALE, ZERO, None, SCALE, ZERO),
            {"transA": 1},
            domain=CONTRIB,
        ),
        ZERO,
    ),
    "MatMulIntegerToFloat": (
        OpCase("MatMulIntegerToFloat", 17, (_bytes(2, 0), _bytes(0, 3), SCALE, SCALE), domain=CONTRIB),
        np.float32(0),
    ),
    "DynamicQuantizeMatMul": (
        OpCase("DynamicQuantizeMatMul", 17, (_ones(2, 0), _bytes(0, 3), SCALE), domain=CONTRIB),
        np.float32(0),
    ),
}
"""What is left of a sum of nothing; onnxruntime returns memory that it did not write."""


@pytest.mark.parametrize("name", QUANTIZED_SUMS)
def test_a_quantized_sum_of_nothing_is_the_zero_point_and_the_bias(name: str) -> None:
    case, expected = QUANTIZED_SUMS[name]
    with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
        found = session.run(case.feeds)["y0"]
    assert found.size
    np.testing.assert_array_equal(found, np.full(found.shape, expected, found.dtype))
    assert excuse(RUNTIME, case), "what onnxruntime says of it does not count"


@pytest.mark.parametrize(
    "case",
    [
        OpCase(
            "RotaryEmbedding",
            23,
            (_ones(0, 2, 6), _ones(4, 1), _ones(4, 1), np.zeros((0, 2), np.int64)),
            {"num_heads": 3},
        ),
        OpCase(
            "RotaryEmbedding",
            17,
            (_ones(2, 0, 8), np.zeros(1, np.int64), _ones(4, 2), _ones(4, 2)),
            domain=CONTRIB,
        ),
        OpCase("MultiHeadAttention", 17, (_ones(0, 0, 0),) * 3, {"num_heads": 1}, domain=CONTRIB),
        OpCase(
            "Attention",
            17,
            (_ones(0, 5, 3), _ones(3, 12), _ones(12), np.zeros(0, np.int32)),
            {"num_heads": 2},
            domain=CONTRIB,
        ),
        OpCase(
            "EmbedLayerNormalization",
            17,
            (
                *(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.int32), _ones(4, 6), _ones(0, 6), _ones(2, 6)),
                *(_ones(6), _ones(6)),
            ),
            outputs=(True, True),
            domain=CONTRIB,
        ),
        OpCase("Shrink", 9, (np.zeros((0, 3), np.int8),)),
    ],
    ids=repr,
)  # fmt: skip
def test_nodes_whose_bodies_are_not_built_for_a_size_of_zero(case: OpCase) -> None:
    verdict = decide(case, "cpu")
    assert verdict.outcome is Outcome.RIGHT, verdict.detail


def test_an_empty_list_of_axes_squeezes_none() -> None:
    case = OpCase("Squeeze", 13, (_ones(1, 2, 1), np.zeros(0, np.int64)), constants=frozenset({1}))
    with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
        assert session.run(case.feeds)["y0"].shape == (1, 2, 1)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool", "Conv"])
def test_a_window_of_one_element_finds_no_place_in_nothing(op: str) -> None:
    picture = _ones(1, 1, 0)
    case = OpCase(op, 18, (picture, _ones(1, 1, 1)) if op == "Conv" else (picture,), {"kernel_shape": [1]})
    with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
        assert session.run(case.feeds)["y0"].shape == (1, 1, 0)
