"""What a check of a topology found: plain data, a table, sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mace_core.errors import shorten
from mace_core.graph import Graph
from mace_core.presentation import Column, Table, prose

_LONGEST_REASON = 110
"""Characters of it that the table shows; some devices list all that they have."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A node that a device refuses.

    Attributes:
        node, op: which.
        reason: in the device's words.
        before: the operator with the types of its inputs and outputs.
        layer: where in the user's own model it comes from, as the exporter tells it; "" where it does not.
        rule: the rewrite that mends it; "" where none does.
        after: the operators that take its place.
        error: the largest difference of the two on random inputs, as a part of its largest magnitude.
        tried: rewrites that the device does not take either, or that did not compute the same, each with the reason.
    """

    node: str
    op: str
    reason: str
    before: str
    layer: str = ""
    rule: str = ""
    after: tuple[str, ...] = ()
    error: float = 0.0
    tried: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_mended(self) -> bool:
        """Whether a rewrite takes its place."""
        return bool(self.rule)


@dataclass(frozen=True, slots=True)
class TopologyReport:
    """What a device refuses of a model, and what can be done.

    Attributes:
        model: as messages call it.
        device: that was asked, by its qualified name.
        signature: shapes of the inputs that it was asked for, ``x=1x3x224x224``.
        assumed: sizes of free dimensions that nobody gave.
        nodes, accepted: of the model as it is, and how many of them the device takes.
        nodes_after, accepted_after: of the model with the rewrites in it.
        findings: the nodes that it refuses, in order.
        error: the largest difference of the model with the rewrites from the model as it is, on random inputs, as a
            part of its largest magnitude; None where it was not run (control flow).
        graph: the model with the rewrites; for the shapes of ``signature`` alone where ``is_fixed``.
        is_fixed: the model leaves sizes free, and the rewrites are for one of them.
    """

    model: str
    device: str
    signature: str
    assumed: str
    nodes: int
    accepted: int
    nodes_after: int
    accepted_after: int
    findings: Sequence[Finding]
    error: float | None
    graph: Graph
    is_fixed: bool

    @property
    def is_accepted(self) -> bool:
        """Whether the device takes the model as it is."""
        return not self.findings

    @property
    def mended(self) -> list[Finding]:
        """Those that a rewrite mends."""
        return [finding for finding in self.findings if finding.is_mended]

    @property
    def refused(self) -> list[Finding]:
        """Those that nothing mends."""
        return [finding for finding in self.findings if not finding.is_mended]

    def as_data(self) -> dict[str, Any]:
        """Everything but the graph, ready for JSON."""
        names = ("model", "device", "signature", "assumed", "nodes", "accepted", "nodes_after", "accepted_after")
        data: dict[str, Any] = {name: getattr(self, name) for name in names}
        data["findings"] = [{**asdict(each), "is_mended": each.is_mended} for each in self.findings]
        return {**data, "error": self.error, "is_accepted": self.is_accepted, "is_fixed": self.is_fixed}

    def table(self) -> Table:
        """One row for those with one operator, reason and rewrite."""
        counted: Counter[tuple[str, ...]] = Counter()
        first: dict[tuple[str, ...], Finding] = {}
        for each in self.findings:
            key: tuple[str, ...] = (each.op, each.reason, each.rule)
            counted[key] += 1
            first.setdefault(key, each)
        rows = []
        for same, count in counted.items():
            each = first[same]
            name = f"{each.node}" + (f" and {count - 1} more" if count > 1 else "")
            after = ", ".join(_counted(each.after)) if each.is_mended else "nothing here mends it"
            rows.append(
                (
                    name,
                    each.op,
                    shorten(each.reason, _LONGEST_REASON),
                    f"{each.rule}: {after}" if each.is_mended else after,
                    each.layer,
                )
            )
        columns = Column("node", 2), Column("operator"), prose("refused because"), prose("instead"), prose("layer", 3)
        return Table(columns, rows)

    def summary(self) -> str:
        """One sentence."""
        whole = f"{self.model} at {self.signature or 'no inputs'}: {self.device} takes"
        if self.is_accepted:
            return f"{whole} all {self.nodes} nodes"
        text = f"{whole} {self.accepted} of {self.nodes} nodes"
        if not self.mended:
            return f"{text}, and no rewrite mends the other {len(self.findings)}"
        return f"{text}; with {len(self.mended)} rewrites, it takes {self.accepted_after} of {self.nodes_after}" + (
            f" (largest difference {self.error:.1e} of an output's magnitude)" if self.error is not None else ""
        )

    def __str__(self) -> str:
        return "\n".join([self.summary(), *([self.table().text(120)] if self.findings else [])])


def _counted(names: Sequence[str]) -> list[str]:
    return [f"{count} {name}" if count > 1 else name for name, count in Counter(names).items()]
