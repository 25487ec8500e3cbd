"""What leads from one turn of a body to the next, as the tables that native code walks (`mace_core.native.turns`).

Made once for a plan.  There is none where a turn needs Python: where the body is more than one subgraph on host memory,
or where what it hands on cannot be told before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.scheduler.host.recurrence import Recurrence
from mace_core.scheduler.planning.plan import HOST, Register, RunStep, StagePlan, Storage
from mace_core.symbolic import Guard, SizeProgram, SizeProgramBuilder, Trace, is_symbolic, polynomial_of
from mace_core.symbolic import polynomial as poly
from mace_core.symbolic.polynomial import Polynomial
from mace_core.tensor import DType
from mace_core.tensor.symbolic import SymbolicTensor

if TYPE_CHECKING:
    from mace_core.scheduler.running.plans import PlanNumbers

Words = npt.NDArray[np.int64]

CARRIED, SCAN, OWN = range(3)
"""Kinds of places that a turn writes to."""
FEED, ADDRESS, KNOWN = range(3)
"""Kinds of places that a turn reads from: a feed, an address of the turn, what is always the same or follows from
the sizes."""

NO_LIMIT = 1 << 62


class Written(NamedTuple):
    """A carried value or a scan output: the register of the plan that is its result, that of its bytes in the size
    program, and whether its shape may change."""

    result: int
    nbytes: int
    is_sized: bool


@dataclass(slots=True, eq=False)
class TurnTable:
    """The parts of the state that are the same for every run; see `mace_core.native.turns.TurnWords`.

    Attributes:
        step: the one step of the plan.
        program: computes the sizes.
        largest: what the value of a symbol may be at most.
        guards, moves, contents, checks, same, sizes, copies, inputs, outputs: tables.  Addresses in ``sizes`` and
            ``inputs``, and of known sources in ``copies``, are positions of registers of the plan, to be filled in.
        carried: with the position of the feed and a `Written` each; what stays as it is, is not among them.
        scans: of the results that are gathered.
        scan_guards: (row of ``guards``, scan, axis): dimensions that must be those of the turns before.
        dims: for each of ``carried`` the registers of its dimensions.
        feeds: how many addresses of feeds there are.
        condition: index of the output that ends the turns, as an address; -1: none.
        is_counted: whether the counter is read.
        arena_bytes, workspace_offset: registers.
    """

    step: RunStep
    program: SizeProgram
    largest: int
    guards: Words
    moves: Words
    contents: Words
    checks: Words
    same: Words
    sizes: Words
    copies: Words
    inputs: Words
    outputs: Words
    carried: list[tuple[int, Written]]
    scans: list[Written]
    scan_guards: list[tuple[int, int, int]]
    dims: list[tuple[int, ...]]
    feeds: int
    condition: int
    arena_bytes: int
    workspace_offset: int


def make_turn_table(plan: StagePlan, recurrence: Recurrence, numbers: PlanNumbers | None) -> TurnTable | None:
    """The table for a plan, where it can be; ``numbers`` of one with symbolic sizes."""
    if len(plan.steps) != 1 or plan.stage.rest is not None or plan.numerics is not None:
        return None
    step = plan.steps[0]
    if not isinstance(step, RunStep) or step.location != HOST:
        return None
    registers = plan.registers
    plain = all(registers[r].storage is Storage.INPUT and is_plain(registers[r]) for r in plan.feeds)
    plain = plain and all(registers[r].storage is Storage.FRESH and is_plain(registers[r]) for r in step.outputs)
    if not plain or (plan.sizes is None) is not (numbers is None):
        return None
    return TableMaker(plan, step, recurrence, numbers).make()


def is_plain(register: Register) -> bool:
    return not register.dtype.is_packed and register.dtype is not DType.STRING


class UnsuitedError(Exception):
    """A turn needs Python."""


@dataclass(slots=True, eq=False)
class TableMaker:
    plan: StagePlan
    step: RunStep
    recurrence: Recurrence
    numbers: PlanNumbers | None
    _builder: SizeProgramBuilder = field(default_factory=lambda: SizeProgramBuilder(Trace()))
    _moves: list[tuple[int, int, int]] = field(default_factory=list)
    _contents: list[tuple[int, int, int, int]] = field(default_factory=list)
    _checks: list[tuple[int, int, int, int]] = field(default_factory=list)
    _same: dict[int, None] = field(default_factory=dict)
    _copies: list[tuple[int, int, int, int]] = field(default_factory=list)
    _places: dict[int, tuple[int, int]] = field(default_factory=dict)  # by output of the step: where it is written

    def make(self) -> TurnTable | None:
        try:
            return self._table()
        except UnsuitedError:
            return None

    def _table(self) -> TurnTable:
        plan, registers = self.plan, self.plan.registers
        carried: list[tuple[int, Written]] = []
        for feed, result in self.recurrence.carried:
            register = plan.results[result]
            if register != plan.feeds[feed]:
                self._place(register, CARRIED, len(carried))
                carried.append((feed, self._written(register)))
        scans: list[Written] = []
        for result in self.recurrence.scans:
            self._place(plan.results[result], SCAN, len(scans))
            scans.append(self._written(plan.results[result]))
        self._follow({feed: written.result for feed, written in carried})
        guards = self._guard_rows()
        scan_guards = []
        for index, written in enumerate(scans):
            for axis, dim in enumerate(registers[written.result].shape or ()):
                if is_symbolic(dim):
                    scan_guards.append((len(guards), index, axis))
                    guards.append((self._size(dim), 0, False, True))
        return self._finished(carried, scans, scan_guards, guards, len(plan.feeds), self._condition())

    def _guard_rows(self) -> list[tuple[int, int, bool, bool]]:
        return [(self._register(g.expression), 0, g.relation == "<", g.outcome) for g in self._guards()]

    def _finished(
        self,
        carried: list[tuple[int, Written]],
        scans: list[Written],
        scan_guards: list[tuple[int, int, int]],
        guards: Sequence[tuple[int, int, bool, bool]],
        feeds: int,
        condition: int,
    ) -> TurnTable:
        plan = self.plan
        dims = [tuple(self._size(dim) for dim in plan.registers[w.result].shape or ()) for _, w in carried]
        arena = plan.arenas.get(HOST)
        arena_bytes = self._size(0 if arena is None else arena.total_bytes)
        workspace_offset = self._size(self.step.workspace_offset)
        sizes = list(self._sizes())
        return TurnTable(
            self.step,
            self._builder.finish() if plan.sizes is None else plan.sizes.program(),
            NO_LIMIT if plan.sizes is None else plan.sizes.largest,
            _words(guards, 4),
            _words(self._moves, 3),
            _words(self._contents, 4),
            _words(self._checks, 4),
            _words(list(self._same), 1),
            _words(sizes, 3),
            _words(self._copies, 4),
            _words([self._input(register) for register in self.step.inputs], 2),
            _words([self._places.get(o, (OWN, o)) for o in range(len(self.step.outputs))], 2),
            carried,
            scans,
            scan_guards,
            dims,
            feeds,
            condition,
            arena_bytes,
            workspace_offset,
        )

    # --- what is read and written ---------------------------------------------------------------------------------

    def _place(self, register: int, kind: int, index: int) -> None:
        """Let a result be written where it is wanted, or be copied there."""
        kind_of_source, source = self._source(register)
        if kind_of_source != ADDRESS:
            self._copies.append((kind, index, kind_of_source, source))
        elif source in self._places:
            self._copies.append((kind, index, ADDRESS, 1 + len(self.step.inputs) + source))
        else:
            self._places[source] = kind, index

    def _source(self, register: int) -> tuple[int, int]:
        """A result is an output of the step, something that was fed, or known without a run."""
        if register in self.step.outputs:
            return ADDRESS, self.step.outputs.index(register)
        if register in self.plan.feeds:
            return FEED, self.plan.feeds.index(register)
        found = self.plan.registers[register]
        if found.storage in (Storage.CONSTANT, Storage.SIZES) and is_plain(found):
            return KNOWN, register
        raise UnsuitedError

    def _input(self, register: int) -> tuple[int, int]:
        if register in self.plan.feeds:
            return FEED, self.plan.feeds.index(register)
        if self.plan.registers[register].storage in (Storage.CONSTANT, Storage.SIZES):
            return ADDRESS, register
        raise UnsuitedError

    def _condition(self) -> int:
        if self.recurrence.condition < 0:
            return -1
        kind, index = self._source(self.plan.results[self.recurrence.condition])
        constant = self.plan.registers[index].constant if kind == KNOWN else None
        if constant is not None and not isinstance(constant, SymbolicTensor) and constant.numpy().all():
            return -1  # the guards see to it
        if kind != ADDRESS:
            raise UnsuitedError
        return 1 + len(self.step.inputs) + index

    def _written(self, register: int) -> Written:
        found = self.plan.registers[register]
        is_sized = any(is_symbolic(dim) for dim in found.shape or ())
        return Written(register, self._size(found.nbytes), is_sized)

    def _sizes(self) -> Iterator[tuple[int, int, int]]:
        """Integers in memory that follow from the sizes: address, register, width, element by element."""
        for index, register in enumerate(self.plan.registers):
            if register.storage is Storage.SIZES:
                assert register.constant is not None
                is_wide = register.dtype.numpy.itemsize == 8
                if register.dtype not in (DType.INT64, DType.INT32):
                    raise UnsuitedError
                for item in register.constant.tolist():
                    yield index, self._size(item), is_wide

    # --- sizes ----------------------------------------------------------------------------------------------------

    def _guards(self) -> Sequence[Guard]:
        return () if self.plan.sizes is None else self.plan.sizes.guards

    def _size(self, size: int) -> int:
        return self._register(polynomial_of(size))

    def _register(self, expression: Polynomial) -> int:
        sizes = self.plan.sizes
        return self._builder.register(expression) if sizes is None else sizes.register(expression)

    def _follow(self, changed: dict[int, int]) -> None:
        """Say how the numbers of the next turn's signature follow from this turn; ``changed``: by feed, the register
        that it is the result of."""
        if self.numbers is None:
            for feed, result in changed.items():
                if self.plan.registers[self.plan.feeds[feed]].shape != self.plan.registers[result].shape:
                    raise UnsuitedError
            return
        places = self.numbers.places
        for symbol, positions in enumerate(self.numbers.symbols):
            sources: list[Polynomial] = []
            for position in positions:
                place = places[position]
                if not place.is_content:
                    sources.append(self._next(place.feed, place.at, changed, poly.atom(symbol)))
                elif place.feed == self.recurrence.counter or place.feed in changed:
                    self._contents.append((symbol, place.feed, place.at, self._is_wide(place.feed)))
            for other in sources[1:]:
                self._must_be_same(sources[0], other)
            if sources and poly.key_of(sources[0]) != poly.key_of(poly.atom(symbol)):
                self._moves.append((symbol, self._register(sources[0]), 0))
        for position, number in self.numbers.fixed:
            place = places[position]
            if not place.is_content:
                expected = poly.constant(number)
                self._must_be_same(expected, self._next(place.feed, place.at, changed, expected))
            elif place.feed == self.recurrence.counter:
                raise UnsuitedError
            elif place.feed in changed:
                self._checks.append((place.feed, place.at, self._is_wide(place.feed), number))

    def _next(self, feed: int, axis: int, changed: dict[int, int], now: Polynomial) -> Polynomial:
        """What a size of a feed is in the next turn."""
        if feed not in changed:
            return now
        shape = self.plan.registers[changed[feed]].shape
        fed = self.plan.registers[self.plan.feeds[feed]].shape
        if shape is None or fed is None or len(shape) != len(fed):
            raise UnsuitedError
        return polynomial_of(shape[axis])

    def _must_be_same(self, first: Polynomial, second: Polynomial) -> None:
        difference = poly.add(second, first, -1)
        known = poly.as_constant(difference)
        if known is None:
            self._same[self._register(difference)] = None
        elif known:
            raise UnsuitedError

    def _is_wide(self, feed: int) -> bool:
        return self.plan.registers[self.plan.feeds[feed]].dtype.numpy.itemsize == 8


def _words(rows: Sequence[object], width: int) -> Words:
    return np.array(rows, np.int64).reshape(-1, width)
