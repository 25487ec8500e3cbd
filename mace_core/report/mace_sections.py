"""The statistics that the benchmark of Xiaomi's MACE prints, in its eight sections.

    with Session("model.onnx") as session:
        found = measure_sections(session, "model.onnx", {"x": array}, warmup=1, runs=100)
    for table in found.tables():
        print(table.text())

An operation is a step that a device ran.  It may stand for several nodes of the model, a convolution and what was fused
into it: its type and its name then list all of them, and stride, pad, filter and dilation are the convolution's.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mace_core.presentation import Column, Table, number
from mace_core.progress import report
from mace_core.report.layer_facts import LayerFacts, layer_facts, listed

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.report.model_facts import ModelFacts
    from mace_core.scheduler.profile import Profile, Span
    from mace_core.session import Session

LONGEST_OPERATIONS = 10
"""Rows of "sort by computation time"."""

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_OPERATORS_SHOWN = 5
_NAMES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Rounds:
    """Times of the runs of one section, in seconds, in the order they were run."""

    seconds: tuple[float, ...]

    def row(self) -> tuple[str, ...]:
        """Round, and in milliseconds first, current (the last), least, most, mean and standard deviation."""
        if not self.seconds:
            return ("0", *("",) * 6)
        ms = [each * 1e3 for each in self.seconds]
        figures = (ms[0], ms[-1], min(ms), max(ms), statistics.fmean(ms), statistics.pstdev(ms))
        return (str(len(ms)), *(f"{each:.3f}" for each in figures))

    def as_data(self) -> dict[str, Any]:
        return {
            "rounds": len(self.seconds),
            "mean_seconds": statistics.fmean(self.seconds) if self.seconds else None,
            "standard_deviation_seconds": statistics.pstdev(self.seconds) if self.seconds else None,
            "seconds": list(self.seconds),
        }


@dataclass(slots=True)
class Operation:
    """A step of the runs with statistics.

    Attributes:
        kind: the operators it stands for, joined by "+".
        name: the step's own; where that only repeats the operators, the nodes' names.
        device: where it ran.
        nodes: of the model, that it stands for; none for a transfer.
        macs: multiply-accumulates of one call.
        layer: what it is described by: the node with a filter, or the only one.
        starts, seconds: of each call: when it began after the start of its run, and how long it took without what ran
            within it (the body of a loop has rows of its own).
    """

    kind: str
    name: str
    device: str
    nodes: tuple[str, ...]
    macs: int
    layer: LayerFacts
    starts: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(self.seconds)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.seconds)

    @property
    def rate(self) -> float:
        """Multiply-accumulates a second; 0 for what has none."""
        return self.macs / self.mean if self.mean else 0.0

    def as_data(self) -> dict[str, Any]:
        return {
            "op_type": self.kind,
            "name": self.name,
            "nodes": list(self.nodes),
            "device": self.device,
            "start_seconds": statistics.fmean(self.starts),
            "first_seconds": self.seconds[0],
            "mean_seconds": self.mean,
            "calls": len(self.seconds),
            "macs": self.macs,
            "gmac_per_second": self.rate / 1e9 if self.macs else None,
            "strides": list(self.layer.strides),
            "pads": self.layer.pads,
            "filter_shape": list(self.layer.filter),
            "output_shape": None if self.layer.output is None else list(self.layer.output),
            "dilations": list(self.layer.dilations),
        }


@dataclass(frozen=True, slots=True)
class MaceSections:
    """What was measured.

    Attributes:
        warmup: the runs before the others, the very first of all among them.
        plain: runs as an application makes them.
        profiled: wall times of the runs with statistics.
        operations: in the order in which they first ran.
        sums: of each profiled run, the time of all its operations.
    """

    warmup: Rounds
    plain: Rounds
    profiled: Rounds
    operations: tuple[Operation, ...]
    sums: Rounds

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a run."""
        return sum(each.macs * len(each.seconds) for each in self.operations) // max(1, len(self.sums.seconds))

    def tables(self) -> list[Table]:
        """The eight sections."""
        return [
            _rounds_table("Warm Up", self.warmup),
            _rounds_table("Run without statistics", self.plain),
            _rounds_table("Run with statistics", self.profiled),
            self._operations_table("Sort by Run Order", self.operations),
            self._operations_table("Sort by Computation Time", self._longest()[:LONGEST_OPERATIONS]),
            self._types_table(),
            self._macs_table(),
            _rounds_table("Summary of Ops' Stat", self.sums),
        ]

    def notes(self) -> list[str]:
        """What a reader of the tables has to know, a sentence each."""
        fused = [each for each in self.operations if len(each.nodes) > 1]
        found = [f"{len(self.operations)} ops total"]
        if fused:
            nodes = sum(len(each.nodes) for each in fused)
            found.append(
                f"{len(fused)} of them stand for {nodes} nodes of the model, which run together: times are of all, "
                "stride, pad, filter and dilation of the one that has a filter"
            )
        if any(each.kind in _CONTROL_FLOW for each in self.operations):
            found.append("If, Loop and Scan count without their bodies, whose operations have rows of their own")
        return found

    def as_data(self) -> dict[str, Any]:
        """The same as JSON takes it."""
        return {
            "warm_up": self.warmup.as_data(),
            "without_statistics": self.plain.as_data(),
            "with_statistics": self.profiled.as_data(),
            "operations": [each.as_data() for each in self.operations],
            "macs": self.macs,
            "summary": self.sums.as_data(),
        }

    # --- tables ---------------------------------------------------------------------------------------------------

    @property
    def _total(self) -> float:
        return sum(each.total for each in self.operations) or 1.0

    def _longest(self) -> list[Operation]:
        return sorted(self.operations, key=lambda each: -each.mean)

    def _operations_table(self, title: str, operations: Sequence[Operation]) -> Table:
        columns = (
            Column("Op Type"),
            *(number("Start", 6), number("First", 7), number("Avg(ms)"), number("%", 1), number("cdf%", 2)),
            *(number("GMACPS", 3), Column("Stride", 8), Column("Pad", 10), Column("Filter Shape", 9)),
            *(Column("Output Shape", 5), Column("Dilation", 11), Column("name", 4)),
        )
        rows, sum_so_far = [], 0.0
        for each in operations:
            sum_so_far += each.total
            layer = each.layer
            rows.append(
                (
                    each.kind,
                    f"{statistics.fmean(each.starts) * 1e3:.3f}",
                    f"{each.seconds[0] * 1e3:.3f}",
                    f"{each.mean * 1e3:.3f}",
                    f"{each.total / self._total * 100:.3f}",
                    f"{sum_so_far / self._total * 100:.3f}",
                    f"{each.rate / 1e9:.3f}",
                    listed(layer.strides),
                    layer.pads,
                    listed(layer.filter),
                    "" if layer.output is None else listed(layer.output) or "[]",
                    listed(layer.dilations),
                    each.name,
                )
            )
        return Table(columns, rows, title)

    def _types_table(self) -> Table:
        rounds = max(1, len(self.sums.seconds))
        groups: dict[str, list[Operation]] = {}
        for each in self.operations:
            groups.setdefault(each.kind, []).append(each)
        rows, sum_so_far = [], 0.0
        for kind, group in sorted(groups.items(), key=lambda item: -sum(each.total for each in item[1])):
            total = sum(each.total for each in group)
            calls = sum(len(each.seconds) for each in group)
            macs = sum(each.macs * len(each.seconds) for each in group) / rounds
            sum_so_far += total
            rows.append(
                (
                    kind,
                    str(len(group)),
                    f"{total / rounds * 1e3:.3f}",
                    f"{total / self._total * 100:.3f}",
                    f"{sum_so_far / self._total * 100:.3f}",
                    f"{macs:,.0f}",
                    f"{macs * rounds / total / 1e9 if total else 0:.3f}",
                    f"{calls / rounds:g}",
                )
            )
        columns = (
            *(Column("Op Type"), number("Count", 3), number("Avg(ms)"), number("%", 1), number("cdf%", 2)),
            *(number("MACs", 5), number("GMACPS", 4), number("Called times", 6)),
        )
        return Table(columns, rows, "Stat by Op Type")

    def _macs_table(self) -> Table:
        rates = [self.macs / each / 1e9 for each in self.sums.seconds if each]
        figures = (
            f"{rates[0] if rates else 0:.3f}",
            f"{self.macs * len(rates) / sum(self.sums.seconds) / 1e9 if rates else 0:.3f}",
            f"{statistics.pstdev(rates) if rates else 0:.3f}",
        )
        columns = number("total"), number("round"), number("first(G/s)"), number("avg(G/s)"), number("std")
        row = (f"{self.macs:,}", str(len(self.sums.seconds)), *figures)
        return Table(columns, [row], "Stat by MACs(Multiply-Accumulation)")


def measure_sections(
    session: Session, model: Model, feeds: Mapping[str, Any], *, warmup: int = 1, runs: int = 20, profiled: int = 0
) -> MaceSections:
    """Run a model as MACE's benchmark does.

    Args:
        session: open, with ``model`` in it.
        model: as given to the session; read again for the facts about its nodes.
        feeds: an array for every input.
        warmup: runs before the others.
        runs: without statistics.
        profiled: runs with statistics; 0 for as many as ``runs``.

    Raises:
        MaceError: as `Session.run`.
    """
    from mace_core.report.model_facts import facts_of, resolved_model

    warm = _timed(session, feeds, warmup, "warm up")
    plain = _timed(session, feeds, runs, "runs without statistics")
    profiles: list[Profile] = []
    for place in range(profiled or runs):
        profiles.append(session.profile(feeds))
        profiles[-1].outputs = {}
        report("runs with statistics", place + 1, profiled or runs)
    graph, types = resolved_model(model, feeds)
    operations, sums = operations_of(profiles, facts_of(graph, types), layer_facts(graph, types))
    walls = tuple(profile.duration_ns / 1e9 for profile in profiles)
    return MaceSections(warm, plain, Rounds(walls), tuple(operations), Rounds(tuple(sums)))


def operations_of(
    profiles: Sequence[Profile], facts: ModelFacts, layers: Mapping[str, LayerFacts]
) -> tuple[list[Operation], list[float]]:
    """The operations of profiled runs, and how long those of each run took together.

    Several steps for the same nodes (packing, the product itself) are several operations, and the multiply-accumulates
    of their nodes count at the longest.  In the body of a loop such steps are one operation, called several times.
    """
    found: dict[tuple[str, tuple[str, ...], str, int], Operation] = {}
    sums = []
    for profile in profiles:
        total = 0.0
        seen: Counter[tuple[str, tuple[str, ...], str]] = Counter()
        for span, own, is_nested in own_times(profile.spans, facts):
            same = (span.name, span.source, span.device)
            key = (*same, 0 if is_nested else seen[same])
            seen[same] += 1
            if key not in found:
                layer = _described(span, facts, layers)
                found[key] = Operation(_kind(span, facts), _name(span, facts), span.device, span.source, 0, layer)
            found[key].starts.append((span.start_ns - profile.start_ns) / 1e9)
            found[key].seconds.append(own / 1e9)
            total += own / 1e9
        sums.append(total)
    parts = Counter(key[:3] for key in found)
    for key, each in found.items():
        if parts[key[:3]] > 1:
            each.name += f" [step {key[3] + 1} of {parts[key[:3]]}]"
    operations = list(found.values())
    longest: dict[str, Operation] = {}
    for each in operations:
        for node in each.nodes:
            if node not in longest or each.mean > longest[node].mean:
                longest[node] = each
    for node, each in longest.items():
        each.macs += facts.macs.get(node, 0)
    return operations, sums


def own_times(spans: Sequence[Span], facts: ModelFacts) -> list[tuple[Span, int, bool]]:
    """Each span with its nanoseconds, of control flow without what ran within it, and whether it ran within another."""
    around = [span for span in spans if any(facts.operators.get(node) in _CONTROL_FLOW for node in span.source)]
    own = [span.duration_ns for span in spans]
    nested = [False] * len(spans)
    places = {id(span): at for at, span in enumerate(spans)}
    for at, span in enumerate(spans):
        outer = [
            each
            for each in around
            if each is not span and each.start_ns <= span.start_ns and span.end_ns <= each.end_ns
        ]
        if outer:
            nested[at] = True
            own[places[id(min(outer, key=lambda each: each.duration_ns))]] -= span.duration_ns
    return [(span, max(0, own[at]), nested[at]) for at, span in enumerate(spans)]


def _kind(span: Span, facts: ModelFacts) -> str:
    """Its operators in order: all of a few, else how many there are of each."""
    known = [facts.operators[node] for node in span.source if node in facts.operators]
    if len(known) <= _OPERATORS_SHOWN:
        return "+".join(known) or span.name.partition(" ")[0]
    return "+".join(f"{count} {kind}" if count > 1 else kind for kind, count in Counter(known).items())


def _described(span: Span, facts: ModelFacts, layers: Mapping[str, LayerFacts]) -> LayerFacts:
    """The facts of the node with a filter that does most; the output is that of the last node."""
    known = [layers[node] for node in span.source if node in layers]
    named = [(facts.macs.get(node, 0), layers[node]) for node in span.source if node in layers]
    with_filter = [entry for entry in named if entry[1].is_layer]
    if not known:
        return LayerFacts()
    main = max(with_filter, key=lambda entry: entry[0])[1] if with_filter else known[0]
    output = next((each.output for each in reversed(known) if each.output is not None), None)
    return LayerFacts(main.strides, main.dilations, main.pads, main.filter, output)


def _name(span: Span, facts: ModelFacts) -> str:
    """The names of its nodes; its own where that tells more than their operators."""
    operators = {facts.operators.get(node) for node in span.source}
    if not span.source or not operators.issuperset(span.name.split("+")):
        return span.name
    shown = " + ".join(span.source[:_NAMES_SHOWN])
    more = len(span.source) - _NAMES_SHOWN
    return f"{shown} + {more} more" if more > 0 else shown


def _rounds_table(title: str, rounds: Rounds) -> Table:
    columns = ("round", "first(ms)", "curr(ms)", "min(ms)", "max(ms)", "avg(ms)", "std")
    return Table([number(name) for name in columns], [rounds.row()], title)


def _timed(session: Session, feeds: Mapping[str, Any], runs: int, what: str) -> Rounds:
    seconds = []
    for place in range(runs):
        start = time.perf_counter()
        session.run(feeds)
        seconds.append(time.perf_counter() - start)
        report(what, place + 1, runs)
    return Rounds(tuple(seconds))
