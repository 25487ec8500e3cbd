"""The values of one request: where each of them is, and what it is to Python code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.provider import Allocator, BoundTensor, Buffer
from mace_core.scheduler.growing import GrowingArray, growing_copy, has_room
from mace_core.scheduler.planning.plan import HOST, ControlStep, Register, RunStep, StagePlan, Storage
from mace_core.scheduler.running.imports import is_opaque
from mace_core.scheduler.running.step_bindings import unfit, unplanned_shape
from mace_core.scheduler.values import (
    RuntimeValue,
    address_of,
    fresh_storage,
    from_storage,
    read_bound,
    read_only,
    storage,
)
from mace_core.symbolic import hint
from mace_core.tensor import DType, MemoryKind

NO_TARGETS: Mapping[Value, npt.NDArray[Any]] = MappingProxyType({})


class Registers:
    """The registers of a plan, bound to memory; used by one thread at a time."""

    def __init__(self, plan: StagePlan, arenas: dict[str, tuple[Allocator, Buffer]]) -> None:
        """``arenas``: where values of the plan lie, per location."""
        self.plan = plan
        self._arenas = arenas
        self._arrays: list[RuntimeValue] = [None] * len(plan.registers)
        self._targets: Mapping[Value, npt.NDArray[Any]] = NO_TARGETS  # of the present run, see `RunContext`
        self._bound = [self._bind(index, register) for index, register in enumerate(plan.registers)]
        self._grown = dict(plan.grown)
        self._dynamic = [i for i, register in enumerate(plan.registers) if register.storage is Storage.DYNAMIC]
        passing = {Storage.INPUT, Storage.FRESH, Storage.DYNAMIC, Storage.OBJECT, Storage.GROWN}
        self._passing = [i for i, register in enumerate(plan.registers) if register.storage in passing]
        steps = [step for step in plan.steps if not isinstance(step, ControlStep)]
        self._dense = {r for s in steps for r in (s.inputs if isinstance(s, RunStep) else (s.source,))}

    def _bind(self, index: int, register: Register) -> BoundTensor:
        shape = tuple(hint(size) for size in register.shape) if register.shape is not None else ()
        if register.storage is Storage.ARENA:
            return BoundTensor(register.dtype, shape, self._arenas[register.location][1], hint(register.offset))
        if register.storage is Storage.SHARED:
            base = self.plan.registers[register.base]
            memory = self._arenas[base.location][1]
            seen = Buffer(MemoryKind.HOST, register.nbytes, memory.address + base.offset, memory)
            return BoundTensor(register.dtype, shape, seen)
        if register.storage is Storage.CONSTANT:
            assert register.constant is not None
            values = register.constant.numpy()
            self._arrays[index] = read_only(values)
            if register.dtype is DType.STRING:
                return BoundTensor(register.dtype, shape, Buffer(MemoryKind.OBJECT, 0, 0, values))
            array = storage(values, register.dtype)
            return BoundTensor(register.dtype, shape, Buffer(MemoryKind.HOST, array.nbytes, address_of(array), array))
        kind = MemoryKind.OBJECT if register.storage is Storage.OBJECT else MemoryKind.HOST
        return BoundTensor(register.dtype, shape, Buffer(kind, hint(register.nbytes)))

    def _fed_single(self, register: int, value: RuntimeValue, values: Sequence[RuntimeValue]) -> npt.NDArray[Any]:
        """What is fed, in the form in which the one step of the plan, or nobody but the next stage, reads it."""
        if register in self._grown:
            return self._roomy(register, value, values)
        if type(value) is GrowingArray and register not in self._dense:
            return value
        return storage(value, self.plan.registers[register].dtype)

    def _roomy(self, register: int, value: RuntimeValue, values: Sequence[RuntimeValue]) -> GrowingArray:
        """What is fed to a register whose memory is written to; a copy where it has not the room that was planned."""
        growing = self.plan.stage.growing
        assert growing is not None
        capacity = len(values[-1])  # see `GraphRunner`: the last feed is as long as there is room
        fed = self.plan.registers[register].value
        axis = next(pair.axis for pair in growing.pairs if pair.source is fed)
        return value if has_room(value, axis, capacity) else growing_copy(value, axis, capacity)

    def _feed(self, register: int, value: RuntimeValue) -> None:
        bound, spec = self._bound[register], self.plan.registers[register]
        if spec.storage is Storage.OBJECT:
            bound.buffer.handle = value
            if isinstance(value, np.ndarray):
                bound.shape = value.shape
            return
        self._arrays[register] = value
        if is_opaque(value):  # a device imports it; nothing else reads it
            return
        if register in self._grown:
            longer = self._grown[register]
            found = value.room.part(self._bound[longer].shape)
            for index, array in ((register, value), (longer, found)):
                self._arrays[index], buffer = array, self._bound[index].buffer
                buffer.address, buffer.nbytes, buffer.handle = value.room.address, value.room.nbytes, array
            return
        if type(value) is GrowingArray and register not in self._dense:
            return  # what has gaps goes on as it is
        array = storage(value, spec.dtype)
        self._point(register, array, keep=True)

    def _target(self, register: int, dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
        """The caller's array for a value, if there is one.

        Raises:
            InputError: if the value does not fit into it.
        """
        target = self._targets.get(self.plan.registers[register].value)
        if target is not None and (target.dtype, target.shape) != (dtype.numpy, shape):
            name = self.plan.registers[register].value.name
            raise unfit(self.plan.placed.model, name, target, f"{dtype.label}{list(shape)}")
        return target

    def _point(
        self, register: int, array: npt.NDArray[Any], shape: tuple[int, ...] | None = None, *, keep: bool = False
    ) -> None:
        """Let a host register refer to ``array`` (storage form)."""
        bound = self._bound[register]
        bound.buffer.address = address_of(array)
        bound.buffer.nbytes = array.nbytes
        bound.buffer.handle = array
        if shape is not None:
            bound.shape = shape
        if not keep:
            self._arrays[register] = (
                from_storage(array, bound.dtype, bound.shape) if not bound.dtype.is_packed else None
            )

    def _accept(self, register: int, value: RuntimeValue, step: ControlStep) -> None:
        """Take over what control flow computed."""
        spec = self.plan.registers[register]
        if spec.storage is Storage.OBJECT or not isinstance(value, np.ndarray) or value.dtype == object:
            self._bound[register].buffer.handle = value
            self._arrays[register] = value
            return
        if spec.shape is not None and value.shape != self._bound[register].shape:
            raise unplanned_shape(step, spec, value.shape, self._bound[register].shape)
        bound = self._bound[register]
        bound.dtype = DType.from_numpy(value.dtype)
        self._arrays[register] = value
        bound.shape = value.shape
        self._point(register, storage(value, bound.dtype), value.shape, keep=True)

    def _result(self, register: int) -> RuntimeValue:
        """The Python form of a register that Python code reads."""
        array = self._arrays[register]
        if array is not None:
            return array
        return read_bound(self._bound[register])

    def _content(self, register: int) -> RuntimeValue:
        """The Python form of a register wherever it is, with nothing queued."""
        spec, bound = self.plan.registers[register], self._bound[register]
        if spec.location == HOST or bound.buffer.memory is not MemoryKind.DEVICE:
            return self._result(register)
        array = fresh_storage(bound.dtype, bound.shape)
        if array.nbytes:
            target = Buffer(MemoryKind.HOST, array.nbytes, address_of(array), array)
            device = self.plan.devices[spec.location]
            transfer = device.transfer()
            with device.calling("DataTransfer.to_host"):
                transfer.to_host(bound.buffer, target, array.nbytes, source_offset=bound.offset, target_offset=0)
        return from_storage(array, bound.dtype, bound.shape)

    def _forget_values(self) -> None:
        """Drop references to the request's values; idle instances hold arenas only."""
        self._targets = NO_TARGETS
        arrays, bound = self._arrays, self._bound
        for register in self._dynamic:
            bound[register].buffer = Buffer(MemoryKind.HOST, 0)
        for register in self._passing:
            arrays[register] = None
            bound[register].buffer.handle = None
