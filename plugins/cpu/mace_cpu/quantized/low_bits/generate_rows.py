"""Several rows times packed weights: a few steps of a panel are unpacked at a time, and serve all rows of a segment.

The sums of each register tile are put aside between the pieces of the dimension summed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.low_bits.arguments import VECTORS, RowsArg, RowsVariant
from mace_cpu.quantized.low_bits.generate_unpacking import Unpacking, zero_points
from mace_cpu.shared.codegen.body import Body, constant
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.tiles.row_steps import run_rows
from mace_cpu.shared.tiles.tile import Tile

POINTERS = (RowsArg.LEFT, RowsArg.CODES, RowsArg.SCALES, RowsArg.ZEROS, RowsArg.OUTPUT, RowsArg.SCRATCH)


def build(symbol: str, variant: RowsVariant, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of the kernel; arguments are `RowsArg`, then epilogue channels, then epilogue tensors."""
    return _Rows(symbol, variant, ops, target).emit()


class _Rows:
    def __init__(self, symbol: str, variant: RowsVariant, ops: tuple[EpilogueOp, ...], target: Target) -> None:
        self.variant = variant
        self.body = body = Body(symbol, variant.lanes, target.features)
        self.words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in RowsArg}
        self.epilogue = EpilogueCode(body, len(RowsArg), ops)
        self.unpacking = Unpacking(body, variant.form, target)
        self.tile = Tile(body, variant.rows, variant.vectors)
        self.width = VECTORS * variant.lanes
        self.parts = VECTORS // variant.vectors

    def emit(self) -> str:
        body, words, group = self.body, self.words, self.variant.form.group
        unpacked = body.floats(words[RowsArg.SCRATCH], body.mul(body.chunk, words[RowsArg.SCRATCH_STEP]))
        aside = body.floats(unpacked, body.mul(words[RowsArg.PIECE], group * self.width))
        with body.loop(body.begin, body.end) as unit:
            segment, panel = body.divide(unit, words[RowsArg.PANELS])
            start = body.mul(segment, words[RowsArg.SEGMENT])
            stop = body.minimum(body.add(start, words[RowsArg.SEGMENT]), words[RowsArg.ROWS])
            with self._tiles(start, stop) as (_, _, place):
                self.tile.start([body.zero()] * self.tile.vectors)
                self.tile.put_aside(body.floats(aside, place))
            with body.loop(0, words[RowsArg.GROUPS], words[RowsArg.PIECE]) as first:
                end = body.minimum(body.add(first, words[RowsArg.PIECE]), words[RowsArg.GROUPS])
                self._unpack(panel, first, end, unpacked)
                steps = body.mul(body.sub(end, first), group)
                self._multiply(start, stop, body.mul(first, group), steps, unpacked, aside)
            self._finish(start, stop, body.mul(panel, self.width), aside)
        return body.text()

    @contextmanager
    def _tiles(self, start: ir.Value, stop: ir.Value) -> Iterator[tuple[ir.Value, ir.Value, ir.Value]]:
        """Each tile of the rows of a segment: its first row, its part of the panel, where its sums are put aside.

        The last tile is moved back, so that no tile lacks rows; some are computed twice.
        """
        body, rows = self.body, self.variant.rows
        with body.loop(0, constant(self.parts)) as part, body.loop(start, stop, rows) as wanted:
            number = body.b.udiv(body.sub(wanted, start), constant(rows))
            slot = body.add(body.mul(number, self.parts), part)
            row = body.minimum(wanted, body.sub(self.words[RowsArg.ROWS], constant(rows)))
            yield row, part, body.mul(slot, rows * self.tile.columns)

    def _unpack(self, panel: ir.Value, first: ir.Value, end: ir.Value, unpacked: ir.Value) -> None:
        """The numbers of the groups from ``first`` to ``end``, scaled, as [part][step][column of the part]."""
        body, words, form = self.body, self.words, self.variant.form
        size = words[RowsArg.BLOCK]
        codes = body.floats(words[RowsArg.CODES], body.mul(panel, body.mul(words[RowsArg.GROUPS], self.width)))
        scales = body.mul(panel, body.mul(words[RowsArg.BLOCKS], self.width))
        last_block = body.b.udiv(body.add(end, body.sub(size, constant(1))), size)
        part_floats = body.mul(words[RowsArg.PIECE], form.group * self.tile.columns)
        with body.loop(body.b.udiv(first, size), last_block) as block:
            index = body.add(scales, body.mul(block, self.width))
            factors = [
                body.load(body.floats(words[RowsArg.SCALES], body.add(index, v * body.lanes))) for v in range(VECTORS)
            ]
            zeros = list(zero_points(body, form, words[RowsArg.ZEROS], index)) if form.zeros else []
            begin = body.maximum(body.mul(block, size), first)
            stop = body.minimum(body.mul(body.add(block, 1), size), end)
            with body.loop(begin, stop) as group:
                at = body.floats(codes, body.mul(group, self.width))
                step = body.mul(body.sub(group, first), form.group)
                for v in range(VECTORS):
                    read = self.unpacking.load(body.floats(at, v * body.lanes))
                    part, inside = divmod(v, self.tile.vectors)
                    to = body.floats(unpacked, body.add(body.mul(part_floats, part), inside * body.lanes))
                    to = body.floats(to, body.mul(step, self.tile.columns))
                    for i in range(form.group):
                        number = self.unpacking.numbers(read, i)
                        if zeros:
                            number = body.b.fsub(number, zeros[v])
                        body.store(body.b.fmul(number, factors[v]), body.floats(to, i * self.tile.columns))

    def _multiply(
        self, start: ir.Value, stop: ir.Value, step: ir.Value, steps: ir.Value, unpacked: ir.Value, aside: ir.Value
    ) -> None:
        """Go on with the sums of every tile, over ``steps`` steps from ``step`` on."""
        body, words, tile = self.body, self.words, self.tile
        part_floats = body.mul(words[RowsArg.PIECE], self.variant.form.group * tile.columns)
        with self._tiles(start, stop) as (row, part, place):
            tile.take_up(body.floats(aside, place))
            stride = words[RowsArg.LEFT_STRIDE]
            left = body.floats(words[RowsArg.LEFT], body.add(body.mul(row, stride), step))
            right = body.floats(unpacked, body.mul(part, part_floats))
            run_rows(tile, left, stride, right, constant(tile.columns), steps, self.variant.unroll)
            tile.put_aside(body.floats(aside, place))

    def _finish(self, start: ir.Value, stop: ir.Value, panel_column: ir.Value, aside: ir.Value) -> None:
        """Every tile through the epilogue; vectors beyond the last column under a mask."""
        body = self.body
        with self._tiles(start, stop) as (row, part, place):
            self.tile.take_up(body.floats(aside, place))
            column = body.add(panel_column, body.mul(part, self.tile.columns))
            left_over = body.sub(self.words[RowsArg.COLUMNS], column)
            out = body.add(body.mul(row, self.words[RowsArg.COLUMNS]), column)
            whole = body.b.icmp_signed(">=", left_over, constant(self.tile.columns))
            with body.b.if_else(whole, likely=True) as (then, otherwise):
                with then:
                    self._store(out, column, None)
                with otherwise:
                    self._store(out, column, left_over)

    def _store(self, out: ir.Value, first: ir.Value, left_over: ir.Value | None) -> None:
        body, epilogue = self.body, self.epilogue

        def place(row: ir.Value, v: ir.Value) -> ir.Value:
            return body.add(out, body.add(body.mul(row, self.words[RowsArg.COLUMNS]), body.mul(v, body.lanes)))

        def channel(i: int, v: int) -> ir.Value:
            return body.load(body.floats(epilogue.channels[i], body.add(first, v * body.lanes)))

        def valid(v: ir.Value) -> ir.Value:
            assert left_over is not None
            return body.sub(left_over, body.mul(v, body.lanes))

        def tensor(i: int, row: ir.Value, column: ir.Value) -> ir.Value:
            at = body.floats(epilogue.tensors[i], place(row, column))
            return body.load(at) if left_over is None else body.load_some(at, valid(column))

        def store(value: ir.Value, row: ir.Value, v: ir.Value) -> None:
            at = body.floats(self.words[RowsArg.OUTPUT], place(row, v))
            if left_over is None:
                body.store(value, at)
            else:
                body.store_some(value, at, valid(v))

        rolled = None if left_over is None else True
        self.tile.finish(epilogue, channel=channel, tensor=tensor, store=store, rolled=rolled)
