"""Runs the turns of a body natively: memory for what they hand on, one call, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ProviderBugError
from mace_core.native import turns as native
from mace_core.native.turns import W
from mace_core.provider.execution import Turns as ProviderTurns
from mace_core.provider.poison import poison_byte
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.host.recurrence import Turns
from mace_core.scheduler.planning.plan import Storage
from mace_core.scheduler.running.calls import run_execution_turns
from mace_core.scheduler.running.imports import is_opaque
from mace_core.scheduler.running.turn_tables import FEED, KNOWN, OWN, TurnTable, make_turn_table
from mace_core.scheduler.values import RuntimeValue, address_of, storage

__all__ = ["make_turn_table", "run_turns"]

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


def run_turns(
    table: TurnTable, instance: StageInstance, turns: Turns, values: Sequence[RuntimeValue], context: RunContext
) -> bool | None:
    """Run as many turns as can be; whether there was any, None where there never will be.

    Args:
        table: of the instance's plan.
        instance: has the sizes of the first turn.
        turns: where the results go.
        values: the inputs of the first turn.
        context: its cancel flag is polled.
    """
    if poison_byte() is not None:
        return None
    arrays: list[npt.NDArray[Any]] = []
    for value, register in zip(values, instance.plan.feeds, strict=True):
        dtype = instance.plan.registers[register].dtype
        if not isinstance(value, np.ndarray) or is_opaque(value) or value.dtype != dtype.numpy:
            return False
        arrays.append(storage(value, dtype))
    for stack, written in zip(turns.stacks, table.scans, strict=True):
        if stack.rows is not None and stack.rows.shape[1:] != instance.shape_of(written.result):
            return False  # which is an error of the model
    state = _State(table, instance, turns, arrays)
    execution, bindings = instance.prepared()
    bindings.cancel = context.cancel
    while True:
        if not run_execution_turns(execution, bindings, state.for_provider(), instance.single_device()):
            return None
        if state.end == native.ON:
            raise ProviderBugError(f"{instance.plan.placed.model}: turns came to an end before they were over")
        if state.end != native.END_ROOM:
            break
        state.make_room()
    return state.finish()


class _State:
    """The state of `mace_core.native.turns` for one run, and the memory that it refers to."""

    def __init__(self, table: TurnTable, instance: StageInstance, turns: Turns, arrays: list[npt.NDArray[Any]]) -> None:
        self._table = table
        self._instance = instance
        self._turns = turns
        self._arrays = arrays
        self._words = np.zeros(len(W), np.int64)
        self._kept: list[Words] = []
        self._sizes: dict[int, npt.NDArray[np.uint8]] = {}
        program = table.program
        self._registers = np.zeros(program.registers, np.int64)
        self._registers[: program.symbols] = instance.symbols()
        self._table_of(W.rows, W.row_count, program.rows)
        words = self._words
        words[W.symbols], words[W.largest], words[W.is_stale] = program.symbols, table.largest, 1
        words[W.registers] = self._registers.ctypes.data
        for name, count in _TABLES:
            self._table_of(getattr(W, name), getattr(W, count), self._filled(name))
        self._place_feeds()
        self._place_results()
        self._addresses = np.zeros(1 + len(table.inputs) + len(table.outputs), np.int64)
        words[W.addresses] = self._addresses.ctypes.data
        words[W.condition] = table.condition
        words[W.turn], words[W.turns] = turns.step, turns.limit
        words[W.arena_bytes], words[W.workspace_offset] = table.arena_bytes, table.workspace_offset
        words[W.arena], words[W.arena_room] = instance.arena()

    @property
    def end(self) -> int:
        return int(self._words[W.end])

    def for_provider(self) -> ProviderTurns:
        address = int(self._words.ctypes.data)
        tensors = len(self._table.inputs) + len(self._table.outputs)
        return ProviderTurns(
            native.advance_turn(),
            address,
            address + 8 * W.end,
            int(self._addresses.ctypes.data),
            tensors,
            int(self._registers.ctypes.data),
        )

    # --- tables ---------------------------------------------------------------------------------------------------

    def _table_of(self, at: int, count: int, rows: Words) -> None:
        self._kept.append(rows)
        self._words[at], self._words[count] = rows.ctypes.data, len(rows)

    def _filled(self, name: str) -> Words:
        """A table with the addresses and numbers of this run."""
        rows: Words = getattr(self._table, name)
        match name:
            case "guards" if self._table.scan_guards:
                rows = rows.copy()
                for row, scan, axis in self._table.scan_guards:
                    rows[row, 1] = self._instance.shape_of(self._table.scans[scan].result)[axis]
            case "sizes" if len(rows):
                rows = rows.copy()
                places: dict[int, int] = {}
                for row in rows:
                    register = int(row[0])
                    place = places.get(register, self._own_sizes(register))
                    places[register] = place + (8 if row[2] else 4)
                    row[0] = place
            case "inputs":
                rows = rows.copy()
                for row in rows:
                    if row[0] != FEED:
                        row[1] = self._known(int(row[1]))
            case "copies" if len(rows):
                rows = rows.copy()
                for row in rows:
                    if row[2] == KNOWN:
                        row[3] = self._known(int(row[3]))
            case "outputs":
                rows = rows.copy()
                for row in rows:
                    if row[0] == OWN:  # nobody asks for it but as a condition
                        own = np.empty(max(self._instance.bytes_of(self._table.step.outputs[row[1]]), 1), np.uint8)
                        self._arrays.append(own)
                        row[1] = own.ctypes.data
        return rows

    def _known(self, register: int) -> int:
        """The address of a constant, or of integers that follow from the sizes."""
        return self._own_sizes(register) or self._instance.address_of(register)

    def _own_sizes(self, register: int) -> int:
        """Where this run has integers that follow from the sizes: other runs read the instance's.  0 for other
        registers."""
        if self._instance.plan.registers[register].storage is not Storage.SIZES:
            return 0
        own = self._sizes.get(register)
        if own is None:
            own = self._sizes[register] = np.empty(max(self._instance.bytes_of(register), 1), np.uint8)
        return int(own.ctypes.data)

    def _place_feeds(self) -> None:
        recurrence, turns = self._turns.recurrence, self._turns
        self._feeds = np.array([address_of(array) for array in self._arrays[: len(turns.values)]], np.int64)
        self._words[W.feeds] = self._feeds.ctypes.data
        if recurrence.counter >= 0:
            self._counter = np.full(max(self._arrays[recurrence.counter].size, 1), turns.step, np.int64)
            self._words[W.counter] = self._feeds[recurrence.counter] = self._counter.ctypes.data
        strides = []
        for position, source in zip(recurrence.rows, turns.sources, strict=True):
            row = source[turns.step, ...]
            if not (row.flags.c_contiguous and row.flags.aligned):
                source = np.ascontiguousarray(source)
            self._arrays.append(source)
            self._feeds[position] = int(source.ctypes.data) + turns.step * source.strides[0]
            strides.append((position, source.strides[0]))
        self._table_of(W.strides, W.stride_count, np.array(strides, np.int64).reshape(-1, native.STRIDE_WORDS))

    def _place_results(self) -> None:
        table, instance = self._table, self._instance
        carried = np.zeros((len(table.carried), native.CARRIED_WORDS), np.int64)
        self._buffers: list[list[npt.NDArray[np.uint8]]] = []
        for row, (feed, written) in zip(carried, table.carried, strict=True):
            room = instance.bytes_of(written.result) * (2 if written.is_sized else 1)
            pair = [np.empty(room, np.uint8), np.empty(room, np.uint8)]
            self._buffers.append(pair)
            row[:] = feed, pair[0].ctypes.data, pair[1].ctypes.data, room, room, 0, written.nbytes
        self._carried = carried
        self._table_of(W.carried, W.carried_count, carried)
        shapes = np.array([dim for dims in table.dims for dim in dims], np.int64)
        self._dims = np.zeros(len(shapes), np.int64)
        self._table_of(W.shapes, W.dim_count, shapes)
        self._words[W.dims] = self._dims.ctypes.data
        scans = np.zeros((len(table.scans), native.SCAN_WORDS), np.int64)
        for row, written, stack in zip(scans, table.scans, self._turns.stacks, strict=True):
            dtype = instance.plan.registers[written.result].dtype.numpy
            rows = stack.prepared(instance.shape_of(written.result), dtype)
            row[3] = written.nbytes
            row[1] = stack.count * (rows.nbytes // len(rows))
            row[0], row[2] = rows.ctypes.data, rows.nbytes
        self._scans = scans
        self._table_of(W.scans, W.scan_count, scans)

    # --- between calls, and at the end ----------------------------------------------------------------------------

    def make_room(self) -> None:
        """Give what this turn writes twice the room that it needs, where it has too little."""
        registers = self._registers
        needed = int(registers[self._table.arena_bytes])
        if needed > self._words[W.arena_room]:
            self._instance.grow_arena(2 * needed)
            self._words[W.arena], self._words[W.arena_room] = self._instance.arena()
        for row, pair in zip(self._carried, self._buffers, strict=True):
            which, nbytes = int(row[5]), int(registers[row[6]])
            if nbytes > row[3 + which]:
                pair[which] = np.empty(2 * nbytes, np.uint8)
                row[1 + which], row[3 + which] = pair[which].ctypes.data, 2 * nbytes
        for row, stack in zip(self._scans, self._turns.stacks, strict=True):
            if row[1] + registers[row[3]] > row[2]:
                stack.grow()
                assert stack.rows is not None
                row[0], row[2] = stack.rows.ctypes.data, stack.rows.nbytes

    def finish(self) -> bool:
        """Hand the results over; whether there was any turn."""
        turns = self._turns
        ran = int(self._words[W.turn]) - turns.step
        if not ran:
            return False
        first = 0
        for (feed, written), row, pair in zip(self._table.carried, self._carried, self._buffers, strict=True):
            rank = len(self._instance.plan.registers[written.result].shape or ())
            shape = tuple(self._dims[first : first + rank].tolist())
            first += rank
            buffer = pair[1 - int(row[5])]
            dtype = self._instance.plan.registers[written.result].dtype.numpy
            nbytes = math.prod(shape) * dtype.itemsize
            if nbytes < buffer.nbytes:
                buffer.resize(nbytes, refcheck=False)  # nobody but this has seen it
            turns.values[feed] = buffer.view(dtype).reshape(shape)
        for stack in turns.stacks:
            stack.count += ran
        turns.going = self.end != native.END_FALSE
        turns.passed(ran)
        return True
