"""The pytest side of the kit: its tests by case, operator and graph, and what they counted at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the kit's marker known where a project knows only its own."""
    config.addinivalue_line("markers", "full: the slow tier: long, large or exhaustive")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill in the parameters of classes that inherit from ``ProviderConformance``."""
    if metafunc.cls is None or not hasattr(metafunc.cls, "declaration"):
        return
    from mace_core.testing.conformance import ProviderConformance

    if not issubclass(metafunc.cls, ProviderConformance):
        return
    from mace_core.testing.cases import operator_cases
    from mace_core.testing.forms import operator_forms
    from mace_core.testing.graphs import mixed_graphs
    from mace_core.testing.kit.neighbors import FUSING
    from mace_core.testing.quantized import quantized_clusters

    wanted = set(metafunc.fixturenames)
    declaration = metafunc.cls.declaration
    for name in ("case", "claimed_case"):
        if name in wanted:
            cases = [case for case in operator_cases() if name == "case" or declaration.claims(case)]
            metafunc.parametrize(name, cases, ids=[case.name for case in cases])
    if "mixed" in wanted:
        graphs = mixed_graphs()
        metafunc.parametrize("mixed", [item.graph for item in graphs.values()], ids=list(graphs))
    if "neighbor_operator" in wanted:
        slower = [pytest.param("combined", operator, marks=pytest.mark.full) for operator in sorted(operator_forms())]
        metafunc.parametrize(
            ("tier", "neighbor_operator"), [*(("each alone", operator) for operator in sorted(FUSING)), *slower]
        )
    elif "tier" in wanted:
        metafunc.parametrize("tier", ["each alone", pytest.param("combined", marks=pytest.mark.full)])
    if "form_operator" in wanted:
        metafunc.parametrize("form_operator", sorted(operator_forms()))
    if "cluster_operator" in wanted:
        metafunc.parametrize("cluster_operator", sorted(quantized_clusters()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many forms of operators were claimed and right, and how many declined."""
    from mace_core.testing.kit_names import TALLY

    totals: dict[str, Counter[str]] = defaultdict(Counter)
    declined: dict[str, set[str]] = defaultdict(set)
    claimed: dict[str, set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, tally in getattr(report, "user_properties", ()):
                if name != TALLY:
                    continue
                provider = tally["provider"]
                totals[provider].update({key: tally[key] for key in ("right", "wrong", "declined", "left out")})
                if tally["right"] or tally["wrong"]:
                    claimed[provider].add(tally["operator"])
                elif tally["declined"] or tally["left out"]:
                    declined[provider].add(tally["operator"])
    for provider, counts in sorted(totals.items()):
        untried = sorted(declined[provider] - claimed[provider])
        terminalreporter.section(f"conformance of {provider}", sep="-")
        terminalreporter.line(
            f"graphs claimed: {counts['right']} right, {counts['wrong']} wrong; declined: {counts['declined']}; "
            f"left out, since the device computes in half precision: {counts['left out']}"
        )
        terminalreporter.line(f"operators claimed in no form ({len(untried)}): {', '.join(untried) or 'none'}")
