"""What one request holds to run a plan: arenas, values, queues, and the argument state of what was compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.provider import Allocator, Bindings, BoundTensor, Buffer, Execution
from mace_core.provider.border import attempt, close_all, instance_of
from mace_core.provider.memory import HostAllocator
from mace_core.scheduler.planning.plan import HOST, RunStep, StagePlan, Step, Storage
from mace_core.scheduler.running.queues import Queues
from mace_core.scheduler.running.registers import Registers
from mace_core.scheduler.running.step_bindings import unbound_output
from mace_core.scheduler.values import fresh_storage, storage
from mace_core.symbolic import hint
from mace_core.tensor import DType, MemoryKind

if TYPE_CHECKING:
    from mace_core.scheduler.planning.devices import SessionDevice
    from mace_core.scheduler.planning.sizes import StageValues


@dataclass(slots=True, eq=False)
class Prepared:
    """A run step's argument state.

    Attributes:
        device: where it runs.
        is_dynamic: a shape comes out of the run.
        is_plain: it is one call, with nothing to wait for and nothing to be undone.
    """

    execution: Execution
    bindings: Bindings
    device: SessionDevice
    is_dynamic: bool
    is_plain: bool


class StageMemory(Registers, Queues):
    """Memory and argument state for one run at a time; it can be made ready for other sizes.

    Attributes:
        host_arena: the memory on the host, which instances share (`mace_core.scheduler.planning.host_arenas`).
        needed_bytes: of it.
        needs_arena: whether it has to be made larger before a run.
    """

    # where new arrays come from
    _empty: Callable[..., npt.NDArray[Any]] = staticmethod(np.empty)
    _fresh: Callable[..., npt.NDArray[Any]] = staticmethod(fresh_storage)

    def __init__(self, plan: StagePlan) -> None:
        Queues.__init__(self, plan)
        self._arenas: dict[str, tuple[Allocator, Buffer]] = {}
        self._executions: list[tuple[str, Execution]] = []  # with their devices
        self._temporary: list[tuple[str, Allocator, Buffer]] = []
        self._ran: list[Execution] = []
        self._sizes: StageValues | None = None
        try:
            self._allocate_arenas()
            self._open_queues()
            Registers.__init__(self, plan, self._arenas)
            self._work = [self._prepare(step) for step in plan.steps]
        except BaseException:
            self.close()
            raise
        self._rewriting = {
            prepared.execution: (prepared.bindings, step.device)
            for step, prepared in zip(plan.steps, self._work, strict=True)
            if prepared is not None and isinstance(step, RunStep) and step.writes_over
        }

    def _allocate_arenas(self) -> None:
        plan = self.plan
        self.host_arena = Buffer(MemoryKind.HOST, 0)
        self.needed_bytes = 0
        self.needs_arena = False
        for location, arena in plan.arenas.items():
            allocator: Allocator = HostAllocator()
            if location == HOST:
                buffer = self.host_arena
                self.needed_bytes = hint(arena.total_bytes)
                self.needs_arena = self.needed_bytes > 0
            else:
                allocator = plan.devices[location].allocator()
                buffer = plan.devices[location].allocate(allocator, arena.total_bytes)
            self._arenas[location] = (allocator, buffer)

    def resize(self, sizes: StageValues) -> None:
        """Make the instance ready for a run with these sizes."""
        if sizes is self._sizes:
            return
        self._sizes = None  # what fails below leaves no sizes that would be taken for granted
        for location, nbytes in sizes.arenas.items():
            if location == HOST:
                self.needed_bytes = nbytes
                self.needs_arena = self.host_arena.nbytes < nbytes
            else:
                self._make_room(location, nbytes)
        for index, shape, offset in sizes.registers:
            bound = self._bound[index]
            bound.shape, bound.offset = shape, offset
        for number, nbytes, offset in sizes.workspaces:
            prepared = self._work[number]
            assert prepared is not None and prepared.bindings.workspace is not None
            prepared.bindings.workspace.shape, prepared.bindings.workspace.offset = (nbytes,), offset
        for index, content in sizes.contents:
            self._point(index, storage(content, self._bound[index].dtype), content.shape)
        for prepared in self._work:
            if prepared is not None:
                prepared.bindings.sizes = sizes.symbols
        self._require_room()
        self._sizes = sizes

    def _require_room(self) -> None:
        """Called with new sizes.

        Raises:
            OutOfMemoryError: if there is no room for what a run makes besides.
        """

    # --- the turns of a loop: one subgraph on host memory, see `turning` -------------------------------------------

    def prepared(self) -> tuple[Execution, Bindings]:
        """What runs the first step."""
        found = self._work[0]
        assert found is not None
        return found.execution, found.bindings

    def single_device(self) -> SessionDevice:
        """The device of the first step."""
        step = self.plan.steps[0]
        assert isinstance(step, RunStep)
        return self.plan.devices[step.device]

    def symbols(self) -> Sequence[int]:
        """The sizes that `resize` was given."""
        return () if self._sizes is None else self._sizes.symbols

    def shape_of(self, register: int) -> tuple[int, ...]:
        return self._bound[register].shape

    def bytes_of(self, register: int) -> int:
        return self._bound[register].nbytes

    def address_of(self, register: int) -> int:
        return self._bound[register].address

    def arena(self) -> tuple[int, int]:
        """Address and bytes of the arena on the host."""
        if HOST not in self._arenas:
            return 0, 0
        buffer = self._arenas[HOST][1]
        return buffer.address, buffer.nbytes

    def grow_arena(self, nbytes: int) -> None:
        """Make the arena on the host larger; its content is lost."""
        self._make_room(HOST, nbytes)

    def _make_room(self, location: str, nbytes: int) -> None:
        allocator, buffer = self._arenas[location]
        if buffer.nbytes < nbytes:
            # a little more than is needed now: what grows from run to run grows again
            larger = allocator.allocate(nbytes + nbytes // 8)
            allocator.free(buffer)
            buffer.address, buffer.nbytes, buffer.handle = larger.address, larger.nbytes, larger.handle

    def undo(self) -> None:
        """After a run that was given up: put back what it wrote over what was fed."""
        for execution in reversed(self._ran):
            bindings, device = self._rewriting[execution]
            with self._calling(device, "Execution.undo"):
                execution.undo(bindings)
        self._ran.clear()

    # --- preparation ----------------------------------------------------------------------------------------------

    def _prepare(self, step: Step) -> Prepared | None:
        if not isinstance(step, RunStep):
            return None
        with self._calling(step.device, "CompiledSubgraph.new_execution"):
            execution = instance_of(Execution, step.compiled.new_execution())
        self._executions.append((step.device, execution))
        registers = self.plan.registers
        outputs = [None if registers[r].storage is Storage.DYNAMIC else self._bound[r] for r in step.outputs]
        workspace = None
        if step.workspace_bytes:
            arena = self._arenas[step.location][1]
            shape = (hint(step.workspace_bytes),)
            workspace = BoundTensor(DType.UINT8, shape, arena, hint(step.workspace_offset))
        bindings = Bindings(
            inputs=[self._bound[r] for r in step.inputs],
            outputs=outputs,
            workspace=workspace,
            allocate_output=self._output_allocator(step) if None in outputs else None,
        )
        is_plain = step.device not in self._streams and not self._host_queues and not step.writes_over
        return Prepared(execution, bindings, self.plan.devices[step.device], None in outputs, is_plain)

    def _output_allocator(self, step: RunStep) -> Any:
        def allocate(index: int, dtype: DType, shape: tuple[int, ...]) -> BoundTensor:
            register = unbound_output(step, self.plan.registers, index, dtype, shape)
            bound = self._bound[register]
            bound.dtype, bound.shape = dtype, shape
            if dtype is DType.STRING:
                bound.buffer = Buffer(MemoryKind.OBJECT, 0)
            elif step.location == HOST:
                target = self._targets.get(self.plan.registers[register].value)
                array = target if target is not None and (target.dtype, target.shape) == (dtype.numpy, shape) else None
                self._point(register, self._fresh(dtype, shape) if array is None else array, shape)
            else:
                device = self.plan.devices[step.device]
                allocator = device.allocator()
                bound.buffer = device.allocate(allocator, dtype.nbytes(math.prod(shape)))
                bound.offset = 0
                self._temporary.append((step.device, allocator, bound.buffer))
            return bound

        return allocate

    def close(self) -> None:
        """Free all of it, once what is queued is done."""
        self._settle()
        for name, execution in self._executions:
            close_all((execution,), name, "Execution.close", self.plan.placed.model)
        for name, stream in self._streams.items():
            close_all((stream,), name, "Stream.close", self.plan.placed.model)
        for place in (*self._temporary, *((name, *arena) for name, arena in self._arenas.items())):
            self._free(*place)
        self._executions, self._streams, self._temporary, self._arenas = [], {}, [], {}

    def _free(self, device: str, allocator: Allocator, buffer: Buffer) -> None:
        attempt(allocator.free, device, "Allocator.free", self.plan.placed.model, buffer)
