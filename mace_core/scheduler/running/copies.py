"""Which copies between memories may go through a device's queue instead of being waited for."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.provider import BoundTensor, DataTransfer, Event, Stream
from mace_core.scheduler.planning.plan import (
    ControlStep,
    DownloadStep,
    Register,
    RunStep,
    StagePlan,
    Step,
    Storage,
    UploadStep,
)


def queueable_copies(plan: StagePlan) -> frozenset[int]:
    """Numbers of the steps whose host side nobody touches before the end of the run.

    That is what is fed, and constants, on their way to a device; and results that no other step reads, on their way
    back.  Other host memory belongs to an arena, where another value may take its place while a queue still works.
    """
    read = {register for step in plan.steps for register in _reads(step)}
    return frozenset(number for number, step in enumerate(plan.steps) if _is_queueable(step, plan.registers, read))


def queue_copy(
    transfer: DataTransfer, stream: Stream, step: UploadStep | DownloadStep, bound: Sequence[BoundTensor]
) -> Event | None:
    """Queue the copy of one step; None where the device does not offer that."""
    source, target = bound[step.source], bound[step.target]
    enqueue = transfer.enqueue_to_device if isinstance(step, UploadStep) else transfer.enqueue_to_host
    size = 1
    for dim in source.shape:
        size *= dim
    return enqueue(
        stream,
        source.buffer,
        target.buffer,
        source.dtype.nbytes(size),
        source_offset=source.offset,
        target_offset=target.offset,
    )


def _reads(step: Step) -> Sequence[int]:
    return step.inputs if isinstance(step, RunStep | ControlStep) else (step.source,)


def _is_queueable(step: Step, registers: Sequence[Register], read: set[int]) -> bool:
    if isinstance(step, UploadStep):
        source = registers[step.source]
        return source.storage in (Storage.INPUT, Storage.CONSTANT) and bool(source.nbytes)
    if isinstance(step, DownloadStep):
        target = registers[step.target]
        return target.storage is Storage.FRESH and step.target not in read and bool(target.nbytes)
    return False
