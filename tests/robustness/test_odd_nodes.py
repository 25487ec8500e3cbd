"""One node each, with one thing odd about it: an attribute, the outputs asked for, an enormous number.

Whatever it is, the node is refused in one sentence or gives what onnxruntime gives; in processes that may die.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hostile import attributes, outputs
from hostile.__main__ import wrong_with
from hostile.agreement import findings
from hostile.case import Case
from hostile.enormous import cases as enormous
from hostile.nodes import Base, bases, by_hand
from hostile.runner import outcomes

SHARES = 16


@pytest.fixture(autouse=True)
def own_cache() -> None:
    """The cache of the whole run, not one for each test: kernels are compiled once."""


def check(
    chosen: Iterable[Base], scratch: Path, change: Callable[[Base], Iterator[Case]], *, every: int = 1
) -> tuple[int, int]:
    """How many cases there were, and how many had a result; what is wrong with any fails the test."""
    wrong: list[str] = []
    asked = ran = 0
    for found in findings(chosen, scratch, every=every, change=change):
        asked += 1
        ran += found.mine.outcome == "ran"
        case = found.mine.case
        wrong += [f"{case.family}: {case.name}: {problem}: {found.mine.told}" for problem in found.problems]
    assert not wrong, "\n".join(wrong)
    return asked, ran


@pytest.mark.timeout(600)
def test_some_odd_attributes_are_refused_or_mean_what_onnxruntime_says(tmp_path: Path) -> None:
    asked, ran = check(by_hand(), tmp_path, attributes.cases, every=197)
    assert asked > 12
    assert 5 < ran < asked


@pytest.mark.timeout(600)
def test_some_outputs_are_right_alone(tmp_path: Path) -> None:
    asked, ran = check(by_hand(), tmp_path, outputs.cases, every=2)
    assert asked > 10
    assert ran > 10


@pytest.mark.timeout(600)
def test_some_enormous_numbers_are_refused_or_computed(tmp_path: Path) -> None:
    check_enormous(list(enormous())[::18], tmp_path)


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("share", range(SHARES))
def test_all_odd_attributes(tmp_path: Path, share: int) -> None:
    check((base for i, base in enumerate(bases()) if i % SHARES == share), tmp_path, attributes.cases)


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_every_output_of_every_operator_alone(tmp_path: Path) -> None:
    check(bases(), tmp_path, outputs.cases)


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_all_enormous_numbers(tmp_path: Path) -> None:
    check_enormous(enormous(), tmp_path)


def check_enormous(cases: Iterable[Case], scratch: Path) -> None:
    wrong = [
        f"{outcome.case.name}: {problem}: {outcome.told}"
        for outcome in outcomes(cases, scratch)
        for problem in wrong_with(outcome)
    ]
    assert not wrong, "\n".join(wrong)
