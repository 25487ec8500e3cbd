"""Laws of the ladder: whatever the temperatures, it does not oscillate and does not stay hot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.errors import UsageError
from mace_core.governor import Ladder, Mode, Rung, default_rungs

TRACES = st.lists(
    st.tuples(st.floats(0.01, 8.0), st.one_of(st.floats(20.0, 120.0), st.sampled_from([68.0, 75.0, 85.0, 95.0]))),
    min_size=1,
    max_size=60,
)
"""Seconds since the reading before, and degrees."""

WISHES = st.lists(st.sampled_from([None, "full", "warm", "hot", "critical"]), min_size=60, max_size=60)


def ladder(dwell: float = 10.0) -> Ladder:
    return Ladder(default_rungs(8), dwell)


@given(TRACES, st.floats(0.0, 20.0), WISHES)
def test_a_step_back_never_comes_sooner_than_the_dwell_time_after_any_change(
    trace: list[tuple[float, float]], dwell: float, wishes: list[str | None]
) -> None:
    found, now, changed = ladder(dwell), 0.0, 0.0
    for (seconds, celsius), wish in zip(trace, wishes, strict=False):
        now += seconds
        before = found.level
        found.update(now, celsius, wish)
        if found.level < before:
            assert found.level == before - 1
            assert now - changed >= dwell * (1 - 1e-12)
        if found.level != before:
            changed = now


@given(TRACES, WISHES)
def test_no_trace_leaves_it_above_a_threshold_in_a_warmer_mode(
    trace: list[tuple[float, float]], wishes: list[str | None]
) -> None:
    found, now = ladder(), 0.0
    for (seconds, celsius), wish in zip(trace, wishes, strict=False):
        now += seconds
        mode = found.update(now, celsius, wish)
        if celsius >= found.rungs[-1].begins:
            assert mode.name == "critical"  # whatever was wished
        if wish is None:
            assert all(found.level > place for place, rung in enumerate(found.rungs) if celsius >= rung.begins)


@given(TRACES)
def test_between_a_rungs_end_and_the_next_ones_beginning_nothing_changes(trace: list[tuple[float, float]]) -> None:
    found, now = ladder(), 0.0
    for seconds, celsius in trace:
        now += seconds
        before = found.level
        low = -1e9 if before == 0 else found.rungs[before - 1].ends
        high = 1e9 if before == len(found.rungs) else found.rungs[before].begins
        found.update(now, celsius)
        if low <= celsius < high:
            assert found.level == before


@given(TRACES)
def test_a_machine_that_cooled_comes_back_to_full(trace: list[tuple[float, float]]) -> None:
    found, now = ladder(), 0.0
    for seconds, celsius in trace:
        now += seconds
        found.update(now, celsius)
    for _ in range(4 * len(found.modes)):
        now += found.dwell / 2
        found.update(now, 30.0)
    assert found.mode.name == "full"


@pytest.mark.parametrize("celsius", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_temperature_is_taken_as_lost(celsius: float) -> None:
    found = ladder()
    assert found.update(0.0, celsius).name == "critical"


def test_a_wish_that_is_no_mode_is_told() -> None:
    with pytest.raises(UsageError, match="no mode 'frozen': it has full, warm, hot, critical"):
        ladder().update(0.0, 20.0, "frozen")


@pytest.mark.parametrize(
    ("rungs", "dwell", "words"),
    [
        ([], 1.0, "at least one"),
        ([Rung(Mode("a"), 70, 70)], 1.0, "lower temperature"),
        ([Rung(Mode("a"), 70, float("nan"))], 1.0, "lower temperature"),
        ([Rung(Mode("a"), 80, 70), Rung(Mode("b"), 75, 72)], 1.0, "begin above"),
        ([Rung(Mode("a"), 70, 60), Rung(Mode("a"), 80, 70)], 1.0, "names of their own"),
        ([Rung(Mode("full"), 70, 60)], 1.0, "names of their own"),
        ([Rung(Mode("a"), 70, 60)], -1.0, "dwell time"),
    ],
)
def test_ladders_that_cannot_be_are_refused(rungs: list[Rung], dwell: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Ladder(rungs, dwell)


@pytest.mark.parametrize(
    "values",
    [
        {"threads": 0},
        {"affinity": "huge"},
        {"devices": ()},
        {"devices": "cpu"},
        {"frame_rate": 0.0},
        {"frame_rate": float("nan")},
    ],
)
def test_modes_that_cannot_be_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="'odd'"):
        Mode("odd", **values)  # type: ignore[arg-type]
