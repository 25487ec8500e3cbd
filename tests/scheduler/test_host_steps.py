"""Operators that the core computes itself: draws of classes, and forms that onnx.reference answers wrongly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from mace_testing.fuzzing.case import OpCase
from onnx import TensorProto, helper

from mace_core.errors import MaceError
from mace_core.session import Session

DRAWS = 40_000


def multinomial(logarithms: np.ndarray, *, constant: bool = False, count: int = DRAWS, **attributes: object) -> OpCase:
    return OpCase(
        "Multinomial",
        17,
        (np.asarray(logarithms, np.float32),),
        {"sample_size": count, **attributes},
        constants=frozenset({0} if constant else ()),
    )


def run(case: OpCase, times: int = 1) -> list[np.ndarray]:
    with Session(case.model(), devices=["cpu"], strict=True, cache=False) as session:
        return [session.run(case.feeds)["y0"] for _ in range(times)]


def test_classes_are_drawn_with_their_probabilities() -> None:
    shares = np.array([[0.5, 0.2, 0.0, 0.3], [0.1, 0.1, 0.7, 0.1]])
    with np.errstate(divide="ignore"):
        (found,) = run(multinomial(np.log(shares * 7)))  # only up to a factor
    assert (found.dtype, found.shape) == (np.int32, (2, DRAWS))
    for row, expected in zip(found, shares, strict=True):
        counts = np.bincount(row, minlength=4)
        # five standard deviations: one run in a million is outside
        assert (np.abs(counts - DRAWS * expected) <= 5 * np.sqrt(DRAWS * expected * (1 - expected))).all()
        assert counts[expected == 0].sum() == 0


@pytest.mark.parametrize(("code", "dtype"), [(TensorProto.INT32, np.int32), (TensorProto.INT64, np.int64)])
def test_the_type_of_classes_is_what_the_model_says(code: int, dtype: type) -> None:
    assert run(multinomial(np.zeros((1, 3)), count=5, dtype=code))[0].dtype == dtype


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("attributes", [{}, {"seed": 3.5}])
def test_every_run_draws_anew(constant: bool, attributes: dict[str, object]) -> None:
    first, second = run(multinomial(np.zeros((1, 9)), constant=constant, count=50, **attributes), times=2)
    assert not np.array_equal(first, second)


def test_a_seed_makes_sessions_alike() -> None:
    case = multinomial(np.zeros((1, 9)), count=50, seed=3.5)
    np.testing.assert_array_equal(run(case, 3), run(case, 3))
    assert not np.array_equal(run(case), run(multinomial(np.zeros((1, 9)), count=50, seed=4.5)))


@pytest.mark.parametrize(("rows", "count"), [(0, 4), (2, 0)])
def test_nothing_is_drawn_of_nothing(rows: int, count: int) -> None:
    if count == 0:
        pytest.skip("the standard's attribute table asks for at least one sample")
    assert run(multinomial(np.zeros((rows, 3)), count=count))[0].shape == (rows, count)


@pytest.mark.parametrize("logarithms", [np.zeros((1, 0)), [[np.nan, 0.0]], [[-np.inf, -np.inf]]])
def test_what_has_no_distribution_is_an_error(logarithms: np.ndarray) -> None:
    with pytest.raises(MaceError, match="Multinomial"):
        run(multinomial(np.asarray(logarithms), count=3))


# --- texts, which onnx.reference runs ---------------------------------------------------------------------------------

TEXTS = np.array(["b", "a", "b", "c", "a"], object)


def test_texts_get_axes_in_any_order() -> None:
    case = OpCase("Unsqueeze", 11, (TEXTS,), {"axes": [2, 0]})
    assert _on_texts(case)[0].shape == (1, 5, 1)
    assert _on_texts(OpCase("Unsqueeze", 13, (TEXTS, np.array([-1, 0]))))[0].shape == (1, 5, 1)


@pytest.mark.parametrize(("is_sorted", "expected"), [(0, ["b", "a", "c"]), (1, ["a", "b", "c"])])
def test_texts_stay_in_their_order_where_they_shall(is_sorted: int, expected: list[str]) -> None:
    for outputs in ((True,), (True, True, True, True)):
        found = _on_texts(OpCase("Unique", 11, (TEXTS,), {"sorted": is_sorted}, outputs))
        assert found[0].tolist() == expected
    values, places, inverse, counts = found
    assert [TEXTS[place] for place in places] == expected
    assert [values[place] for place in inverse] == TEXTS.tolist()
    assert counts.tolist() == [TEXTS.tolist().count(text) for text in expected]


def _on_texts(case: OpCase) -> list[np.ndarray]:
    names = [f"x{i}" for i in range(len(case.inputs))]
    node = helper.make_node(case.op, names, [f"y{i}" for i in range(len(case.outputs))], **case.attributes)
    types = [TensorProto.STRING if a is not None and a.dtype == object else TensorProto.INT64 for a in case.inputs]
    infos = [
        helper.make_tensor_value_info(name, code, a.shape)
        for name, code, a in zip(names, types, case.inputs, strict=True)
        if a is not None
    ]
    results = [onnx.ValueInfoProto(name=name) for name in node.output]
    model = helper.make_model(
        helper.make_graph([node], "texts", infos, results), opset_imports=[helper.make_opsetid("", case.opset)]
    )
    with Session(model, cache=False) as session:
        return list(session.run(dict(zip(names, case.inputs, strict=True))).values())


# --- the reference ----------------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(5)


def drawn(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "case",
    [
        OpCase("Unsqueeze", 11, (drawn(1, 1, 2),), {"axes": [3, 0]}),
        OpCase("Unsqueeze", 13, (drawn(1, 1, 2), np.array([-1, 0]))),
        OpCase("Unique", 11, (np.float32([2, 0, 2, 1]),), {"sorted": 0}),
        OpCase("Unique", 11, (drawn(3, 2)[:, [0, 1, 0]],), {"axis": 1}, (True, True, True, True)),
        OpCase("Shape", 19, (drawn(1, 2, 3),), {"start": -9, "end": -4}),
        OpCase("LRN", 13, (drawn(2, 5, 3, 3),), {"size": 4, "alpha": 0.1, "bias": 2.0}),
        OpCase("MaxPool", 12, (drawn(2, 3, 4, 5),), {"kernel_shape": [2, 2]}, (True, True)),
        OpCase(
            "MaxPool",
            12,
            (drawn(2, 3, 4, 5),),
            {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "dilations": [1, 2], "storage_order": 1},
            (True, True),
        ),
        OpCase("GlobalMaxPool", 13, (drawn(2, 3, 4),)),
        OpCase("Slice", 13, (drawn(4), *(np.array([i]) for i in (-9, -(2**31), 0, -1)))),
        OpCase("Softmax", 11, (drawn(2, 3, 4),), {"axis": 1}),
    ],
    ids=repr,
)
def test_the_reference_is_right_where_onnx_reference_is_not(case: OpCase) -> None:
    results = []
    for device in ("cpu", "reference"):
        with Session(case.model(), devices=[device], strict=True, cache=False) as session:
            results.append(list(session.run(case.feeds).values()))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, strict=True)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            OpCase("LSTM", 14, (drawn(2, 1, 2), drawn(1, 12, 2), drawn(1, 12, 3)), {"hidden_size": 3, "clip": 0.5}),
            "clip",
        ),
        (
            OpCase(
                "GRU",
                14,
                (drawn(2, 1, 2), drawn(1, 9, 2), drawn(1, 9, 3)),
                {"hidden_size": 3, "activations": ["Sigmoid", "Relu"]},
            ),
            "activations",
        ),
    ],
    ids=["clip", "activations"],
)
def test_what_onnx_reference_ignores_is_declined(case: OpCase, words: str) -> None:
    with (
        pytest.raises(MaceError, match=f"ignores {words}"),
        Session(case.model(), devices=["reference"], strict=True, cache=False) as session,
    ):
        session.run(case.feeds)
