"""The short form of an explanation that `mace run` and `mace benchmark` show, and its JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mace_core.scheduler.planning.partition import PINNED, REFERENCE_DEVICE

if TYPE_CHECKING:
    from mace_core.scheduler.explain import Explanation

REASONS_SHOWN = 5
"""Distinct reasons for a fallback listed before "and … more"."""


def placement_lines(found: Explanation) -> list[str]:
    """How many nodes run where and, for those that fell back, why; a fallback is never left out."""
    counts = ", ".join(
        f"{device}{' (virtual)' if device in found.virtual else ''}: {count}"
        for device, count in found.nodes_per_device.items()
    )
    lines = [f"placement: {counts or 'no nodes'}"]
    lines += [f"{count} nodes run on {device} because they are pinned to it" for device, count in found.pinned.items()]
    for device, count in found.fallbacks.items():
        lines.append(_fallback_line(found, device, count))
    if found.fallback_count:
        reasons = _fallback_reasons(found)
        lines += [f"  {reason}" for reason in reasons[:REASONS_SHOWN]]
        if len(reasons) > REASONS_SHOWN:
            lines.append(f"  and {len(reasons) - REASONS_SHOWN} more reasons: see `mace explain`")
    if found.advice:
        lines.append(f"  {found.advice}")
    lines += [f"{device} is virtual: {name}; its speed means nothing" for device, name in found.virtual.items()]
    if found.waiting:
        lines.append(f"{len(found.waiting)} nodes are planned during the run, when the shapes they depend on are known")
    lines += [f"{device} is not used: {reason}" for device, reason in found.refused.items()]
    lines += [f"note of {device}: {note}" for device, notes in found.notes.items() for note in notes]
    return lines


def _fallback_line(found: Explanation, device: str, count: int) -> str:
    nodes = "1 node runs" if count == 1 else f"{count} nodes run"
    slow = f"{device}, which is slow and only for comparison" if device == REFERENCE_DEVICE else device
    if device in found.named:
        return f"FALLBACK: {nodes} on {slow}, as the device was named"
    if any(entry.declined for entry in found.nodes if entry.device == device):
        return f"FALLBACK: {nodes} on {slow}, because the devices before it decline them:"
    return f"FALLBACK: {nodes} on {slow}, because there is no other device"


def placement_data(found: Explanation) -> dict[str, Any]:
    """The summary as JSON."""
    return {
        "nodes_per_device": found.nodes_per_device,
        "fallbacks": dict(found.fallbacks),
        "pinned": dict(found.pinned),
        "advice": found.advice,
        "fallback_reasons": _fallback_reasons(found),
        "refused": dict(found.refused),
        "virtual": dict(found.virtual),
        "notes": {device: list(notes) for device, notes in found.notes.items()},
    }


def explanation_data(found: Explanation) -> dict[str, Any]:
    """Everything as JSON."""
    from dataclasses import asdict

    return {**asdict(found), "nodes_per_device": found.nodes_per_device, "fallback_count": found.fallback_count}


def _fallback_reasons(found: Explanation) -> list[str]:
    """One line per operator and reason, the most frequent first."""
    counted: Counter[tuple[str, str]] = Counter()
    for entry in found.nodes:
        if entry.device in found.fallbacks and entry.declined and entry.reason != PINNED:
            declined = "; ".join(f"{device}: {reason}" for device, reason in entry.declined.items())
            counted[entry.op, declined] += 1
    return [f"{op} x{count}: {reason}" for (op, reason), count in counted.most_common()]
