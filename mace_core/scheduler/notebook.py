"""What sessions, explanations and profiles look like in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mace_core.presentation import Column, Table, number, prose
from mace_core.presentation.html import folded, heading, line, page

if TYPE_CHECKING:
    from mace_core.scheduler.explain import Explanation
    from mace_core.scheduler.planning.specs import ValueSpec
    from mace_core.scheduler.profile import Profile, Span

_MOST_ROWS = 2000
"""Of a folded table: a notebook keeps every output in its file."""


def session_html(
    label: str,
    devices: Iterable[str],
    inputs: Iterable[ValueSpec],
    outputs: Iterable[ValueSpec],
    metadata: Mapping[str, str],
    *,
    is_closed: bool,
) -> str:
    """A session: what goes in and out, and the devices it may use."""
    columns = (Column("", 0), Column("name"), Column("type"))
    rows = [("input", spec.name, _type_of(spec)) for spec in inputs]
    rows += [("output", spec.name, _type_of(spec)) for spec in outputs]
    about = Table((Column("key"), prose("value")), list(metadata.items()))
    return page(
        [
            heading(f"Session of {label}{' (closed)' if is_closed else ''}"),
            line(f"devices: {', '.join(devices)}"),
            Table(columns, rows).html(),
            folded("metadata", about.html()) if metadata else "",
        ]
    )


def _type_of(spec: ValueSpec) -> str:
    return str(spec).removeprefix(f"{spec.name}: ")


def explanation_html(found: Explanation) -> str:
    """An explanation: how many nodes run where; a click shows each node with its reason."""
    rows = [
        (device, str(count), "fallback" if device in found.fallbacks else found.virtual.get(device, ""))
        for device, count in found.nodes_per_device.items()
    ]
    nodes = Table(
        (Column("node"), Column("operator"), Column("device"), prose("why there"), prose("why not elsewhere")),
        [
            (
                f"{entry.scope}/{entry.node}" if entry.scope else entry.node,
                entry.op,
                entry.device,
                f"{entry.reason}; {entry.note}" if entry.note else entry.reason,
                "; ".join(f"{device}: {reason}" for device, reason in entry.declined.items()),
            )
            for entry in found.nodes
        ],
    )
    others = [f"{device} is not used: {reason}" for device, reason in found.refused.items()]
    others += [f"note of {device}: {note}" for device, notes in found.notes.items() for note in notes]
    if found.folded:
        others.append(f"{len(found.folded)} nodes need not run: this signature decides their results")
    if found.computed:
        others.append(f"{len(found.computed)} nodes run once in a session: they depend on constants alone")
    if found.waiting:
        others.append(
            f"{len(found.waiting)} nodes are planned during the run, when the shapes they depend on are known"
        )
    if found.transfers:
        total = sum(transfer.nbytes for transfer in found.transfers)
        others.append(f"{len(found.transfers)} transfers a run, {total} bytes")
    return page(
        [
            heading(f"Placement for {found.signature or 'no inputs'}"),
            Table((Column("device"), number("nodes"), prose("")), rows).html(),
            *(line(text) for text in others),
            folded("all nodes", nodes.top(_MOST_ROWS).html()) if found.nodes else "",
        ]
    )


def profile_html(profile: Profile) -> str:
    """A profile: the steps that took longest; a click shows all in the order they ran."""
    longest = sorted(profile.spans, key=lambda span: -span.duration_ns)
    total_ns = sum(span.duration_ns for span in profile.spans)
    shown = _spans(longest, total_ns).top()
    everything = _spans(profile.spans, total_ns).top(_MOST_ROWS)
    steps = f"{len(profile.spans)} step{'s' * (len(profile.spans) != 1)}"
    return page(
        [
            heading(f"Profile: {steps} of {total_ns / 1e6:.3f} ms together"),
            line(f"the whole call took {profile.duration_ns / 1e6:.3f} ms"),
            shown.html() if profile.spans else "",
            folded("all steps in the order they ran", everything.html()) if profile.spans else "",
        ]
    )


def _spans(spans: Iterable[Span], total_ns: int) -> Table:
    return Table(
        (Column("step"), Column("nodes"), Column("device"), number("ms"), number("%")),
        [
            (
                span.name,
                ", ".join(span.source[:4]) + (f" and {len(span.source) - 4} more" if len(span.source) > 4 else ""),
                span.device,
                f"{span.duration_ns / 1e6:.4f}",
                f"{span.duration_ns / (total_ns or 1) * 100:.1f}",
            )
            for span in spans
        ],
    )
