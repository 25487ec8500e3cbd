"""The laws of folded Transposes: results stay the same to the last bit, and never more is moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from layout_support import drawn_graphs, folded, moved, run

from mace_core.graph import Graph


@pytest.mark.parametrize("examples", [25, pytest.param(1500, marks=pytest.mark.full)])
def test_folding_transposes_changes_no_bit_and_moves_no_more(examples: int) -> None:
    less = []

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate, Phase.shrink])  # fmt: skip
    @given(drawn_graphs())
    def check(drawn: tuple[Graph, dict[str, Any]]) -> None:
        graph, feeds = drawn
        found = folded(graph)
        before, after = moved(graph, feeds), moved(found, feeds)
        assert after <= before
        less.append(after < before)
        expected, results = run(graph, feeds), run(found, feeds)
        assert list(results) == list(expected)
        for name, result in results.items():
            np.testing.assert_array_equal(result, expected[name], strict=True, err_msg=name)

    check()
    assert sum(less) > examples / 20, "there was hardly anything to fold, so this test tells nothing"
