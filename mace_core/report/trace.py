"""Profiled runs as a Chrome trace: chrome://tracing and https://ui.perfetto.dev show it.

The format: "Trace Event Format" of the Chromium project; complete events ("ph": "X") with times in microseconds, and
metadata events ("M") that name the tracks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.scheduler.planning.partition import CORE_DEVICE

if TYPE_CHECKING:
    from mace_core.report.model_facts import ModelFacts
    from mace_core.scheduler.profile import Part, Profile, Span

_PROCESS = 1
_RUN_TRACK = "run"


def write_trace(
    path: Path, profiles: Sequence[Profile], facts: ModelFacts, model: str, virtual: Collection[str] = ()
) -> None:
    """Write the trace; what was there before stays as it was until the new one is whole.

    Raises:
        UsageError: if the file cannot be written.
    """
    data = chrome_trace(profiles, facts, model, virtual)
    save(path, json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")


def chrome_trace(
    profiles: Sequence[Profile], facts: ModelFacts, model: str, virtual: Collection[str] = ()
) -> dict[str, Any]:
    """One track for whole runs; for each device one with its steps; and one for each of its workers that is known.

    Steps that run beside each other on one device are on tracks of their own, for the format wants the events of a
    track nested or apart.  ``virtual``: names of devices whose times are not those of what they stand for, which the
    name of the process tells.
    """
    tracks: dict[str, list[dict[str, Any]]] = {_RUN_TRACK: []}
    origin = min(profile.start_ns for profile in profiles)

    def add(track: str, name: str, start_ns: int, end_ns: int, details: dict[str, Any]) -> None:
        tracks.setdefault(track, []).append(
            {
                "ph": "X",
                "name": name,
                "ts": (start_ns - origin) / 1e3,
                "dur": (end_ns - start_ns) / 1e3,
                "args": details,
            }
        )

    for number, profile in enumerate(profiles, 1):
        add(_RUN_TRACK, f"run {number}", profile.start_ns, profile.work_end_ns, {"model": model})
        for row, span in side_by_side(profile.spans):
            track = f"{span.device} steps{f' ({row + 1})' if row else ''}"
            add(track, facts.kind(span.name, span.source), span.start_ns, span.end_ns, _details(span, facts))
    for profile in profiles:
        for part in profile.parts:
            details = _details(part, facts)
            add(f"{part.device} {part.worker}", facts.kind(part.name, part.source), part.start_ns, part.end_ns, details)
    events: list[dict[str, Any]] = [
        {
            "ph": "M",
            "name": "process_name",
            "pid": _PROCESS,
            "tid": 0,
            "args": {"name": f"mace {model}{not_speed(virtual)}"},
        }
    ]
    for number, (name, found) in enumerate(tracks.items()):
        events.append({"ph": "M", "name": "thread_name", "pid": _PROCESS, "tid": number, "args": {"name": name}})
        events.append(
            {"ph": "M", "name": "thread_sort_index", "pid": _PROCESS, "tid": number, "args": {"sort_index": number}}
        )
        events += [{**event, "pid": _PROCESS, "tid": number} for event in found]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def not_speed(virtual: Collection[str]) -> str:
    """That some of the times in a picture are not speed: ``; apu:stand-in is virtual, its speed means nothing``."""
    if not virtual:
        return ""
    what = "is virtual, its" if len(virtual) == 1 else "are virtual, their"
    return f"; {', '.join(virtual)} {what} speed means nothing"


def side_by_side(spans: Sequence[Span]) -> Iterator[tuple[int, Span]]:
    """Spans by start, each with the number of the first row where it overlaps no other span of its device; control
    flow may lie within other control flow."""
    rows: dict[str, list[list[int]]] = {}
    for span in sorted(spans, key=lambda s: (s.start_ns, -s.end_ns)):
        open_ends = rows.setdefault(span.device, [])
        for number, ends in enumerate(open_ends):
            while ends and ends[-1] <= span.start_ns:
                ends.pop()
            if not ends or (span.device == CORE_DEVICE and span.end_ns <= ends[-1]):
                ends.append(span.end_ns)
                yield number, span
                break
        else:
            open_ends.append([span.end_ns])
            yield len(open_ends) - 1, span


def save(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        UsageError: if that cannot be.
    """
    from mace_core.host.files import replacing

    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"'{path}' cannot be written: {error.strerror or error}") from None


def _details(span: Span | Part, facts: ModelFacts) -> dict[str, Any]:
    macs = sum(facts.macs.get(node, 0) for node in span.source)
    found: dict[str, Any] = {"step": span.name, "nodes": list(span.source), "device": span.device}
    if shape := facts.shape(span.source):
        found["output shape"] = shape
    if macs:
        found["MMAC of the nodes"] = macs / 1e6
    return found
