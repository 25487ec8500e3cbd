"""Mixed precision: which nodes go back to float so that a task's metric drops by no more than allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mace_core.errors import MaceError, UsageError, describe_error
from mace_core.graph import Graph
from mace_core.graph.copying import copy_graph
from mace_core.progress import report
from mace_core.quantization.calibrate import Runner
from mace_core.quantization.outcome import Judged, Outcome
from mace_core.session import Session

Metric: TypeAlias = Callable[[Session], float]
"""Tells how good a model is on a task, by running it as often as it likes; more is better."""


@dataclass(slots=True)
class Judge:
    """A metric, and how to open what it judges.

    Attributes:
        metric: see `Metric`.
        label: what it is called in messages.
        runner: the devices.
        max_drop: by how much the quantized model may score less than the float one; None: as much as it does.
    """

    metric: Metric
    label: str
    runner: Runner
    max_drop: float | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: for a drop that is no number from 0 on.
        """
        if self.max_drop is not None and not 0 <= self.max_drop < float("inf"):
            raise UsageError(f"the drop allowed is a number from 0 on, not {self.max_drop:g}")

    def score(self, graph: Graph) -> float:
        """Of a graph, which is left as it is.

        Raises:
            UsageError: if the metric fails, or gives no finite number.
        """
        copy, _ = copy_graph(graph)
        with Session(copy, devices=self.runner.devices, options=self.runner.options, cache=False) as session:
            try:
                found = float(self.metric(session))
            except (MaceError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise UsageError(f"the accuracy function '{self.label}' failed: {describe_error(error)}") from error
        if found - found != 0:
            raise UsageError(f"the accuracy function '{self.label}' gives {found}, which is no score")
        return found

    def check(self, judged: Judged, size: str | None) -> None:
        """
        Args:
            size: that was kept to, for the message.

        Raises:
            UsageError: if the score drops by more than allowed, within a size.
        """
        if size is not None and self.max_drop is not None and judged.before - judged.after > self.max_drop:
            raise UsageError(
                f"within {size}, '{self.label}' drops from {judged.before:g} to {judged.after:g}, by more than the "
                f"{self.max_drop:g} allowed: allow a larger file or a larger drop"
            )


def search(
    quantize: Callable[[Mapping[str, str]], Outcome],
    judge: Judge,
    before: float,
    rank: Callable[[], Sequence[str]],
) -> tuple[Outcome, Judged]:
    """Put as few nodes as possible back to float, the most sensitive first.

    The number is doubled until the metric is reached, then halved towards the least that reaches it; as a metric need
    not grow with every node, the least found is kept, and is right by itself.

    Args:
        quantize: makes the outcome with some nodes, each with its reason, in float.
        before: the float model's score.
        rank: gives the names of nodes, the most sensitive first; called where anything has to be put back.

    Raises:
        UsageError: if all of them in float do not reach it.
    """
    steps: list[tuple[int, float]] = []
    order: list[str] = []

    def attempt(count: int) -> tuple[Outcome, float]:
        report("trying mixed precision", len(steps), len(steps) + 1)
        reason = "it is among the most sensitive nodes, and the drop allowed asks for it"
        outcome = quantize(dict.fromkeys(order[:count], reason))
        score = judge.score(outcome.graph)
        steps.append((count, score))
        return outcome, score

    best, score = attempt(0)
    needed = -float("inf") if judge.max_drop is None else before - judge.max_drop
    if score >= needed:
        return best, Judged(before, score, [], steps)
    order = list(rank())
    low, high = 0, 1
    found: tuple[int, Outcome, float] | None = None
    while found is None:
        high = min(high, len(order) - 1)  # one product at least stays quantized
        if high <= low:
            raise UsageError(
                f"no mixture of float and quantized nodes keeps '{judge.label}' within {judge.max_drop:g} of "
                f"{before:g}; the best try scores {max(score for _, score in steps):g}: allow a larger drop, or take "
                "the scheme a16w8"
            )
        outcome, score = attempt(high)
        if score >= needed:
            found = high, outcome, score
        else:
            low, high = high, high * 2
    while found[0] - low > 1:
        middle = (low + found[0]) // 2
        outcome, score = attempt(middle)
        if score >= needed:
            found = middle, outcome, score
        else:
            low = middle
    return found[1], Judged(before, found[2], order[: found[0]], steps)
