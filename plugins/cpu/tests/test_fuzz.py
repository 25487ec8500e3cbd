"""Random nodes against onnx.reference and onnxruntime: a few of every operator, the same ones every time.

The long run is `python -m mace_testing.fuzz`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
from mace_cpu.shared.registry import LOWERINGS
from mace_testing.fuzzing.campaign import explore
from mace_testing.fuzzing.registry import covered
from mace_testing.fuzzing.verdict import Outcome

FEW, MANY = 2, 150

OPERATORS = sorted(covered())


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A node that is declined or refused by a judge is nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        yield
        logging.disable(logging.NOTSET)


def test_every_operator_the_provider_has_can_be_fuzzed() -> None:
    # what begins with "mace." is what tests add, and what the provider makes of quantized graphs
    operators = {(domain, op) for domain, op in LOWERINGS.operators() if not domain.startswith("mace.")}
    assert operators - {("", "If"), ("", "Loop")} <= covered()  # these have graphs in them, which are drawn as such


def _try(domain: str, op: str, examples: int) -> None:
    findings = explore(op, domain, ["cpu:0"], seed=None, examples=examples)
    assert findings.failure is None, "{0!r}: {1.outcome.value}: {1.detail}".format(*findings.failure)
    judged = findings.outcomes[Outcome.RIGHT] + findings.outcomes[Outcome.EXCUSED]
    assert judged, f"nothing was judged: {dict(findings.outcomes)} {dict(findings.refusals)}"


@pytest.mark.parametrize(
    ("domain", "op"),
    [
        pytest.param(domain, op, id=f"{domain}{op}", marks=[pytest.mark.full] if at % 4 else [])
        for at, (domain, op) in enumerate(OPERATORS)
    ],
)
def test_a_few_random_nodes(domain: str, op: str) -> None:
    _try(domain, op, FEW)


@pytest.mark.full
@pytest.mark.parametrize(("domain", "op"), OPERATORS, ids=[f"{domain}{op}" for domain, op in OPERATORS])
def test_many_random_nodes(domain: str, op: str) -> None:
    _try(domain, op, MANY)
