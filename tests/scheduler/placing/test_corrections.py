"""Measured times in the place of predictions: sums come out as measured, disturbed times are left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.policies import Link, Objective, Problem, Tensor, choose, predict
from mace_core.scheduler.placing.problem import NOWHERE
from mace_core.scheduler.planning.corrections import correct, with_runs

UNITS = [["a"], ["b", "c"], ["d"], ["e"]]


def column(times: dict[tuple[str, ...], float], *, launch: float = 0.0) -> list[float]:
    rows = [[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [4.0, 9.0]]
    correct(rows, 0, launch, UNITS, times)
    assert all(row[1] == 9.0 for row in rows)
    return [row[0] for row in rows]


def test_a_partitions_time_is_shared_as_it_was_predicted() -> None:
    assert column({("a", "b", "c", "d", "e"): 25.0}, launch=5.0) == [2.0, 4.0, 6.0, 8.0]
    assert column({("a", "b", "c"): 6.0}) == [2.0, 4.0, 3.0, 4.0]


def test_a_partition_with_a_part_of_a_unit_says_nothing() -> None:
    assert column({("a", "b"): 60.0, ("x",): 1.0}) == [1.0, 2.0, 3.0, 4.0]


def test_a_partition_that_took_longer_than_one_around_it_was_disturbed() -> None:
    whole = tuple(name for unit in UNITS for name in unit)
    assert column({whole: 10.0, ("d", "e"): 500.0}) == [1.0, 2.0, 3.0, 4.0]


@given(st.lists(st.floats(0.1, 10), min_size=4, max_size=4), st.floats(0.1, 0.9))
def test_overlapping_partitions_come_out_as_measured(truth: list[float], launch: float) -> None:
    def took(first: int, last: int) -> float:
        return sum(truth[first:last]) + launch

    names = [tuple(name for unit in UNITS[a:b] for name in unit) for a, b in ((0, 4), (0, 2), (1, 3))]
    found = column(
        dict(zip(names, (took(0, 4), took(0, 2), took(1, 3)), strict=True)),
        launch=launch,
    )
    assert sum(found) == pytest.approx(sum(truth))  # the largest is exact
    assert all(seconds >= 0 for seconds in found)


def problem() -> Problem:
    """Two branches, two devices."""
    tensors = (Tensor(-1, (0, 1), 4), Tensor(0, (2,), 4), Tensor(1, (2,), 4), Tensor(2, (), 4, is_result=True))
    free = Link()
    return Problem(
        ("a:0", "b:0"),
        ((1e-3, 1e-3), (1e-3, 1e-3), (1e-6, NOWHERE)),
        tensors,
        ((free, free), (free, free)),
        ((free, free), (free, free)),
        (0.0, 0.0),
    )


NODES = [["left"], ["right"], ["join"]]


def test_devices_that_are_in_each_others_way_are_not_used_together() -> None:
    plain = problem()
    assert set(choose(plain, Objective.OVERLAPPED).best.assignment) == {0, 1}
    run = {"left": "a:0", "right": "b:0", "join": "a:0"}, 5e-3
    known = with_runs(plain, NODES, [run])
    assert predict(known, (0, 1, 0)).overlapped == 5e-3
    assert predict(known, (1, 0, 0)).overlapped > 4e-3  # another placement on the same devices
    assert predict(known, (0, 0, 0)) == predict(plain, (0, 0, 0))
    assert choose(known, Objective.OVERLAPPED).best.assignment == (0, 0, 0)


def test_a_run_on_devices_that_are_gone_says_nothing() -> None:
    run = {"left": "c:0", "right": "a:0", "join": "a:0"}, 5e-3
    assert with_runs(problem(), NODES, [run]) == problem()
