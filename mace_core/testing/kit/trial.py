"""Many small graphs put to one backend: compiled together, run, compared, stored and restored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mace_core.graph import Graph, GraphView
from mace_core.provider import Backend, CompiledSubgraph
from mace_core.testing.cases import Case
from mace_core.testing.declaration import Declaration
from mace_core.testing.expected import Array, expected
from mace_core.testing.kit.comparing import IMPRECISE, MIXED_FACTOR, difference, is_sentence
from mace_core.testing.runner import run_once, view_of

T = TypeVar("T")

TOGETHER = 16
"""How many graphs are compiled in one call: as many subgraphs as a model may fall into."""

SHOWN_FAULTS = 6
SINGLE_PRECISION = 1e-4
"""The least tolerance of small differences of large numbers in float32; formulas that lose all digits there miss it."""

ROUNDED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")
"""Whole numbers that are rounded from others: a device of half precision may be one step off."""


@dataclass(frozen=True)
class Trial:
    """A graph with what to feed it and what is right.

    Attributes:
        name: what is tried, readable.
        op_type: the operator it is about.
        traits: what is particular about it.
        expected: called when it is needed.
        needs_precision: not for devices of half precision.
        steps: how far whole numbers may be off.
        is_combined: whether it belongs to the slower tier, since it has more than one thing particular about it.
    """

    name: str
    op_type: str
    graph: Graph
    feeds: Mapping[str, Array]
    expected: Callable[[], Mapping[str, Array]]
    traits: Mapping[str, Any] = field(default_factory=dict)
    needs_precision: bool = False
    steps: int = 0
    is_combined: bool = False


def trial_of(case: Case, declaration: Declaration) -> Trial:
    """A case as a trial."""
    steps = 1 if declaration.tolerance > IMPRECISE and case.op_type in ROUNDED else 0
    return Trial(
        case.name,
        case.op_type,
        case.graph(),
        case.feeds(),
        lambda: expected(case),
        case.traits,
        case.needs_precision,
        steps,
        len(case.traits) > 1,
    )


@dataclass
class Outcome:
    """What became of the trials of one operator.

    Attributes:
        right: those claimed and computed right.
        declined: reason -> how many were declined with it.
        imprecise: how many were left out, because the device computes in half precision.
        faults: (trial, what is wrong) of those that were not.
    """

    right: list[Trial] = field(default_factory=list)
    declined: Counter[str] = field(default_factory=Counter)
    imprecise: int = 0
    faults: list[tuple[Trial, str]] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many were right, wrong, declined and left out."""
        return {
            "right": len(self.right),
            "wrong": len(self.faults),
            "declined": self.declined.total(),
            "left out": self.imprecise,
        }

    def report(self) -> str:
        """The faults in words: what they have in common first."""
        tried = len(self.right) + len(self.faults)
        op_type = self.faults[0][0].op_type
        lines = [f"{op_type}: {len(self.faults)} of the {tried} claimed forms are wrong"]
        lines += [f"  never right with {trait} ({count} forms)" for trait, count in self.common()]
        lines += [f"  {trial.name}: {fault}" for trial, fault in self.faults[:SHOWN_FAULTS]]
        if len(self.faults) > SHOWN_FAULTS:
            lines.append(f"  and {len(self.faults) - SHOWN_FAULTS} more")
        return "\n".join(lines)

    def common(self) -> list[tuple[str, int]]:
        """The traits that wrong forms have and right ones have not, the most frequent first."""
        right = {words for trial in self.right for words in _words(trial)}
        wrong = Counter(words for trial, _ in self.faults for words in _words(trial))
        return [(words, count) for words, count in wrong.most_common() if words not in right and count > 1][:3]


def _words(trial: Trial) -> Collection[str]:
    return {f"{name}={value}" for name, value in trial.traits.items()}


def judged(backend: Backend, trials: Sequence[Trial], declaration: Declaration) -> Outcome:
    """Put every trial to the backend.  What it declines is counted; what it claims has to be right."""
    outcome = Outcome()
    claimed: list[tuple[Trial, GraphView]] = []
    for trial in trials:
        if trial.needs_precision and declaration.tolerance > IMPRECISE:
            outcome.imprecise += 1
            continue
        view = view_of(trial.graph, trial.feeds)
        if all(view.constant(value) is not None for value in view.outputs):
            continue  # the core works it out itself, and asks no provider
        capability = backend.capability(view)
        taken = {node for claim in capability.claims for node in claim.nodes}
        reasons = {rejection.node: rejection.reason for rejection in capability.rejections}
        silent = [node for node in view.nodes if node not in taken and not is_sentence(reasons.get(node, ""))]
        if silent:
            given = reasons.get(silent[0], "")
            outcome.faults.append((trial, f"declined without a reason that its user can act on ('{given}')"))
        elif len(taken) < len(view.nodes):
            outcome.declined[next(reasons[node] for node in view.nodes if node not in taken)] += 1
        else:
            claimed.append((trial, view))
    for trial, view, compiled in _compiled(backend, claimed, outcome):
        fault = _fault_of(backend, trial, view, compiled, declaration.tolerance)
        if fault:
            outcome.faults.append((trial, fault))
        else:
            outcome.right.append(trial)
    return outcome


def _compiled(
    backend: Backend, claimed: Sequence[tuple[Trial, GraphView]], outcome: Outcome
) -> Iterator[tuple[Trial, GraphView, CompiledSubgraph]]:
    """Some at a time in one call, as the core does; one by one where that fails, so that the culprit is found."""
    for batch in batched(claimed, TOGETHER):
        try:
            together = backend.compile([view for _, view in batch])
        except Exception as error:
            yield from _one_by_one(backend, batch, outcome, error)
            continue
        for (trial, view), compiled in zip(batch, together, strict=True):
            yield trial, view, compiled


def _one_by_one(
    backend: Backend, batch: Sequence[tuple[Trial, GraphView]], outcome: Outcome, cause: Exception
) -> Iterator[tuple[Trial, GraphView, CompiledSubgraph]]:
    before = len(outcome.faults)
    for trial, view in batch:
        try:
            (compiled,) = backend.compile([view])
        except Exception as error:
            outcome.faults.append((trial, f"claimed, but compile raised {_described(error)}"))
        else:
            yield trial, view, compiled
    if len(outcome.faults) == before:
        outcome.faults.append((batch[0][0], f"compiled alone, but {len(batch)} together raised {_described(cause)}"))


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in pieces of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _fault_of(backend: Backend, trial: Trial, view: GraphView, compiled: CompiledSubgraph, tolerance: float) -> str:
    """What is wrong with the results; "" where nothing is."""
    try:
        found = run_once(backend, view, compiled, trial.feeds)
    except Exception as error:
        return f"claimed, but the run raised {_described(error)}"
    finally:
        compiled.close()
    for name, array in trial.expected().items():
        share = max(tolerance, SINGLE_PRECISION) if trial.needs_precision else tolerance
        if share > IMPRECISE and len(trial.graph.nodes) > 1:
            share *= MIXED_FACTOR  # each node rounds what the one before it rounded
        apart = difference(found[name], array, share, steps=trial.steps)
        if apart:
            return f"output {name}: {apart}"
    return ""


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
