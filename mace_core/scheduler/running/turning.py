"""Runs the turns of a body natively: memory for what they hand on, one call, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.host.memory import require_host_memory
from mace_core.native import turns as native
from mace_core.native.turns import W
from mace_core.provider.execution import Turns as ProviderTurns
from mace_core.provider.poison import poison_byte
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.host.recurrence import Recurrence, Turns
from mace_core.scheduler.planning.plan import StagePlan
from mace_core.scheduler.running.calls import run_execution_turns
from mace_core.scheduler.running.turn_tables import FEED, KNOWN, OWN, TurnTable, make_turn_table
from mace_core.scheduler.values import RuntimeValue, address_of

__all__ = ["TurnState", "make_turn_table"]

if TYPE_CHECKING:
    from mace_core.scheduler.running.executor import StageInstance

Words = npt.NDArray[np.int64]

_TABLES = (
    ("guards", "guard_count"),
    ("moves", "move_count"),
    ("contents", "content_count"),
    ("checks", "check_count"),
    ("same", "same_count"),
    ("sizes", "size_count"),
    ("copies", "copy_count"),
    ("inputs", "input_count"),
    ("outputs", "output_count"),
)


class TurnState:
    """The state of `mace_core.native.turns` and the memory that it refers to; for one run at a time."""

    def __init__(self, table: TurnTable, plan: StagePlan, recurrence: Recurrence) -> None:
        self._table = table
        self._dtypes = [plan.registers[register].dtype.numpy for register in plan.feeds]
        self._words = words = np.zeros(len(W), np.int64)
        self._kept: list[Words] = []
        program = table.program
        self._registers = np.zeros(program.registers, np.int64)
        self._table_of(W.rows, W.row_count, program.rows)
        words[W.symbols], words[W.largest] = program.symbols, table.largest
        words[W.registers] = self._registers.ctypes.data
        self._tables = {
            name: self._table_of(getattr(W, name), getattr(W, at), getattr(table, name)) for name, at in _TABLES
        }
        self._sizes: dict[int, npt.NDArray[np.uint8]] = {}
        self._place_sizes(plan)
        self._feeds = self._array(W.feeds, table.feeds)
        self._counter = np.zeros(1, np.int64)
        self._words[W.counter] = self._counter.ctypes.data if recurrence.counter >= 0 else 0
        self._strides = self._table_of(
            W.strides, W.stride_count, np.array([(row, 0) for row in recurrence.rows], np.int64).reshape(-1, 2)
        )
        self._carried = np.zeros((len(table.carried), native.CARRIED_WORDS), np.int64)
        self._scans = np.zeros((len(table.scans), native.SCAN_WORDS), np.int64)
        for row, (feed, written) in zip(self._carried, table.carried, strict=True):
            row[0], row[6] = feed, written.nbytes
        for row, written in zip(self._scans, table.scans, strict=True):
            row[3] = written.nbytes
        self._carried = self._table_of(W.carried, W.carried_count, self._carried)
        self._scans = self._table_of(W.scans, W.scan_count, self._scans)
        shapes = np.array([dim for dims in table.dims for dim in dims], np.int64)
        self._table_of(W.shapes, W.dim_count, shapes)
        self._dims = self._array(W.dims, len(shapes))
        tensors = len(table.inputs) + len(table.outputs)
        addresses = self._array(W.addresses, 1 + tensors)
        words[W.condition] = table.condition
        words[W.arena_bytes], words[W.workspace_offset] = table.arena_bytes, table.workspace_offset
        address = int(words.ctypes.data)
        self._for_provider = ProviderTurns(
            native.advance_turn(),
            address,
            address + 8 * W.end,
            int(addresses.ctypes.data),
            tensors,
            int(self._registers.ctypes.data),
        )
        self._known_inputs = [i for i, (kind, _) in enumerate(table.inputs.tolist()) if kind != FEED]
        self._known_copies = [i for i, row in enumerate(table.copies.tolist()) if row[2] == KNOWN]
        self._own_outputs = [i for i, (kind, _) in enumerate(table.outputs.tolist()) if kind == OWN]
        self._own: dict[int, npt.NDArray[np.uint8]] = {}
        self._written = [(written, plan.registers[written.result].dtype.numpy) for _, written in table.carried]
        self._ranks = [len(dims) for dims in table.dims]

    def run(
        self, instance: StageInstance, turns: Turns, values: Sequence[RuntimeValue], context: RunContext
    ) -> bool | None:
        """Run as many turns as can be; whether there was any, None where there never will be.

        Args:
            instance: has the sizes of the first turn.
            turns: where the results go.
            values: the inputs of the first turn.
            context: its cancel flag is polled.
        """
        if poison_byte() is not None:
            return None
        arrays: list[npt.NDArray[Any]] = []
        for value, dtype in zip(values, self._dtypes, strict=True):
            if type(value) is not np.ndarray or value.dtype != dtype:
                return False
            flags = value.flags
            arrays.append(value if flags.c_contiguous and flags.aligned else np.array(value, order="C"))
        if not self._begin(instance, turns, arrays):
            return False
        execution, bindings = instance.prepared()
        bindings.cancel = context.cancel
        try:
            while True:
                if not run_execution_turns(
                    execution, bindings, self._for_provider, instance.single_device(), self._is_over
                ):
                    return None
                end = int(self._words[W.end])
                if end != native.END_ROOM:
                    return self._finish()
                self._make_room()
        finally:
            self._forget()

    def _is_over(self) -> bool:
        return int(self._words[W.end]) != native.ON

    # --- tables ---------------------------------------------------------------------------------------------------

    def _table_of(self, at: int, count: int, rows: Words) -> Words:
        """A copy of a table, which the state refers to."""
        rows = np.array(rows, np.int64)
        self._kept.append(rows)
        self._words[at], self._words[count] = rows.ctypes.data, len(rows)
        return rows

    def _array(self, at: int, count: int) -> Words:
        """An array that the state refers to."""
        found = np.zeros(count, np.int64)
        self._kept.append(found)
        self._words[at] = found.ctypes.data
        return found

    def _place_sizes(self, plan: StagePlan) -> None:
        """Memory for integers that follow from the sizes: other runs read the instance's."""
        places: dict[int, int] = {}
        for row in self._tables["sizes"]:
            register = int(row[0])
            if register not in places:
                own = np.empty(max(plan.registers[register].nbytes, 1), np.uint8)
                self._sizes[register] = own
                places[register] = int(own.ctypes.data)
            row[0] = places[register]
            places[register] += 8 if row[2] else 4

    def _known(self, instance: StageInstance, register: int) -> int:
        """The address of a constant, or of integers that follow from the sizes."""
        own = self._sizes.get(register)
        return instance.address_of(register) if own is None else int(own.ctypes.data)

    # --- before a run ---------------------------------------------------------------------------------------------

    def _begin(self, instance: StageInstance, turns: Turns, arrays: list[npt.NDArray[Any]]) -> bool:
        """Make ready for a run; whether these turns can be run natively."""
        table, words = self._table, self._words
        for stack, written in zip(turns.stacks, table.scans, strict=True):
            if stack.rows is not None and stack.rows.shape[1:] != instance.shape_of(written.result):
                return False  # which is an error of the model
        self._instance, self._turns, self._arrays = instance, turns, arrays
        self._registers[: table.program.symbols] = instance.symbols()
        for row, scan, axis in table.scan_guards:
            self._tables["guards"][row, 1] = instance.shape_of(table.scans[scan].result)[axis]
        self._refer_to(instance)
        self._place_feeds()
        self._place_results()
        words[W.turn], words[W.turns], words[W.end] = turns.step, turns.limit, native.ON
        words[W.is_begun], words[W.is_stale] = 0, 1
        words[W.arena], words[W.arena_room] = instance.arena()
        return True

    def _refer_to(self, instance: StageInstance) -> None:
        """Let the tables refer to what is always in the same place while the instance runs."""
        table = self._table
        for at in self._known_inputs:
            self._tables["inputs"][at, 1] = self._known(instance, int(table.inputs[at, 1]))
        for at in self._known_copies:
            self._tables["copies"][at, 3] = self._known(instance, int(table.copies[at, 3]))
        for at in self._own_outputs:  # nobody asks for them but as a condition
            nbytes = max(instance.bytes_of(table.step.outputs[at]), 1)
            if at not in self._own or self._own[at].nbytes < nbytes:
                self._own[at] = np.empty(nbytes, np.uint8)
                self._tables["outputs"][at, 1] = self._own[at].ctypes.data

    def _forget(self) -> None:
        """Hold nothing of the run any longer."""
        del self._instance, self._turns, self._arrays, self._buffers

    def _place_feeds(self) -> None:
        recurrence, turns = self._turns.recurrence, self._turns
        self._feeds[:] = [address_of(array) for array in self._arrays]
        if recurrence.counter >= 0:
            self._counter[0] = turns.step
            self._feeds[recurrence.counter] = self._words[W.counter]
        for row, source in zip(self._strides, turns.sources, strict=True):
            first = source[turns.step, ...]
            if not (first.flags.c_contiguous and first.flags.aligned):
                source = np.ascontiguousarray(source)
            self._arrays.append(source)
            self._feeds[row[0]] = int(source.ctypes.data) + turns.step * source.strides[0]
            row[1] = source.strides[0]

    def _place_results(self) -> None:
        instance = self._instance
        self._buffers: list[list[npt.NDArray[np.uint8]]] = []
        for row, (written, _) in zip(self._carried, self._written, strict=True):
            room = instance.bytes_of(written.result) * (2 if written.is_sized else 1)
            require_host_memory(2 * room)
            pair = [np.empty(room, np.uint8), np.empty(room, np.uint8)]
            self._buffers.append(pair)
            row[1:6] = address_of(pair[0]), address_of(pair[1]), room, room, 0
        for row, written, stack in zip(self._scans, self._table.scans, self._turns.stacks, strict=True):
            dtype = instance.plan.registers[written.result].dtype.numpy
            rows = stack.prepared(instance.shape_of(written.result), dtype)
            row[:3] = address_of(rows), stack.count * (rows.nbytes // len(rows)), rows.nbytes

    # --- between calls, and at the end ----------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Give what this turn writes twice the room that it needs, where it has too little."""
        registers = self._registers
        needed = int(registers[self._table.arena_bytes])
        if needed > self._words[W.arena_room]:
            self._instance.grow_arena(2 * needed)
            self._words[W.arena], self._words[W.arena_room] = self._instance.arena()
        for row, pair in zip(self._carried, self._buffers, strict=True):
            which, nbytes = int(row[5]), int(registers[row[6]])
            if nbytes > row[3 + which]:
                require_host_memory(2 * nbytes)
                pair[which] = np.empty(2 * nbytes, np.uint8)
                row[1 + which], row[3 + which] = address_of(pair[which]), 2 * nbytes
        for row, stack in zip(self._scans, self._turns.stacks, strict=True):
            if row[1] + registers[row[3]] > row[2]:
                stack.grow()
                assert stack.rows is not None
                row[0], row[2] = address_of(stack.rows), stack.rows.nbytes

    def _finish(self) -> bool:
        """Hand the results over; whether there was any turn."""
        turns = self._turns
        ran = int(self._words[W.turn]) - turns.step
        if not ran:
            return False
        first, dims = 0, self._dims.tolist()
        carried = zip(self._carried.tolist(), self._written, self._ranks, self._buffers, strict=True)
        for row, (_, dtype), rank, pair in carried:
            shape = tuple(dims[first : first + rank])
            first += rank
            buffer = pair[1 - row[5]]
            nbytes = math.prod(shape) * dtype.itemsize
            if nbytes < buffer.nbytes:
                buffer.resize(nbytes, refcheck=False)  # nobody but this has seen it
            turns.values[row[0]] = buffer.view(dtype).reshape(shape)
        for stack in turns.stacks:
            stack.count += ran
        turns.going = int(self._words[W.end]) != native.END_FALSE
        turns.passed(ran)
        return True
