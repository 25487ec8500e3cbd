"""Subgraphs whose scratch buffers and constants lie in guarded memory, each in pages of its own.

For tests: see `mace_core.testing.guard_pages`, which does the same with inputs and outputs.  Such a subgraph is not
stored, and runs for one request at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np

from mace_core.testing.guard_pages import GuardedMemory, Side
from mace_cpu.plan import stored
from mace_cpu.plan.assembly import ALIGNMENT_BYTES, Constants
from mace_cpu.shared.parts.buffers import Buf, Place
from mace_cpu.shared.program import assemble
from mace_cpu.shared.program.program import Program


@contextmanager
def guarded_buffers(side: Side) -> Iterator[list[GuardedMemory]]:
    """What is compiled as long as this lasts has all its buffers guarded; gives the memory of those so far."""
    kept: list[GuardedMemory] = []

    def plan_buffers(program: Program) -> int:
        """Offsets from address 0, which is where an arena of no bytes begins."""
        users: dict[Buf, str] = {}
        for step in program.steps.emitted:
            for _, at in step.addresses:
                if at.buf.place is Place.ARENA:
                    users[at.buf] = f"{users[at.buf]}, {step.name}" if at.buf in users else step.name
        users.update((unsized.data, "a result") for unsized in program.values.unsized if unsized.data not in users)
        for number, (buf, names) in enumerate(users.items()):
            memory = _guard(buf.nbytes, side, f"scratch {number} of {names}")
            kept.append(memory)
            buf.offset = memory.address
        return 0

    def place_constants(program: Program) -> tuple[Constants, dict[object, tuple[int, int]]]:
        owners = []
        for number, (buf, data) in enumerate(program.constants.all):
            memory = _guard(buf.nbytes, side, f"constant {number} ({data.dtype}{list(data.shape)})")
            memory.bytes[:] = data.reshape(-1).view(np.uint8)
            kept.append(memory)
            owners.append(memory.bytes)
            buf.offset = memory.address
        return Constants(0, tuple(owners)), {}

    with (
        mock.patch.object(assemble, "plan_buffers", plan_buffers),
        mock.patch.object(assemble, "_place_constants", place_constants),
        mock.patch.object(stored, "dump", lambda *_: None),  # the addresses mean nothing to another process
    ):
        yield kept


def _guard(nbytes: int, side: Side, label: str) -> GuardedMemory:
    """The provider's own buffers are aligned, and its kernels know it."""
    return GuardedMemory(nbytes, side, alignment=ALIGNMENT_BYTES, label=label)
