"""Failures of the reference provider that the fuzzer found, each as the smallest case."""

from __future__ import annotations

import numpy as np
import pytest
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.verdict import Outcome, decide


def check(case: OpCase) -> None:
    verdict = decide(case, "reference")
    assert verdict.outcome is Outcome.RIGHT, f"{verdict.outcome.value}: {verdict.detail}"


@pytest.mark.parametrize("axes", [None, [0], [-1]])
@pytest.mark.parametrize("start", [-2, -9])
@pytest.mark.parametrize("step", [-1, 1])
def test_slice_from_before_the_first_element(axes: list[int] | None, start: int, step: int) -> None:
    x = np.arange(4, dtype=np.float32)
    end = -(2**31) if step < 0 else 2**31 - 1
    rows = [np.array([value], np.int64) for value in (start, end, step)]
    check(OpCase("Slice", 13, (x, rows[0], rows[1], None if axes is None else np.array(axes), rows[2])))
