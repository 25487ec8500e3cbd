"""The law of quantized operators: from the same numbers, every result is within one step of LiteRT's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lite_models import assert_agree, lite_results, mace_results
from quantized_operators import FAMILIES as PRODUCTS
from quantized_operators import Drawer, pool
from quantized_shapes import FAMILIES as OTHERS

FAMILIES = {**PRODUCTS, **OTHERS}
CASES = [(kind, dtype) for kind, (_, dtypes) in FAMILIES.items() for dtype in dtypes]


@pytest.mark.parametrize("examples", [1, pytest.param(40, marks=pytest.mark.full)])
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_a_quantized_operator_is_within_one_step_of_litert(kind: str, dtype: str, examples: int) -> None:
    draw, _ = FAMILIES[kind]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])  # fmt: skip
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        assert_agree(*draw(Drawer(np.random.default_rng(seed), dtype)))

    check()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.full) for n in range(2, 40))])
def test_means_of_windows_are_litert_s_numbers(seed: int, dtype: str) -> None:
    """A quarter of all means of four numbers are halves: they go away from zero, whatever the zero point."""
    drawn = Drawer(np.random.default_rng(seed), dtype)
    content, feeds = pool("AVERAGE_POOL_2D", activation=seed % 4)(drawn)
    (expected,), (found,) = lite_results(content, feeds), mace_results(content, feeds)
    for ours, theirs in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
