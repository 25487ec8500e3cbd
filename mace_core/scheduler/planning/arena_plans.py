"""One arena per location for what lives between steps, and for workspaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.provider.arenas import ArenaPlan, Lifetime, plan_arena
from mace_core.scheduler.planning.concurrency import Tracks
from mace_core.scheduler.planning.steps import Register, RunStep, Step, Storage, owner, reads, writes


def plan_memory(
    registers: Sequence[Register], steps: Sequence[Step], results: Sequence[int], tracks: Tracks | None
) -> dict[str, ArenaPlan]:
    """Give registers and workspaces their places.

    Args:
        results: registers that are read after the last step.
        tracks: how the steps are shared among threads: what may be needed at the same time, in whichever order they
            run, lies apart.  None: the steps run one after the other.
    """
    lifetimes: dict[str, list[Lifetime]] = {}
    owners: dict[str, list[Register | RunStep]] = {}
    users: dict[str, list[int]] = {}  # the steps that use each, as bits
    end = len(steps)
    used = _users(registers, steps, results) if tracks is not None else [0] * len(registers)
    for index, register in enumerate(registers):
        if register.storage is Storage.ARENA:
            lifetimes.setdefault(register.location, []).append(Lifetime(register.first, register.last, register.nbytes))
            owners.setdefault(register.location, []).append(register)
            users.setdefault(register.location, []).append(used[index])
    for number, step in enumerate(steps):
        if isinstance(step, RunStep) and step.workspace_bytes:
            last = end if step.writes_over else number
            lifetimes.setdefault(step.location, []).append(Lifetime(number, last, step.workspace_bytes))
            owners.setdefault(step.location, []).append(step)
            users.setdefault(step.location, []).append(1 << number | 1 << last)
    arenas = {}
    for location, entries in lifetimes.items():
        if tracks is None:
            arenas[location] = arena = plan_arena(entries)
        else:
            arenas[location] = arena = plan_arena(entries, together=_together(tracks, entries, users[location]))
        for found, offset in zip(owners[location], arena.offsets, strict=True):
            if isinstance(found, Register):
                found.offset = offset
            else:
                found.workspace_offset = offset
    return arenas


def _users(registers: Sequence[Register], steps: Sequence[Step], results: Sequence[int]) -> list[int]:
    """For each register the steps that read or write it, as bits; the bit behind the last stands for the end."""
    found = [0] * len(registers)
    for number, step in enumerate(steps):
        for index in (*reads(step), *writes(step)):
            found[owner(index, registers)] |= 1 << number
    for index in results:
        found[owner(index, registers)] |= 1 << len(steps)
    return found


def _together(tracks: Tracks, entries: Sequence[Lifetime], users: Sequence[int]) -> np.ndarray:
    """For each two pieces of memory whether both may be needed at a time, whichever order the steps run in."""
    found = np.ones((len(entries), len(entries)), np.bool_)
    for one, entry in enumerate(entries):
        for other in range(one):
            found[one, other] = found[other, one] = not (
                tracks.is_over(users[one], entries[other].first) or tracks.is_over(users[other], entry.first)
            )
    return found
