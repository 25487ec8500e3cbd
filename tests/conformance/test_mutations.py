"""The kit finds each fault that is put into the example vendor, and says of which operator it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "vendor_plugin"))
sys.path.insert(0, str(Path(__file__).parent))

from acme_npu.provider import AcmeProvider
from mutations import KERNELS, Mutation

from mace_core.provider import Backend
from mace_core.testing import Declaration, ProviderConformance


class Kit(ProviderConformance):
    """Not collected: its checks are called one by one."""

    __test__ = False
    declaration = Declaration(provider="acme", device="sim0", tolerance=1e-6, serializes=True, streams=True)


QUICK = ("Conv", "Softmax")

CHECKS = {
    "forms": Kit().test_every_form_of_an_operator_is_right_or_declined,
    "neighbors": Kit().test_a_result_is_right_whoever_reads_it,
    "clusters": Kit().test_quantized_clusters_are_right_or_declined,
}


@pytest.fixture
def backend() -> Iterator[Backend]:
    provider = AcmeProvider()
    opened = provider.open(provider.probe().devices[0], {})
    yield opened
    opened.close()


FIRST = {(mutation.section, mutation.operator): mutation for mutation in reversed(KERNELS)}.values()
"""One fault of each operator; the full tier tries all."""


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(mutation, id=mutation.name, marks=[] if mutation in FIRST else pytest.mark.full)
        for mutation in KERNELS
    ],
)
def test_a_fault_of_a_kernel_is_found(mutation: Mutation, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    with pytest.raises(AssertionError) as found:
        CHECKS[mutation.section](backend, mutation.operator, None, lambda name, value: None)
    report = str(found.value)
    if not (report.startswith(f"{mutation.operator}: ") and re.search(mutation.words, report, re.DOTALL)):
        pytest.fail(report)


@pytest.mark.parametrize(
    "operator",
    [
        pytest.param(operator, marks=[] if operator in QUICK else pytest.mark.full)
        for operator in sorted({mutation.operator for mutation in KERNELS})
    ],
)
def test_without_a_fault_nothing_is_found(operator: str, backend: Backend) -> None:
    """Nor does the vendor's own run of the kit, whose quick tier has all operators."""
    for check in CHECKS.values():
        if check is not CHECKS["clusters"]:
            check(backend, operator, None, lambda name, value: None)
