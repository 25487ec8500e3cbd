"""Fuzzing one operator: hypothesis draws cases, finds failures and makes them small."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.graphs import GRAPH, GraphCase, decide_partitions, graph_cases
from mace_testing.fuzzing.registry import cases
from mace_testing.fuzzing.verdict import Outcome, Verdict, decide

SHRINK_SECONDS = 20.0
"""How long a failure is made smaller."""

Case = OpCase | GraphCase


@dataclass
class Findings:
    """What one operator's examples came to; ``refusals``: reason -> how often the provider declined for it;
    ``error``: what broke the fuzzer itself."""

    op: str
    domain: str
    seed: int
    outcomes: dict[Outcome, int] = field(default_factory=collections.Counter)
    refusals: dict[str, int] = field(default_factory=collections.Counter)
    failure: tuple[Case, Verdict] | None = None
    error: str = ""

    @property
    def examples(self) -> int:
        return sum(self.outcomes.values())


class _FailingError(Exception):
    """Tells hypothesis that an example fails."""


def explore(
    op: str,
    domain: str,
    devices: Sequence[str],
    *,
    seed: int | None,
    examples: int,
    begin: Callable[[Case], None] = lambda case: None,
) -> Findings:
    """Try ``examples`` cases of one operator, or random graphs where it is `GRAPH`.

    Args:
        devices: the first runs single nodes; graphs are spread over all of them.
        seed: of the random choices; None for the same ones every time.
        begin: called with each case before it runs, for those that do not come back.

    Returns:
        The counts and, where an example fails, the smallest one found.
    """
    import hypothesis

    findings = Findings(op, domain, seed or 0)
    deadline: list[float] = []

    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=seed is None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(graph_cases() if op == GRAPH else cases(op, domain))
    def probe(case: Case) -> None:
        if deadline and time.monotonic() > deadline[0]:
            return
        begin(case)
        verdict = decide_partitions(case, devices) if isinstance(case, GraphCase) else decide(case, devices[0])
        if not deadline:
            findings.outcomes[verdict.outcome] += 1
            if verdict.outcome is Outcome.DECLINED:
                findings.refusals[verdict.detail] += 1
        if verdict.is_failure:
            findings.failure = (case, verdict)
            if not deadline:
                deadline.append(time.monotonic() + SHRINK_SECONDS)
            raise _FailingError

    if seed is not None:
        probe = hypothesis.seed(seed)(probe)
    try:
        probe()
    except (_FailingError, hypothesis.errors.Flaky):
        # the smallest failing case was kept; it is flaky to hypothesis where time ran out
        if findings.failure is None:
            raise
    return findings
