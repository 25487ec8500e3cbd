"""Uploads of what a run computes that a device may do without: it works on the memory where the value is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mace_core.scheduler.planning.devices import SessionDevice
from mace_core.scheduler.planning.steps import HOST, Register, RunStep, Step, Storage, UploadStep

LEAST_BYTES = 64 << 10
"""Less is copied sooner than imported, and what is imported keeps its memory until the end of the run."""


def lent_uploads(
    steps: Sequence[Step], registers: Sequence[Register], devices: Mapping[str, SessionDevice]
) -> frozenset[int]:
    """Numbers of the uploads whose source the device may import.

    The source is complete when the step is reached, and its bytes have to stay as they are until the run has ended.  So
    there are none in a plan that writes over values.
    """
    if any(isinstance(step, RunStep) and step.writes_over for step in steps):
        return frozenset()
    found = [
        number
        for number, step in enumerate(steps)
        if isinstance(step, UploadStep) and _may_be_lent(registers[step.source])
    ]
    takers = {
        name
        for name in {_taker(steps[number]) for number in found}
        if devices[name].imports_computed and devices[name].imports
    }
    return frozenset(number for number in found if _taker(steps[number]) in takers)


def _taker(step: Step) -> str:
    assert isinstance(step, UploadStep)
    return step.device


def _may_be_lent(register: Register) -> bool:
    if register.location != HOST or register.dtype.is_packed or register.shape is None:
        return False
    if register.storage not in (Storage.ARENA, Storage.FRESH, Storage.SHARED):
        return False
    return all(isinstance(size, int) for size in register.shape) and register.nbytes >= LEAST_BYTES
