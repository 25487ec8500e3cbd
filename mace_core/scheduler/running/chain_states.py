"""What one run of a chain works with: executions, their memory, and the tables that native code walks."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.host.memory import require_host_memory
from mace_core.native import turns as native
from mace_core.native.stages import AGAIN, ENTERING, StageRunner
from mace_core.native.turns import E, W
from mace_core.provider.border import instance_of, told
from mace_core.provider.execution import CancelFlag, NativeStage
from mace_core.scheduler.planning.plan import Storage
from mace_core.scheduler.running.executor import StageInstance
from mace_core.scheduler.running.stage_tables import ONCE
from mace_core.scheduler.running.turning import TurnState
from mace_core.scheduler.values import RuntimeValue, address_of

if TYPE_CHECKING:
    from mace_core.scheduler.running.chains import Chain, Source
    from mace_core.scheduler.running.plans import GraphPlan, PlanNumbers
    from mace_core.scheduler.running.turn_tables import TurnTable

_SLACK = 8
"""Room for a result is larger than the latest one by an eighth of it, and shrinks by as much where it was too large."""


class Unfinished(NamedTuple):
    """A run that came to a stage whose plan does not hold for the sizes found.

    Attributes:
        stage: the number of that stage.
        values: what the stages before handed over.
    """

    stage: int
    values: dict[Value, RuntimeValue]


class _Stage(TurnState):
    """One stage, as a turn that hands nothing to a next one.

    Attributes:
        numbers: of the signature; those that are contents are not filled in.
        natively: what the provider made of it.
        device: of the provider.
        planned: by output of the step, the position of those whose shape is planned; others are found by the run.
    """

    def __init__(self, table: TurnTable, plan: GraphPlan, numbers: PlanNumbers) -> None:
        """
        Raises:
            ValueError: if the provider does not offer it.
        """
        super().__init__(table, plan.plan, ONCE)
        self.plan = plan.plan
        self.numbers = (ctypes.c_int64 * max(len(numbers.places), 1))()
        self.feeds = self._feeds.data
        self.feeds[len(self.plan.feeds)] = ctypes.addressof(self.numbers)
        self._arenas = plan.arenas
        self._idle: list[StageInstance] = []
        self._instance = instance = StageInstance(self.plan)
        self._refer_to(instance)
        self._state, self._rows = self._words.data, self._carried.data
        self._planned_dims, self._values = self._dims.data, self._registers.data
        ends = np.cumsum([0, *self._ranks]).tolist()
        self._spans: list[tuple[int, int]] = list(itertools.pairwise(ends))
        self._state[W.turns] = 1
        execution, bindings = instance.prepared()
        self.device = instance.single_device()
        with self.device.calling("Execution.native_stage"):
            made = instance_of((NativeStage, NoneType), execution.native_stage(bindings, self._for_provider))
        if made is None:
            instance.close()
            raise ValueError("the execution cannot be a stage")
        self.natively: NativeStage = made
        self._found = {each.output: each for each in made.found}
        outputs = table.step.outputs
        fresh = [i for i, register in enumerate(outputs) if self.plan.registers[register].storage is Storage.FRESH]
        self.planned = {output: position for position, output in enumerate(fresh)}
        self._rooms = [max(instance.bytes_of(written.result), 64) for _, written in table.carried]
        self._memory = [np.empty(0, np.uint8)] * len(self._rooms)
        self._idle.append(instance)

    # --- where things are -----------------------------------------------------------------------------------------

    @property
    def state_address(self) -> int:
        return int(self._words.ctypes.data)

    def feed_address(self, feed: int) -> int:
        """The address of the word that says where a feed is."""
        return int(self._words[W.feeds]) + 8 * feed

    def output_address(self, output: int) -> tuple[int, ...]:
        """The addresses of one word or two, whose sum is the address of an output."""
        if output in self.planned:
            return (self._row_address(self.planned[output], 1),)
        return int(self._words[W.addresses]), self._found[output].offset

    def dims_address(self, output: int) -> int:
        """The address of an output's dimensions."""
        if output not in self.planned:
            return self._found[output].dims
        return int(self._words[W.dims]) + 8 * self._spans[self.planned[output]][0]

    def exchange_addresses(self) -> list[int]:
        """The addresses of the words that say which of two buffers a result is written to: the first."""
        return [self._row_address(position, 5) for position in range(len(self.planned))]

    def _row_address(self, position: int, word: int) -> int:
        return int(self._words[W.carried]) + 8 * (native.CARRIED_WORDS * position + word)

    # --- a run ----------------------------------------------------------------------------------------------------

    def begin(self, cancel: CancelFlag) -> None:
        """Take memory for a run."""
        instance = self._idle.pop()
        if instance.needs_arena:
            self._equip(instance)
        self.natively.begin(cancel)

    def rest(self) -> None:
        """The run is over: others may have the arena."""
        self._idle.append(self._instance)

    def new_result(self, position: int) -> npt.NDArray[Any]:
        """Memory for a result that is handed out."""
        dtype = self._written[position][1]
        array = np.empty(self._rooms[position] // dtype.itemsize + 1, dtype)
        self._place(position, array)
        return array

    def keep_result(self, position: int) -> None:
        """Let a result that only stages read be written to memory that is kept."""
        self._memory[position] = np.empty(self._rooms[position], np.uint8)
        self._place(position, self._memory[position])

    def needed(self, position: int) -> int:
        """Bytes of a result of the latest run."""
        return int(self._values[self._rows[position, 6]])

    def learn(self, position: int) -> None:
        """Let the next result have room for one that is as large as the latest one."""
        needed, room = self.needed(position), self._rooms[position]
        self._rooms[position] = max(needed + needed // _SLACK, room - room // _SLACK)

    def grow(self, results: dict[int, npt.NDArray[Any]]) -> None:
        """Make room for what is about to be written, where there is too little.

        Args:
            results: those that are handed out, by position; exchanged for larger ones.
        """
        needed = int(self._registers[self._table.arena_bytes])
        if needed > self._state[W.arena_room]:
            self._instance.needed_bytes = needed
            self._equip(self._instance)
        for position in range(len(self.planned)):
            nbytes = self.needed(position)
            if nbytes > self._rows[position, 3]:
                require_host_memory(nbytes)
                self._rooms[position] = nbytes + nbytes // _SLACK
                if position in results:
                    results[position] = self.new_result(position)
                else:
                    self.keep_result(position)

    @property
    def end(self) -> int:
        """Why the stage came to an end."""
        return int(self._state[W.end])

    def shape(self, output: int) -> tuple[int, ...]:
        """Of an output of the latest run."""
        if output in self.planned:
            first, end = self._spans[self.planned[output]]
            return tuple(self._planned_dims[first:end])
        found = self._found[output]
        return tuple((ctypes.c_int64 * found.rank).from_address(found.dims))

    def copied(self, output: int) -> npt.NDArray[Any]:
        """An output of the latest run as an array of its own."""
        shape = self.shape(output)
        dtype = self.plan.registers[self._table.step.outputs[output]].dtype.numpy
        nbytes = math.prod(shape) * dtype.itemsize
        require_host_memory(nbytes)
        array = np.empty(shape, dtype)
        if nbytes:
            address = sum(ctypes.c_int64.from_address(word).value for word in self.output_address(output))
            ctypes.memmove(address_of(array), address, nbytes)
        return array

    def close(self) -> None:
        """Free what it works with."""
        self._arenas.forget(self._instance)
        self._instance.close()

    def _place(self, position: int, array: npt.NDArray[Any]) -> None:
        self._rows[position, 1], self._rows[position, 3] = address_of(array), array.nbytes

    def _equip(self, instance: StageInstance) -> None:
        self._arenas.equip(instance, self._idle)
        self._state[W.arena], self._state[W.arena_room] = instance.arena()


class ChainState:
    """The stages of a chain, connected; for one run at a time."""

    def __init__(self, chain: Chain) -> None:
        """
        Raises:
            ValueError: if a provider does not offer its stage.
        """
        self._chain = chain
        self._stages: list[_Stage] = []
        try:
            for table, plan, numbers in zip(chain.tables, chain.plans, chain.numbers, strict=True):
                self._stages.append(_Stage(table, plan, numbers))
        except BaseException:
            self.close()
            raise
        self._zero = np.zeros(1, np.int64)
        self._kept: list[npt.NDArray[np.int64]] = []
        blocks = [(self._enter(at, stage), stage.natively.block) for at, stage in enumerate(self._stages)]
        self._runner = StageRunner(blocks)
        first = self._stages[0]
        self._numbers, self._count = first.numbers, len(chain.numbers[0].places)
        self._feeds = first.feeds
        sources = [chain.sources[value] for value in chain.outputs]
        self._outputs = [(self._stages[s], i, self._stages[s].planned.get(i, -1), s) for s, i in sources]
        handed_out = {(s, position) for _, _, position, s in self._outputs if position >= 0}
        for number, stage in enumerate(self._stages):
            for position in stage.planned.values():
                if (number, position) not in handed_out:
                    stage.keep_result(position)
        self._handed_out = sorted(handed_out)
        self._failing = [number for number, stage in enumerate(self._stages) if stage.natively.may_fail]

    def run(
        self, arrays: Sequence[npt.NDArray[Any]], shapes: Sequence[tuple[int, ...]], cancel: CancelFlag
    ) -> list[RuntimeValue] | Unfinished | None:
        """As `Chain.run`."""
        self._numbers[: self._count] = [size for shape in shapes for size in shape]
        feeds, stages = self._feeds, self._stages
        for at, array in enumerate(arrays):
            feeds[at] = address_of(array)
        results: list[dict[int, npt.NDArray[Any]]] = [{} for _ in stages]
        for number, position in self._handed_out:
            results[number][position] = stages[number].new_result(position)
        for stage in stages:
            stage.begin(cancel)
        ran = self._run(results)
        if ran == len(stages):
            found = [
                stage.copied(output) if position < 0 else self._finished(stage, output, position, results[number])
                for stage, output, position, number in self._outputs
            ]
        for stage in stages:
            stage.rest()
        if ran < len(stages):
            return self._unfinished(ran, arrays) if ran else None
        return found

    def close(self) -> None:
        """Free what it works with."""
        for stage in self._stages:
            stage.close()

    def _run(self, results: list[dict[int, npt.NDArray[Any]]]) -> int:
        """Run stages; how many did."""
        stages, start = self._stages, ENTERING
        while True:
            ran = self._runner.run(start, self._stop)
            for number in self._failing:
                if number <= ran:
                    self._check(stages[number])
            if ran == len(stages):
                return ran
            stage = stages[ran]
            if stage.end != native.END_ROOM:
                return ran
            stage.grow(results[ran])
            start = AGAIN

    def _finished(self, stage: _Stage, output: int, position: int, results: dict[int, npt.NDArray[Any]]) -> Any:
        array = results[position]
        array.resize(stage.shape(output), refcheck=False)  # nobody but this has seen it
        stage.learn(position)
        return array

    def _stop(self, number: int) -> None:
        stage = self._stages[number]
        try:
            stage.natively.stop()
        except BaseException as error:
            self._raise(stage, error)

    def _check(self, stage: _Stage) -> None:
        try:
            stage.natively.check()
        except BaseException as error:
            self._raise(stage, error)

    def _raise(self, stage: _Stage, error: BaseException) -> NoReturn:
        found = told(error, stage.device.name, "Execution.run", stage.device.model)
        if found is error:
            raise error
        raise found from error

    def _unfinished(self, ran: int, arrays: Sequence[npt.NDArray[Any]]) -> Unfinished:
        values: dict[Value, RuntimeValue] = {}
        for stage in self._stages[:ran]:
            for register in stage.plan.results:
                value = stage.plan.registers[register].value
                number, index = self._chain.sources[value]
                values[value] = arrays[index] if number < 0 else self._stages[number].copied(index)
        return Unfinished(ran, values)

    # --- what a stage is handed -----------------------------------------------------------------------------------

    def _enter(self, number: int, stage: _Stage) -> int:
        """The address of what `mace_core.native.turns.EnterWords` describes."""
        zero = int(self._zero.ctypes.data)
        words = [(address, zero) for address in stage.exchange_addresses()]
        sums: list[tuple[int, int, int]] = []
        numbers, feeds = self._chain.numbers[number], stage.plan.feeds
        own = ctypes.addressof(stage.numbers)
        if number:
            sources = [self._chain.sources[stage.plan.registers[register].value] for register in feeds]
            for feed, source in enumerate(sources):
                target, found = stage.feed_address(feed), self._address_words(source)
                if len(found) == 1:
                    words.append((target, *found))
                else:
                    sums.append((target, found[0], found[1]))
            for position, place in enumerate(numbers.places):
                if not place.is_content:
                    words.append((own + 8 * position, self._dims_address(sources[place.feed]) + 8 * place.at))
        equal = [(own + 8 * first, own + 8 * other) for first, *others in numbers.symbols for other in others]
        tables = np.zeros(len(E), np.int64)
        self._kept.append(tables)
        for at, rows, width in ((E.words, words, 2), (E.sums, sums, 3), (E.equal, equal, 2)):
            table = np.array(rows, np.int64).reshape(-1, width)
            self._kept.append(table)
            tables[at], tables[at + 1] = int(table.ctypes.data), len(table)
        tables[E.state] = stage.state_address
        return int(tables.ctypes.data)

    def _address_words(self, source: Source) -> tuple[int, ...]:
        if source.stage < 0:
            return (self._stages[0].feed_address(source.position),)
        return self._stages[source.stage].output_address(source.position)

    def _dims_address(self, source: Source) -> int:
        if source.stage >= 0:
            return self._stages[source.stage].dims_address(source.position)
        first = self._stages[0]
        ranks = [len(first.plan.registers[register].shape or ()) for register in first.plan.feeds]
        return ctypes.addressof(first.numbers) + 8 * sum(ranks[: source.position])
