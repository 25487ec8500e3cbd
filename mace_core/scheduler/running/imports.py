"""Memory that a device works on where it lies: of somebody else's that is fed, and of other devices and the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import NoneType

import numpy as np

from mace_core.errors import InputError
from mace_core.provider import BoundTensor, Buffer
from mace_core.provider.border import attempt, instance_of
from mace_core.provider.foreign import ForeignKind, ForeignMemory
from mace_core.scheduler.planning.devices import SessionDevice
from mace_core.scheduler.planning.plan import ControlStep, PadStep, RunStep, StagePlan, Storage, UploadStep
from mace_core.scheduler.values import RuntimeValue, address_of
from mace_core.tensor.foreign import DmaBuf, ForeignArray


class Imports:
    """The imports of one request."""

    def __init__(self, plan: StagePlan) -> None:
        self._plan = plan
        self._kinds = {step.device: plan.devices[step.device].imports for step in plan.transfers}
        self._held: list[tuple[SessionDevice, Buffer, BoundTensor, Buffer, int]] = []

    def take(self, step: UploadStep, value: RuntimeValue, target: BoundTensor) -> bool:
        """Bind ``target`` to the memory of ``value`` itself, if its device can work on that.

        Raises:
            InputError: if it cannot, and the host cannot read the value.
        """
        kinds, source = self._kinds[step.device], self._plan.registers[step.source]
        if not is_opaque(value):
            # what a step computes may not be there yet; what is packed looks otherwise to Python
            is_there = source.storage in (Storage.INPUT, Storage.CONSTANT)
            if not kinds or not is_there or source.dtype.is_packed:
                return False
        device = self._plan.devices[step.device]
        memory = _memory_of(value, kinds)
        buffer = None if memory is None else import_memory(device, memory)
        if buffer is None:
            if is_opaque(value):
                raise self._unreadable(step.source, f"{device.name} cannot import it")
            return False
        self._bind(device, buffer, target)
        return True

    def take_computed(self, step: UploadStep, source: BoundTensor, target: BoundTensor) -> bool:
        """Bind ``target`` to the memory of what another device computed, which is complete and stays as it is until
        `release`, if the device of ``step`` can work on that."""
        device = self._plan.devices[step.device]
        memory = self._exported(step, source)
        buffer = None if memory is None else import_memory(device, memory)
        if buffer is None:
            return False
        self._bind(device, buffer, target)
        return True

    def _exported(self, step: UploadStep, source: BoundTensor) -> ForeignMemory | None:
        """What was computed, as memory of a kind that the device of ``step`` imports."""
        kinds, register = self._kinds[step.device], self._plan.registers[step.source]
        if register.storage is Storage.SHARED and kinds - {ForeignKind.HOST}:
            base = self._plan.registers[register.base]
            maker = self._plan.devices[base.location]
            whole = export_memory(maker, source.buffer.handle)
            if whole is not None and whole.kind in kinds:
                return replace(whole, offset=whole.offset + base.offset, nbytes=register.nbytes)
        if ForeignKind.HOST not in kinds:
            return None
        return ForeignMemory(ForeignKind.HOST, register.nbytes, address=source.address)

    def _bind(self, device: SessionDevice, buffer: Buffer, target: BoundTensor) -> None:
        self._held.append((device, buffer, target, target.buffer, target.offset))
        target.buffer, target.offset = buffer, 0

    def check_readers(self, values: Sequence[RuntimeValue]) -> None:
        """
        Args:
            values: what is fed, in the order of the plan's feeds.

        Raises:
            InputError: if the host would have to read what only a device can.
        """
        opaque = {register for value, register in zip(values, self._plan.feeds, strict=True) if is_opaque(value)}
        if not opaque:
            return
        for step in self._plan.steps:
            if isinstance(step, RunStep | ControlStep):
                for register in opaque.intersection(step.inputs):
                    raise self._unreadable(register, "the host, or a device that works on its memory, reads it")
            elif isinstance(step, PadStep) and step.source in opaque:
                raise self._unreadable(step.source, "the host pads it for a device that compiles for other sizes")
        for register in opaque.intersection(self._plan.results):
            raise self._unreadable(register, "it is a result, too")

    def _unreadable(self, register: int, why: str) -> InputError:
        name = self._plan.registers[register].value.name
        return InputError(
            f"{self._plan.placed.model}: input '{name}' lies in the memory of a device, and {why}; copy it to the host "
            "first"
        )

    def release(self) -> None:
        """Give everything back; nothing is queued any more."""
        while self._held:
            device, buffer, target, own, offset = self._held.pop()
            target.buffer, target.offset = own, offset
            attempt(device.backend.release_memory, device.name, "Backend.release_memory", device.model, buffer)


def import_memory(device: SessionDevice, memory: ForeignMemory) -> Buffer | None:
    """The device's buffer over ``memory``, or None."""
    with device.calling("Backend.import_memory"):
        return instance_of((Buffer, NoneType), device.backend.import_memory(memory))


def export_memory(device: SessionDevice, buffer: Buffer) -> ForeignMemory | None:
    """How others may import a buffer of the device; None where they cannot."""
    with device.calling("Backend.export_memory"):
        return instance_of((ForeignMemory, NoneType), device.backend.export_memory(buffer))


def is_opaque(value: RuntimeValue) -> bool:
    """Whether only a device can read ``value``."""
    return isinstance(value, ForeignArray) and value.is_opaque


def _memory_of(value: RuntimeValue, kinds: frozenset[ForeignKind]) -> ForeignMemory | None:
    """``value`` as foreign memory of one of ``kinds``."""
    if not kinds or not isinstance(value, np.ndarray) or not value.nbytes or value.dtype == object:
        return None
    origin = value.origin if isinstance(value, ForeignArray) else None
    if isinstance(origin, DmaBuf) and ForeignKind.DMA_BUF in kinds:
        return ForeignMemory(ForeignKind.DMA_BUF, value.nbytes, offset=origin.offset, descriptor=origin.descriptor)
    if is_opaque(value):
        return ForeignMemory(ForeignKind.DLPACK, value.nbytes, tensor=origin) if ForeignKind.DLPACK in kinds else None
    if ForeignKind.HOST in kinds and value.flags.c_contiguous and value.flags.aligned:
        return ForeignMemory(ForeignKind.HOST, value.nbytes, address=address_of(value))
    return None
