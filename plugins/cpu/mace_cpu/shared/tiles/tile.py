"""The register tile that convolutions and matrix products share: rows x (vectors of columns) of accumulators.

Rows are output pixels (or rows of a matrix), columns output channels.  One step multiplies one column of the left
operand, broadcast, with one row of the packed right operand.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from llvmlite import ir

from mace_cpu.shared.codegen.body import CACHE_LINE_FLOATS, I8, I32, I64, LANES_TOGETHER, POINTER, Body, constant
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.tiles.arguments import STEPS_PER_FETCH


class LoadOperand(Protocol):
    """Loads the vector of tensor operand ``i`` for a row and a column vector, given as integers of the code."""

    def __call__(self, i: int, row: ir.Value, column: ir.Value) -> ir.Value: ...


CHEAP = frozenset(
    {"relu", "clip", "leaky_relu", "add", "sub", "rsub", "mul", "hard_sigmoid", "hard_swish", "prelu"}
    | {"save", "add_number", "mul_number"}
)
"""Epilogue operations of a few instructions; others are generated once, in a loop over the tile's vectors."""


class FetchAhead:
    """Brings memory that is needed later into the second level cache, a little at a time.

    All at once the requests would fill the queue that the tile's own loads go through.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._at = body.variable(POINTER)
        self._share = body.variable(I64)

    def begin(self, at: ir.Value, share: ir.Value) -> None:
        """From now on every `fetch` brings ``share`` floats (whole cache lines), the first of them at ``at``."""
        self._body.b.store(at, self._at)
        self._body.b.store(share, self._share)

    def fetch_for(self, steps: ir.Value) -> None:
        """Ask for what belongs to so many steps; nothing is done where a share is nothing."""
        body = self._body
        share = body.b.load(self._share, typ=I64)
        with (
            body.b.if_then(body.b.icmp_signed("!=", share, constant(0)), likely=False),
            body.loop(0, steps, STEPS_PER_FETCH),
        ):
            self.fetch()

    def fetch(self) -> None:
        """Ask for the next share."""
        body = self._body
        at, share = body.b.load(self._at, typ=POINTER), body.b.load(self._share, typ=I64)
        with body.loop(0, share, CACHE_LINE_FLOATS) as line:
            body.prefetch(body.floats(at, line))
        body.b.store(body.floats(at, share), self._at)


class Tile:
    """Accumulators of ``rows`` x ``vectors`` vectors.

    Attributes:
        columns: floats of one row: ``vectors * lanes``.
        together: steps that `lane_steps` takes.
        is_whole: whether it takes no others: every run has a multiple of them.
    """

    def __init__(self, body: Body, rows: int, vectors: int) -> None:
        self.body = body
        self.together = LANES_TOGETHER
        self.is_whole = False
        self.rows = rows
        self.vectors = vectors
        self.columns = vectors * body.lanes
        self._cells = [[body.variable(body.vector) for _ in range(vectors)] for _ in range(rows)]
        self._spilled = body.memory(ir.ArrayType(body.vector, rows))

    def close(self) -> None:
        """At the end of the kernel; vectors need nothing done."""

    def start(self, initial: Sequence[ir.Value]) -> None:
        """Set every row to ``initial`` (one vector per column vector)."""
        for row in self._cells:
            for cell, value in zip(row, initial, strict=True):
                self.body.b.store(value, cell)

    def start_rows(self, initial: Sequence[ir.Value]) -> None:
        """Set every vector of a row to the row's ``initial``."""
        for row, value in zip(self._cells, initial, strict=True):
            for cell in row:
                self.body.b.store(value, cell)

    def cell(self, row: int, v: int) -> ir.Value:
        """The present value of one accumulator."""
        return self.body.b.load(self._cells[row][v], typ=self.body.vector)

    def put(self, row: int, v: int, value: ir.Value) -> None:
        """Set one accumulator."""
        self.body.b.store(value, self._cells[row][v])

    def put_aside(self, at: ir.Value) -> None:
        """Store the accumulators as they are, row by row."""
        for i, cell in enumerate(cell for row in self._cells for cell in row):
            self.body.store(self.body.b.load(cell, typ=self.body.vector), self.body.floats(at, i * self.body.lanes))

    def take_up(self, at: ir.Value) -> None:
        """Go on from accumulators put aside."""
        for i, cell in enumerate(cell for row in self._cells for cell in row):
            self.body.b.store(self.body.load(self.body.floats(at, i * self.body.lanes)), cell)

    def step(self, left: Callable[[int], ir.Value], right: ir.Value) -> None:
        """Accumulate ``left(row) x right[columns]``: addresses of a scalar per row, and of a row of columns."""
        body = self.body
        vectors = [body.load(body.floats(right, v * body.lanes)) for v in range(self.vectors)]
        for r, row in enumerate(self._cells):
            factor = body.splat(body.load_scalar(left(r)))
            for v in range(len(row)):
                self.accumulate(r, v, factor, vectors[v])

    def lane_steps(self, left: Callable[[int], ir.Value], right: Callable[[int], ir.Value]) -> None:
        """As `together` times `step`: addresses of as many consecutive floats per row, and of a row of columns
        for each."""
        body = self.body
        factors = [body.load_factors(left(r)) for r in range(self.rows)]
        for lane in range(LANES_TOGETHER):
            for v in range(self.vectors):
                vector = body.load(body.floats(right(lane), v * body.lanes))
                for r, of_row in enumerate(factors):
                    self.accumulate(r, v, body.lane(of_row, lane), vector)

    def accumulate(self, row: int, v: int, left: ir.Value, right: ir.Value) -> None:
        """Add ``left * right`` (vectors) to one accumulator."""
        body, cell = self.body, self._cells[row][v]
        body.b.store(body.multiply_add(left, right, body.b.load(cell, typ=body.vector)), cell)

    def run(
        self,
        left: ir.Value,
        row_offsets: Sequence[ir.Value | int],
        right: ir.Value,
        right_step: ir.Value | int,
        length: ir.Value,
        unroll: int,
        ahead: FetchAhead | None = None,
    ) -> None:
        """``length`` steps over consecutive floats of the left operand and rows of the right one.

        In floats: ``row_offsets`` are the rows' distances from ``left``, ``right_step`` is from row to row of the right
        operand.  Every few steps a little is fetched as ``ahead`` says.
        """
        body = self.body
        starts = [body.floats(left, offset) for offset in row_offsets] if _is_dynamic(row_offsets) else None

        def at(row: int, k: ir.Value, ahead: int) -> ir.Value:
            if starts is not None:
                return body.floats(body.floats(starts[row], k), ahead)
            offset = row_offsets[row]
            assert isinstance(offset, int)
            return body.floats(body.floats(left, k), offset + ahead)

        def steps(start: ir.Value, stop: ir.Value) -> None:
            whole = start
            if body.takes_lanes:
                whole = body.add(start, body.b.and_(body.sub(stop, start), constant(-self.together)))
                with body.loop(start, whole, self.together) as k:
                    self.lane_steps(
                        functools.partial(at, k=k, ahead=0),
                        lambda lane: body.floats(right, body.mul(body.add(k, lane), right_step)),
                    )
            elif unroll > 1:
                whole = body.add(start, body.b.and_(body.sub(stop, start), constant(-unroll)))
                with body.loop(start, whole, unroll) as k:
                    for u in range(unroll):
                        columns = body.floats(right, body.mul(body.add(k, u), right_step))
                        self.step(functools.partial(at, k=k, ahead=u), columns)
            if self.is_whole:
                return
            with body.loop(whole, stop) as k:
                self.step(functools.partial(at, k=k, ahead=0), body.floats(right, body.mul(k, right_step)))

        if ahead is None:
            steps(constant(0), length)
            return
        if body.takes_lanes:
            # a run may be as short as two turns: what is fetched during it is asked for at once
            ahead.fetch_for(length)
            steps(constant(0), length)
            return
        with body.loop(0, length, STEPS_PER_FETCH) as first:
            ahead.fetch()
            steps(first, body.minimum(body.add(first, STEPS_PER_FETCH), length))

    def run_kept(
        self,
        left: ir.Value,
        row_offsets: Sequence[int],
        right: ir.Value,
        kept: ir.Value,
        length: ir.Value,
        ahead: FetchAhead | None = None,
        place: Callable[[ir.Value], ir.Value] | None = None,
    ) -> None:
        """As `run`, over ``length`` steps whose places in the left operand are in the table ``kept``.

        The rows of the right operand follow each other without gaps.

        Args:
            place: from an entry of the table to a distance in floats; by default it is one.
        """
        body = self.body

        def steps(start: ir.Value, stop: ir.Value) -> None:
            with body.loop(start, stop) as k:
                entry = body.b.load(body.b.gep(kept, [k], inbounds=True, source_etype=I32), typ=I32, align=4)
                entry = body.b.zext(entry, I64)
                here = body.floats(left, entry if place is None else place(entry))
                self.step(
                    lambda row: body.floats(here, row_offsets[row]), body.floats(right, body.mul(k, self.columns))
                )

        if ahead is None:
            steps(constant(0), length)
            return
        with body.loop(0, length, STEPS_PER_FETCH) as first:
            ahead.fetch()
            steps(first, body.minimum(body.add(first, STEPS_PER_FETCH), length))

    def finish(
        self,
        epilogue: EpilogueCode,
        *,
        channel: Callable[[int, int], ir.Value],
        tensor: LoadOperand,
        store: Callable[[ir.Value, ir.Value, ir.Value], None],
        rolled: bool | None = None,
        where: Callable[[ir.Value], ir.Value] | None = None,
    ) -> None:
        """Apply the epilogue and store.

        Args:
            channel: loads the vector of per-channel operand ``i`` that belongs to column vector ``v``.
            tensor: loads the vector of tensor operand ``i`` for (row, column vector), given as integers of the code.
            store: stores a vector for (row, column vector).
            rolled: generate this once, in a loop over rows; by default where the operations take many instructions.
            where: whether a row exists; others are neither loaded nor stored.  Always rolled.
        """
        body = self.body
        count = sum(op.operand == "channel" for op in epilogue.ops)
        if rolled is None:
            rolled = where is not None or any(op.kind not in CHEAP for op in epilogue.ops)
        if not rolled:
            for v in range(self.vectors):
                operands = [channel(i, v) for i in range(count)]
                for r in range(self.rows):
                    row, column = constant(r), constant(v)
                    total = body.b.load(self._cells[r][v], typ=body.vector)
                    result = epilogue.emit(
                        body.b,
                        total,
                        channel=operands.__getitem__,
                        tensor=functools.partial(tensor, row=row, column=column),
                    )
                    store(result, row, column)
            return
        nbytes = 4 * body.lanes
        for v in range(self.vectors):
            for r in range(self.rows):
                at = body.b.gep(self._spilled, [constant(r * nbytes)], source_etype=I8)
                body.b.store(body.b.load(self._cells[r][v], typ=body.vector), at, align=4)
            operands = [channel(i, v) for i in range(count)]
            with body.loop(0, constant(self.rows)) as row, _only_if(body, where, row):
                at = body.b.gep(self._spilled, [body.mul(row, nbytes)], source_etype=I8)
                column = constant(v)
                result = epilogue.emit(
                    body.b,
                    body.b.load(at, typ=body.vector, align=4),
                    channel=operands.__getitem__,
                    tensor=functools.partial(tensor, row=row, column=column),
                )
                store(result, row, column)


def _only_if(body: Body, where: Callable[[ir.Value], ir.Value] | None, row: ir.Value) -> AbstractContextManager[object]:
    return nullcontext() if where is None else body.b.if_then(where(row))


def _is_dynamic(offsets: Sequence[ir.Value | int]) -> bool:
    return any(not isinstance(offset, int) for offset in offsets)
