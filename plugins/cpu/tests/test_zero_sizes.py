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
from mace_testing.fuzzing.case import CONTRIB, Array, OpCase
from mace_testing.fuzzing.judges import JUDGES
from mace_testing.fuzzing.known import excuse
from mace_testing.fuzzing.registry import cases, covered
from mace_testing.fuzzing.verdict import difference

from mace_core.errors import MaceError, StrictPlacementError
from mace_core.session import Session

ENDS_THE_PROCESS = frozenset({("", "CausalConvWithState"), ("", "GRU"), ("", "LSTM"), (CONTRIB, "DynamicQuantizeLSTM")})
"""onnxruntime ends the process for some of these without elements."""

BEYOND_THE_STANDARD = {
    ("", "AveragePool"): "a window that finds no place",
    ("", "Compress"): "a condition longer than the axis",
    ("", "GatherND"): "batch dimensions that differ",
    ("", "LayerNormalization"): "a bias that does not broadcast",
    ("", "NonMaxSuppression"): "a limit without elements",
    ("", "Attention"): "keys and values of different batches",
    ("", "RNN"): "0 as the last state where no step was made, instead of the first state",
    ("", "NegativeLogLikelihoodLoss"): "0 for a mean of nothing, which is NaN",
    ("", "DynamicQuantizeLinear"): "a scale of 1 for nothing, of which the formula makes 0",
    ("", "MatMulInteger"): "memory that was not written, for a sum of nothing",
    (CONTRIB, "DynamicQuantizeMatMul"): "memory that was not written, for a sum of nothing",
}
"""Forms that onnxruntime takes although the standard rules them out, or of which it makes something else."""

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


def _fault(case: OpCase, found: Counter[str]) -> str:
    """What the provider does that onnxruntime does not; "" where it does not take the case, or agrees."""
    model = case.model()
    try:
        expected = JUDGES["onnxruntime"](model, {name: array.copy() for name, array in case.feeds.items()})
    except Exception:
        expected = None
    try:
        with Session(model, devices=["cpu"], strict=True, cache=False) as session:
            results = session.run(case.feeds)
    except StrictPlacementError as error:
        return "" if expected is None else f"declined: {error}"
    except MaceError as error:
        return "" if expected is None else f"refused: {error}"
    if expected is None:
        return ""
    found["judged"] += 1
    mine = [np.asarray(results[f"y{i}"]) for i, asked in enumerate(case.outputs) if asked]
    texts = [difference(a, np.asarray(b), case.tolerance, case.off_by) for a, b in zip(mine, expected, strict=True)]
    return "" if excuse("onnxruntime", case) else "; ".join(filter(None, texts))


def _check_every_axis(op: str, domain: str, examples: int) -> Counter[str]:
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
            fault = _fault(emptied, found)
            assert not fault, f"{emptied!r}: {fault}"

    check()
    return found


@pytest.mark.parametrize("op", QUICK)
def test_operators_take_tensors_without_elements(op: str) -> None:
    if ("", op) in BEYOND_THE_STANDARD:
        pytest.fail("choose another operator for the quick tier")
    _check_every_axis(op, "", 3)


@pytest.mark.full
@pytest.mark.parametrize(
    ("domain", "op"),
    sorted(covered() - ENDS_THE_PROCESS - set(BEYOND_THE_STANDARD)),
    ids=lambda part: part or "ai.onnx",
)
def test_every_operator_takes_tensors_without_elements(domain: str, op: str) -> None:
    _check_every_axis(op, domain, 12)


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


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool", "Conv"])
def test_a_window_of_one_element_finds_no_place_in_nothing(op: str) -> None:
    picture = _ones(1, 1, 0)
    case = OpCase(op, 18, (picture, _ones(1, 1, 1)) if op == "Conv" else (picture,), {"kernel_shape": [1]})
    with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
        assert session.run(case.feeds)["y0"].shape == (1, 1, 0)
