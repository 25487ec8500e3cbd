"""Results of the kit's cases: alone, in sessions with fallback, and in graphs of many nodes."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Graph
from mace_core.provider import Backend, Device
from mace_core.testing.cases import Case
from mace_core.testing.expected import expected, reference
from mace_core.testing.graphs import feeds_for
from mace_core.testing.kit.base import KitBase
from mace_core.testing.kit.comparing import MIXED_FACTOR, assert_agrees
from mace_core.testing.runner import run_once, view_of


class ResultChecks(KitBase):
    """What is computed is right."""

    def test_claimed_cases_agree_with_the_reference(self, backend: Backend, claimed_case: Case) -> None:
        case = claimed_case
        graph = case.graph()
        view = view_of(graph, case.feeds())
        (compiled,) = backend.compile([view])
        try:
            found = run_once(backend, view, compiled, case.feeds())
            again = run_once(backend, view, compiled, case.feeds())
        finally:
            compiled.close()
        for name, array in expected(case).items():
            assert_agrees(found[name], array, self.declaration.tolerance, f"{case.name}: {name}")
            np.testing.assert_array_equal(found[name], again[name], f"{case.name}: the second run differs")

    def test_every_case_is_right_in_a_session_with_fallback(self, device: Device, case: Case) -> None:
        with self.session(device, case.graph(), strict=False) as session:
            found = session.run(case.feeds())
        for name, array in expected(case).items():
            assert_agrees(found[name], array, self.declaration.tolerance, f"{case.name}: {name}")

    def test_mixed_graphs_agree_whatever_is_claimed(self, device: Device, mixed: Graph) -> None:
        feeds = feeds_for(mixed)
        right = reference(mixed, feeds)
        with self.session(device, mixed, strict=False) as session:
            found = session.run(feeds)
        for name, array in right.items():
            assert_agrees(found[name], array, MIXED_FACTOR * self.declaration.tolerance, name)
