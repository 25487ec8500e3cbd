"""The law of axis maps: a node gives the same results in every order of axes that its map admits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import cases, covered

from mace_core import Session
from mace_core.errors import MaceError
from mace_core.frontend.load import load_model
from mace_core.graph import Graph
from mace_core.operators.registry import operators_with_axis_map
from mace_core.optimizer import optimize
from mace_core.optimizer.constants import LiftConstants
from mace_core.optimizer.layout.facts import Facts
from mace_core.optimizer.layout.problem import Problem
from mace_core.optimizer.layout.rewrite import Rewriting

OPERATORS = sorted(set(operators_with_axis_map("")) & {op for domain, op in covered() if not domain})

FEW = 3

ROUNDED = {
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum"),
    *("ReduceSumSquare", "Softmax", "LogSoftmax", "LpNormalization", "GlobalAveragePool", "GroupNormalization"),
    *("InstanceNormalization", "LayerNormalization", "RMSNormalization", "LRN", "MatMul", "Resize", "Upsample"),
    *("CumSum", "CumProd", "ScatterElements", "Gelu", "Mean", "Sum", "BatchNormalization"),
}
"""Operators that may add in another order, which rounds differently."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What a node makes of infinities is not at issue here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        yield
        logging.disable(logging.NOTSET)


def _reordered(graph: Graph, data: st.DataObject) -> bool:
    """Give the node another order; False where it has none."""
    optimize(graph, [LiftConstants()])
    problem = Problem(graph, Facts(graph, graph.opset_imports, {}), graph.opset_imports)
    for node, found in problem.maps.items():
        free = [axis for axis in range(found.count) if axis not in found.pinned]
        shuffled = iter(data.draw(st.permutations(free)))
        order = [axis if axis in found.pinned else next(shuffled) for axis in range(found.count)]
        for axis, other in found.movable.items():
            if data.draw(st.booleans()):
                order.insert(other, order.pop(axis))
        order = tuple(order)
        if order == tuple(range(found.count)):
            return False
        problem.orders[node] = order
        Rewriting(problem).apply()
        return True
    return False


def _results(graph: Graph, feeds: dict[str, Any]) -> list[Any] | str:
    try:
        with Session(graph, devices=["cpu"], optimize=False, cache=False) as session:
            return list(session.run(feeds).values())
    except MaceError as error:
        return str(error)


@pytest.mark.parametrize("examples", [FEW, pytest.param(60, marks=pytest.mark.full)])
@pytest.mark.parametrize("op", OPERATORS)
def test_any_order_that_a_map_admits_gives_the_same(op: str, examples: int) -> None:
    reordered = []

    @seed(1)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])  # fmt: skip
    @given(cases(op), st.data())
    def check(case: OpCase, data: st.DataObject) -> None:
        graph = load_model(case.model())
        if not _reordered(graph, data):
            return
        reordered.append(case)
        expected, found = _results(load_model(case.model()), case.feeds), _results(graph, case.feeds)
        if isinstance(expected, str):
            return  # it cannot be run at all
        assert not isinstance(found, str), f"{case!r}: {found}"
        for one, other in zip(expected, found, strict=True):
            if op in ROUNDED and one.dtype.kind not in "iub":
                scale = np.abs(one[np.isfinite(one)].astype(np.float64)).max(initial=1e-6)
                step = 64 * np.finfo(one.dtype).eps if one.dtype.kind == "f" else 0.05
                np.testing.assert_allclose(
                    other.astype(np.float64), one.astype(np.float64), atol=step * scale, rtol=step, err_msg=repr(case)
                )
            else:
                np.testing.assert_array_equal(other, one, strict=True, err_msg=repr(case))

    check()
    if examples > FEW:
        assert reordered, "no example had another order, so this test tells nothing"


def test_most_operators_that_move_with_axes_have_a_map() -> None:
    """A family that is lost shows here."""
    assert len(operators_with_axis_map("")) > 100
