"""How many bytes of results are alive at each moment of a run, by device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mace_core.report.wiring import Wiring
    from mace_core.scheduler.profile import Profile, Span

INPUTS = "inputs"


@dataclass(frozen=True, slots=True)
class Liveness:
    """Bytes of values alive, as a staircase.

    Attributes:
        times_ns: since the start of the run, ascending.
        nbytes: by device, from each of the times on; of the model's inputs under "inputs".
        unsized: values whose size only the run tells; they do not count.
        peak_bytes: the most at one moment.
    """

    times_ns: tuple[int, ...]
    nbytes: Mapping[str, tuple[int, ...]]
    unsized: int
    peak_bytes: int


def liveness(
    profile: Profile, wiring: Wiring, sizes: Mapping[str, int], inputs: Sequence[str], outputs: Sequence[str]
) -> Liveness:
    """From the start of the step that writes a value to the end of the last one that reads it.

    What is written and read within one step only (a fused chain) is never in memory.  Inputs live from the start to
    their last reader, outputs to the end.

    Args:
        sizes: bytes by name of value.
        inputs, outputs: names of those of the model.
    """
    of_node: dict[str, list[Span]] = defaultdict(list)
    for span in profile.spans:
        for name in span.source:
            of_node[name].append(span)
    ran = [
        list({id(s): s for name in (node.node, *node.source) for s in of_node.get(name, ())}.values())
        for node in wiring.nodes
    ]
    end = max(profile.work_end_ns, profile.start_ns)
    changes: list[tuple[int, str, int]] = []
    unsized = 0
    for writer, name, readers in wiring.values:
        spans = ran[writer]
        reading = [span for reader in readers for span in ran[reader]]
        if not spans or (name not in outputs and {id(s) for s in reading} <= {id(s) for s in spans}):
            continue
        if name not in sizes:
            unsized += 1
            continue
        start = min(span.start_ns for span in spans)
        stop = end if name in outputs else max(span.end_ns for span in (*reading, *spans))
        device = wiring.nodes[writer].device
        changes += [(start, device, sizes[name]), (stop, device, -sizes[name])]
    for name in inputs:
        reading = [
            span
            for index, node in enumerate(wiring.nodes)
            if name in node.inputs and not node.scope
            for span in ran[index]
        ]
        size = sizes.get(name, 0)
        stop = max((span.end_ns for span in reading), default=profile.start_ns)
        changes += [(profile.start_ns, INPUTS, size), (stop, INPUTS, -size)]
    return _staircase(changes, profile.start_ns, end, unsized)


def _staircase(changes: Sequence[tuple[int, str, int]], start: int, end: int, unsized: int) -> Liveness:
    names = list(dict.fromkeys(name for _, name, _ in changes))
    by_time: dict[int, dict[str, int]] = {start: {}}
    for moment, name, size in changes:
        at = by_time.setdefault(moment, {})
        at[name] = at.get(name, 0) + size
    by_time.setdefault(end, {})
    level = dict.fromkeys(names, 0)
    times = sorted(by_time)
    stairs: dict[str, list[int]] = {name: [] for name in names}
    peak = 0
    for moment in times:
        for name, size in by_time[moment].items():
            level[name] += size
        peak = max(peak, sum(level.values()))
        for name in names:
            stairs[name].append(level[name])
    return Liveness(
        tuple(moment - start for moment in times),
        {name: tuple(steps) for name, steps in stairs.items()},
        unsized,
        peak,
    )
