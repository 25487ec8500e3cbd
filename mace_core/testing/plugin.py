"""The pytest side of the kit: one test per operator case and per mixed graph, with readable names."""

from __future__ import annotations

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill in ``case``, ``claimed_case`` and ``mixed`` for classes that inherit from ``ProviderConformance``."""
    if metafunc.cls is None or not hasattr(metafunc.cls, "declaration"):
        return
    from mace_core.testing.conformance import ProviderConformance

    if not issubclass(metafunc.cls, ProviderConformance):
        return
    if "case" in metafunc.fixturenames:
        from mace_core.testing.cases import operator_cases

        cases = operator_cases()
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])
    if "claimed_case" in metafunc.fixturenames:
        from mace_core.testing.cases import operator_cases

        cases = tuple(case for case in operator_cases() if metafunc.cls.declaration.claims(case))
        metafunc.parametrize("claimed_case", cases, ids=[case.name for case in cases])
    if "mixed" in metafunc.fixturenames:
        from mace_core.testing.graphs import mixed_graphs

        graphs = mixed_graphs()
        metafunc.parametrize("mixed", [item.graph for item in graphs.values()], ids=list(graphs))
