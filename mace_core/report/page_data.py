"""What a page shows, as data for its program: short rows, with texts that repeat kept once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mace_core.report.blocks import blocks_of
from mace_core.report.measuring import by_length, median_of
from mace_core.report.trace import side_by_side
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.report.measuring import ModelProfile
    from mace_core.report.step_times import StepTime
    from mace_core.scheduler.profile import Profile

BOXES = 150_000
"""Boxes of timelines beyond which only the run of median length is shown."""

SAMPLES = 2_000
"""Samples of resident memory that are shown."""


class _Texts:
    """Each text once; rows refer to them by number."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.all)
            self.all.append(text)
        return found


def page_data(found: ModelProfile) -> dict[str, Any]:
    """Everything, ready for JSON."""
    texts = _Texts()
    steps = found.steps
    explained = found.explanation
    step_of = _step_of_nodes(steps)
    ms = sorted(seconds * 1e3 for seconds in found.latencies)
    return {
        "label": found.label,
        "version": VERSION,
        "signature": explained.signature,
        "devices": [
            {"name": name, "is": explained.devices.get(name, ""), "virtual": name in explained.virtual, "nodes": count}
            for name, count in explained.nodes_per_device.items()
        ],
        "latency": {
            "runs": len(ms),
            "median": ms[(len(ms) - 1) // 2],
            "min": ms[0],
        },
        "macs": sum(found.facts.macs.values()),
        "peaks": {name: peak / 1e9 for name, peak in found.peaks.items()},
        "notes": _notes(found),
        "choices": list(explained.choices),
        "nodes": _nodes(found, texts, step_of),
        "edges": [number for edge in found.wiring.edges for number in edge],
        "tree": blocks_of(found.wiring.nodes).as_data(),
        "partitions": [
            [
                part.device,
                len(part.nodes),
                part.predicted_seconds,
                part.measured_seconds,
                part.scope,
                list(part.padding),
            ]
            for part in explained.partitions
        ],
        "transfers": [[copy.value, copy.source, copy.target, copy.nbytes] for copy in explained.transfers],
        "steps": [_step(step, texts) for step in steps],
        "runs": _runs(found, steps, texts),
        "memory": _memory(found),
        "texts": texts.all,
    }


def _step_of_nodes(steps: Sequence[StepTime]) -> dict[str, int]:
    """The step that takes longest of those that stand for a node."""
    longest: dict[str, int] = {}
    for number, step in enumerate(steps):
        for node in step.nodes:
            if node not in longest or steps[longest[node]].seconds < step.seconds:
                longest[node] = number
    return longest


def _nodes(found: ModelProfile, texts: _Texts, step_of: dict[str, int]) -> list[list[Any]]:
    rows = []
    for node in found.wiring.nodes:
        sources = (node.node, *node.source)
        step = next((step_of[name] for name in sources if name in step_of), -1)
        declined = "\n".join(f"not on {device}: {reason}" for device, reason in node.declined.items())
        texts_of = (node.op, node.device, node.scope, node.reason, declined, node.note, found.facts.shape(sources))
        rows.append([node.node, step, node.partition, *map(texts.number, texts_of)])
    return rows


def _step(step: StepTime, texts: _Texts) -> list[Any]:
    share = None if step.share_of_peak is None else round(step.share_of_peak, 4)
    what = [texts.number(step.kind), texts.number(step.shape), texts.number(step.device)]
    return [step.name, *what, round(step.seconds * 1e3, 6), step.macs, share, list(step.nodes)]


def _runs(found: ModelProfile, steps: Sequence[StepTime], texts: _Texts) -> list[dict[str, Any]]:
    """The run of median length first; the fastest and the slowest beside it, where that is not too much."""
    median = median_of(found.profiles)
    shown = [("median", median)]
    ordered = by_length(found.profiles)
    if len(ordered) > 1 and 3 * (len(median.parts) + len(median.spans)) <= BOXES:
        shown += [("fastest", ordered[0])] * (ordered[0] is not median)
        shown += [("slowest", ordered[-1])] * (ordered[-1] is not median)
    return [{"label": label, **_run(profile, found, steps, texts)} for label, profile in shown]


def _run(profile: Profile, found: ModelProfile, steps: Sequence[StepTime], texts: _Texts) -> dict[str, Any]:
    """Boxes as rows: track, step (-1: none of the table), start and length in microseconds, kind."""
    numbers: dict[tuple[str, tuple[str, ...], str], list[int]] = defaultdict(list)
    for number, step in enumerate(steps):
        numbers[step.kind, step.nodes, step.device].append(number)
    tracks: dict[tuple[str, str], int] = {}
    boxes: list[list[Any]] = []

    def add(device: str, track: str, name: str, source: tuple[str, ...], start: int, end: int) -> None:
        kind = found.facts.kind(name, source)
        same = numbers.get((kind, source, device), [])
        row = tracks.setdefault((device, track), len(tracks))
        length = round((end - start) / 1e3, 2)
        boxes.append(
            [row, same[0] if same else -1, round((start - profile.start_ns) / 1e3, 2), length, texts.number(kind)]
        )

    told = {part.device for part in profile.parts}
    for part in profile.parts:
        add(part.device, part.worker, part.name, part.source, part.start_ns, part.end_ns)
    for row, span in side_by_side([span for span in profile.spans if span.device not in told]):
        add(span.device, f"queue {row + 1}" if row else "", span.name, span.source, span.start_ns, span.end_ns)
    order = list(found.explanation.nodes_per_device)
    rows = sorted(tracks, key=lambda track: (order.index(track[0]) if track[0] in order else len(order), track))
    place = {tracks[track]: number for number, track in enumerate(rows)}
    boxes = sorted(([place[box[0]], *box[1:]] for box in boxes), key=lambda box: (box[0], box[2]))
    return {
        "us": round((profile.work_end_ns - profile.start_ns) / 1e3, 2),
        "tracks": [list(track) for track in rows],
        "boxes": boxes,
    }


def _memory(found: ModelProfile) -> dict[str, Any]:
    samples = found.samples
    origin = samples[0][0] if samples else 0
    stride = -(-len(samples) // SAMPLES) or 1
    shown = [
        max(samples[start : start + stride], key=lambda sample: sample[1]) for start in range(0, len(samples), stride)
    ]
    return {
        "us": [round(moment / 1e3, 2) for moment in found.memory.times_ns],
        "alive": {name: list(stairs) for name, stairs in found.memory.nbytes.items()},
        "peak": found.memory.peak_bytes,
        "unsized": found.memory.unsized,
        "arenas": [[each.location, each.nbytes, each.lower_bound_bytes] for each in found.explanation.arenas],
        "weights": found.facts.weight_bytes,
        "rss": [[round((moment - origin) / 1e6, 2), size] for moment, size in shown],
        "marks": [[round((moment - origin) / 1e6, 2), text] for moment, text in found.marks],
    }


def _notes(found: ModelProfile) -> list[str]:
    """What a reader must know before the figures mean anything."""
    explained = found.explanation
    notes = [
        f"{device} is virtual ({name}): its times are not those of what it stands for"
        for device, name in explained.virtual.items()
    ]
    notes += [f"{count} nodes fell back to {device}" for device, count in explained.fallbacks.items()]
    if explained.folded:
        notes.append(f"{len(explained.folded)} nodes need not run: these inputs decide their results")
    if explained.computed:
        notes.append(f"{len(explained.computed)} nodes run once in a session: they depend on constants alone")
    if explained.waiting:
        notes.append(f"{len(explained.waiting)} nodes are not shown: they are planned during the run")
    notes += [f"{device} is not used: {reason}" for device, reason in explained.refused.items()]
    return notes
