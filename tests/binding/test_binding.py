"""State that stays with a stream of runs gives the results that passing it through the caller gives."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bound_models
import numpy as np
import onnx
import pytest
from bound_cases import CASES, CLOSE, JUDGED, Case, follow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mace_core import CancelFlag, Session
from mace_core.errors import CancelledError, InputError, UsageError
from mace_core.scheduler.profile import Profile


@pytest.mark.parametrize("name", CASES)
def test_a_bound_stream_computes_what_passing_the_state_does(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    with case.session.bind(case.pairs, case.start, capacity=4) as bound:
        counts = [3, 1, 1, 1, 1, 2, 1, 1, 1, 4, 1, 1]
        length = follow(case, bound, counts, judged=name in JUDGED)
    assert length == (len(counts) if name == "decoder" else sum(counts))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(CASES)),
    counts=st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 7]), min_size=1, max_size=12),
    capacity=st.sampled_from([None, 1, 2, 5, 64]),
    seed=st.integers(0, 9),
)
def test_random_sequences(
    cases: dict[str, Case], name: str, counts: list[int], capacity: int | None, seed: int
) -> None:
    case = cases[name]
    with case.session.bind(case.pairs, case.start, capacity=capacity) as bound:
        length = follow(case, bound, counts, judged=False, seed=seed)
    assert length == (len(counts) if name == "decoder" else sum(counts))


def test_a_limit_is_kept_and_leaves_the_state_as_it_is(cases: dict[str, Case]) -> None:
    for name in ("decoder", "masked"):
        case = cases[name]
        random = np.random.default_rng(0)
        with case.session.bind(case.pairs, case.start, limit=3) as bound:
            for past in range(3):
                bound.run(case.feeds(past, 1, random))
            before = {output: bound.read(output) for output in case.pairs.values()}
            for _ in range(2):
                with pytest.raises(InputError, match="4 entries, more than the limit of 3"):
                    bound.run(case.feeds(3, 1, random))
            for output, array in before.items():
                np.testing.assert_array_equal(bound.read(output), array)
            bound.rewind(1)
            bound.run(case.feeds(2, 1, random))


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_cancelled_leaves_the_state_as_it_is(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    random = np.random.default_rng(0)
    cancelled = CancelFlag()
    cancelled.set()
    with case.session.bind(case.pairs, case.start) as bound:
        for past in range(4):
            bound.run(case.feeds(past, 1, random))
            before = {output: bound.read(output) for output in case.pairs.values()}
            with pytest.raises(CancelledError):
                bound.run(case.feeds(past + 1, 1, random), cancel=cancelled)
            for output, array in before.items():
                np.testing.assert_array_equal(bound.read(output), array)


def test_streams_of_two_threads_do_not_touch_each_other(cases: dict[str, Case]) -> None:
    case = cases["masked"]
    faults: list[BaseException] = []

    def stream(seed: int) -> None:
        try:
            with case.session.bind(case.pairs, case.start, capacity=2) as bound:
                follow(case, bound, [seed + 1, *[1] * 20], judged=False, seed=seed)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=stream, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_one_stream_is_not_for_two_threads(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs) as bound:
        found: list[BaseException] = []

        def run() -> None:
            try:
                bound.run({"ids": np.array([[1]])})
            except UsageError as error:
                found.append(error)

        with bound._held():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        assert len(found) == 1 and "one binding for each stream" in str(found[0])
        bound.run({"ids": np.array([[1]])})


def test_rewinding_is_as_if_it_had_not_been_computed(cases: dict[str, Case]) -> None:
    for name in ("decoder", "merged", "masked"):
        case = cases[name]
        random = np.random.default_rng(0)
        steps = [case.feeds(past, 1, random) for past in range(6)]
        with case.session.bind(case.pairs, case.start) as bound:
            for feeds in steps:
                last = bound.run(feeds)
            bound.rewind(2)
            assert set(bound.lengths.values()) == {4}
            for feeds in steps[4:]:
                again = bound.run(feeds)
            for output, array in last.items():
                np.testing.assert_array_equal(again[output], array)
            with pytest.raises(UsageError, match="has 6 entries and cannot be rewound by 7"):
                bound.rewind(7)


def test_what_does_not_grow_cannot_be_rewound(cases: dict[str, Case]) -> None:
    case = cases["recurrent"]
    with case.session.bind(case.pairs, case.start) as bound:
        bound.run(case.feeds(0, 2, np.random.default_rng(0)))
        with pytest.raises(UsageError, match="does not grow"):
            bound.rewind(1)


def test_a_binding_begins_again(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs, capacity=8) as bound:
        first = [bound.run({"ids": np.array([[token]])})["logits"] for token in range(5)]
        bound.reset()
        again = [bound.run({"ids": np.array([[token]])})["logits"] for token in range(5)]
        np.testing.assert_array_equal(first, again)
        longer = {name: np.full((1, 4, 20, 32), 0.5, np.float32) for name in case.pairs}
        bound.reset(longer)
        found = bound.run({"ids": np.array([[7]])})["logits"]
        expected = case.session.run({"ids": np.array([[7]]), **longer})["logits"]
        np.testing.assert_array_equal(found, expected)
        assert set(bound.lengths.values()) == {21}


def test_what_it_begins_with_is_copied(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    start = {name: np.ones((1, 4, 3, 32), np.float32) for name in case.pairs}
    expected = case.session.run({"ids": np.array([[7]]), **start})["logits"]
    with case.session.bind(case.pairs, start) as bound:
        for array in start.values():
            array[...] = np.nan
        np.testing.assert_array_equal(bound.run({"ids": np.array([[7]])})["logits"], expected)


def test_without_a_start_the_first_state_is_empty_or_zeros(cases: dict[str, Case]) -> None:
    for name in CASES:
        case = cases[name]
        feeds = case.feeds(0, 1, np.random.default_rng(0))
        with case.session.bind(case.pairs) as bound:
            if name == "merged":  # of an encoder's states, nothing says how many
                continue
            found, expected = bound.run(feeds), case.session.run({**feeds, **case.start})
            for output, array in found.items():
                np.testing.assert_array_equal(array, expected[output])


def test_bound_outputs_are_given_where_they_are_asked_for(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs, capacity=16) as bound:
        for token in range(4):
            found = bound.run({"ids": np.array([[token]])}, outputs=["present_k_0"])
            assert list(found) == ["present_k_0"] and found["present_k_0"].shape == (1, 4, token + 1, 32)
            found["present_k_0"][...] = np.nan  # the caller's own
        assert np.isfinite(bound.read("present_k_0")).all()
        bound.read("past_k_0")[...] = np.nan
        assert np.isfinite(bound.run({"ids": np.array([[9]])})["logits"]).all()


def test_a_run_may_be_profiled(cases: dict[str, Case]) -> None:
    case, profile = cases["decoder"], Profile()
    with case.session.bind(case.pairs, capacity=16) as bound:
        for token in range(3):
            bound.run({"ids": np.array([[token]])})
        bound.run({"ids": np.array([[3]])}, profile=profile)
    assert profile.spans and profile.end_ns > profile.start_ns


def test_numbers_may_be_checked(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with (
        Session(case.path, devices=["cpu"], check_numerics=True) as session,
        session.bind(case.pairs) as bound,
        case.session.bind(case.pairs) as plain_bound,
    ):
        for token in range(3):
            feeds = {"ids": np.array([[token]])}
            np.testing.assert_allclose(bound.run(feeds)["logits"], plain_bound.run(feeds)["logits"], **CLOSE)


def test_a_closed_binding_says_so(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    bound = case.session.bind(case.pairs)
    bound.run({"ids": np.array([[1]])})
    bound.close()
    bound.close()
    assert all(state.value is None and state.room is None for state in bound._states)
    with pytest.raises(UsageError, match="is closed"):
        bound.run({"ids": np.array([[1]])})


FAULTS: list[tuple[Mapping[str, str], dict[str, Any], str]] = [
    ({}, {}, "there is nothing to bind"),
    ({"past_q_0": "present_k_0"}, {}, "has no input 'past_q_0' to bind"),
    ({"past_k_0": "present"}, {}, "has no output 'present' to bind"),
    ({"past_k_0": np.zeros(3)}, {}, "ndarray is no name, and arrays are given as inputs="),  # type: ignore[dict-item]
    ({"ids": "logits"}, {}, "their element types are float32 and int64"),
    ({"past_k_0": "logits"}, {}, "their shapes are"),
    (
        {"past_k_0": "present_k_0"},
        {"capacity": -1},
        "capacity is a number of entries up to 16,777,216 and cannot be -1",
    ),
    ({"past_k_0": "present_k_0"}, {"capacity": 10**12}, "cannot be 1,000,000,000,000"),
    ({"past_k_0": "present_k_0"}, {"limit": 1.5}, "limit is a number of entries, not 1.5"),
    ({"past_k_0": "present_k_0"}, {"start": {"ids": np.zeros((1, 1))}}, "'ids', which is not a bound input"),
    ({"past_k_0": "present_k_0"}, {"start": {"past_k_0": np.zeros((1, 4, 2, 9), np.float32)}}, "wrong size in axis 3"),
    ({"past_k_0": "present_k_0"}, {"start": {"past_k_0": np.zeros((1, 4, 2, 32))}}, "has element type float64"),
]


@pytest.mark.parametrize(("pairs", "options", "message"), FAULTS)
def test_what_does_not_fit_is_refused_in_a_sentence(
    cases: dict[str, Case], pairs: Mapping[str, str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        cases["decoder"].session.bind(pairs, **options)
    assert message in str(error.value)


def test_feeds_that_do_not_fit_are_refused_and_change_nothing(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs) as bound:
        with pytest.raises(UsageError, match="no state 'present_k_0' before the first run"):
            bound.read("present_k_0")
        with pytest.raises(UsageError, match="'logits' is not bound"):
            bound.read("logits")
        with pytest.raises(InputError, match=r"input 'ids' .* is missing"):
            bound.run({})
        with pytest.raises(InputError, match="is bound to output 'present_k_0' and cannot be fed"):
            bound.run({"ids": np.array([[1]]), "past_k_0": np.zeros((1, 4, 0, 32), np.float32)})
        with pytest.raises(UsageError, match="no output 'x'"):
            bound.run({"ids": np.array([[1]])}, outputs=["x"])
        bound.run({"ids": np.array([[1]])})
        with pytest.raises(InputError, match="dimension 'b' is"):
            bound.run({"ids": np.array([[1], [2]])})
        assert set(bound.lengths.values()) == {1}
        bound.reset()
        bound.run({"ids": np.array([[1], [2]])})
        assert bound.read("present_k_0").shape == (2, 4, 1, 32)


def test_a_default_is_not_fed_to_a_binding(tmp_path: Path) -> None:
    model = bound_models.recurrent()
    value = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [1, 24, 8])
    model.graph.input.append(value)
    path = tmp_path / "defaults.onnx"
    onnx.save(model, path)
    x = np.zeros((2, 2, 8), np.float32)
    with Session(path, devices=["cpu"]) as session, session.bind({"h": "h_next"}) as bound:
        assert bound.run({"x": x})["y"].shape == (2, 1, 2, 8)
        with pytest.raises(InputError, match="'w' has a default, which holds for all runs of a binding"):
            bound.run({"x": x, "w": np.zeros((1, 24, 8), np.float32)})


def test_a_binding_ends_with_its_session(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    session = Session(case.path, devices=["cpu"], cache=False)
    bound = session.bind(case.pairs)
    bound.run({"ids": np.array([[1]])})
    session.close()
    with pytest.raises(UsageError, match="is closed"):
        bound.run({"ids": np.array([[1]])})
    assert bound.read("present_k_0").shape == (1, 4, 1, 32)
    bound.close()
