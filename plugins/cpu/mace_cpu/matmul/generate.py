"""Matrix products: rows of the left operand read in place, the right one in panels of a tile's columns."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.matmul.arguments import Arg, Variant
from mace_cpu.matmul.generate_two_of_four import run_picks
from mace_cpu.shared.codegen.body import I1, I8, Body, constant
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.tiles.matrix_tile import MatrixTile
from mace_cpu.shared.tiles.pair_tile import make_tile
from mace_cpu.shared.tiles.row_steps import run_kept_rows, run_rows
from mace_cpu.shared.tiles.tile import FetchAhead, Tile

INDEX_BYTES = 4

POINTERS = (Arg.LEFT, Arg.RIGHT, Arg.BIAS, Arg.OUTPUT, Arg.LEFT_OFFSETS, Arg.RIGHT_OFFSETS, Arg.KEPT)


def build(symbol: str, variant: Variant, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of a matrix product; arguments are `Arg`, then epilogue channels, then epilogue tensors."""
    body = Body(symbol, variant.lanes, target.features)
    words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
    epilogue = EpilogueCode(body, len(Arg), ops)
    tile = make_tile(body, variant.rows, variant.vectors, variant.unit)
    ahead = FetchAhead(body)
    with body.loop(body.begin, body.end) as unit:
        product, inside = body.divide(unit, words[Arg.UNITS])
        panel, segment, is_first = _decode(body, words, inside)
        # the next segments of a band use the same panel
        again = body.b.and_(body.b.xor(is_first, ir.Constant(I1, 1)), body.b.icmp_signed("!=", unit, body.begin))
        fetch = body.b.select(again, constant(0), words[Arg.STEPS_FETCH])
        left = body.floats(words[Arg.LEFT], body.table_entry(words[Arg.LEFT_OFFSETS], product))
        # operands read in place have no columns behind the last one, so there the last panel is moved back
        panel_at = body.minimum(body.mul(panel, tile.columns), words[Arg.LAST_PANEL])
        right_at = body.add(
            body.table_entry(words[Arg.RIGHT_OFFSETS], product), body.mul(panel_at, words[Arg.RIGHT_COLUMN])
        )
        right = body.floats(words[Arg.RIGHT], right_at)
        column = body.add(words[Arg.FIRST_COLUMN], panel_at)
        out = body.add(body.mul(product, words[Arg.OUT_MATRIX]), column)
        next_panel = body.floats(right, body.mul(words[Arg.RIGHT_COLUMN], tile.columns))
        start = body.mul(segment, words[Arg.SEGMENT])
        stop = body.minimum(body.add(start, words[Arg.SEGMENT]), words[Arg.ROWS])
        with body.loop(start, stop, variant.rows) as wanted:
            # the last tile is moved back, so that no tile lacks rows; some are computed twice
            row = body.minimum(wanted, body.sub(words[Arg.ROWS], constant(variant.rows)))
            tile.start(
                [
                    body.load(body.floats(words[Arg.BIAS], body.add(panel_at, v * body.lanes)))
                    for v in range(variant.vectors)
                ]
            )
            stride = words[Arg.LEFT_STRIDE]
            if variant.transposed_left:
                assert isinstance(tile, Tile)
                with body.loop(0, words[Arg.STEPS]) as k:
                    source = body.floats(left, body.add(body.mul(k, stride), row))
                    packed = body.floats(right, body.mul(k, words[Arg.RIGHT_STEP]))
                    tile.step(functools.partial(body.floats, source), packed)
            else:
                source = body.floats(left, body.mul(row, stride))
                number = body.b.udiv(body.sub(wanted, start), constant(variant.rows))
                ahead.begin(body.floats(next_panel, body.mul(number, words[Arg.TILE_FETCH])), fetch)
                sizes = (words[Arg.RIGHT_STEP], words[Arg.STEPS], variant.unroll)
                if variant.picks:
                    assert isinstance(tile, Tile)
                    run_picks(tile, source, stride, right, words[Arg.STEPS])
                elif variant.kept:
                    assert isinstance(tile, Tile)
                    # there is an entry of the table for each row of the panels
                    distance = body.mul(body.b.udiv(right_at, constant(tile.columns)), INDEX_BYTES)
                    kept = body.b.gep(words[Arg.KEPT], [distance], source_etype=I8)
                    run_kept_rows(tile, source, stride, right, kept, words[Arg.STEPS], ahead)
                elif isinstance(tile, MatrixTile):
                    tile.run(source, [body.mul(stride, r) for r in range(variant.rows)], right, *sizes, ahead)
                elif body.takes_lanes:
                    # in a panel rows follow each other: no address has to be computed for each
                    packed = body.b.icmp_signed("==", words[Arg.RIGHT_STEP], constant(tile.columns))
                    steps = (words[Arg.STEPS], variant.unroll)
                    with body.b.if_else(packed, likely=True) as (then, otherwise):
                        with then:
                            run_rows(tile, source, stride, right, constant(tile.columns), *steps, ahead)
                        with otherwise:
                            run_rows(tile, source, stride, right, words[Arg.RIGHT_STEP], *steps, ahead)
                else:
                    run_rows(tile, source, stride, right, *sizes, ahead)
            out_at = body.add(out, body.mul(row, words[Arg.OUT_ROW]))
            _Results(body, words, tile, epilogue, out_at, panel_at, column).emit()
    tile.close()
    return body.text()


def _decode(body: Body, words: dict[Arg, ir.Value], unit: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(panel, segment, whether it is the band's first): over bands; in a band over panels, then over its segments."""
    band_size = words[Arg.BAND]
    band, inside = body.divide(unit, body.mul(band_size, words[Arg.PANELS]))
    first = body.mul(band, band_size)
    size = body.minimum(band_size, body.sub(words[Arg.SEGMENTS], first))
    panel, offset = body.divide(inside, size)
    return panel, body.add(first, offset), body.b.icmp_signed("==", offset, constant(0))


@dataclass(slots=True)
class _Results:
    """Where the results of one tile go, and the operands of its epilogue."""

    body: Body
    words: dict[Arg, ir.Value]
    tile: Tile | MatrixTile
    epilogue: EpilogueCode
    out_at: ir.Value
    panel_at: ir.Value
    column: ir.Value

    def emit(self) -> None:
        """Whole vectors where the tile's columns all exist, else vectors under a mask."""
        body = self.body
        left_over = body.sub(self.words[Arg.COLUMNS], self.column)
        whole = body.b.icmp_signed(">=", left_over, constant(self.tile.columns))
        with body.b.if_else(whole, likely=True) as (then, otherwise):
            with then:
                self._finish(None)
            with otherwise:
                self._finish(left_over)

    def _finish(self, columns: ir.Value | None) -> None:
        body = self.body

        def place(row: ir.Value, column: ir.Value) -> ir.Value:
            return body.add(self.out_at, body.add(body.mul(row, self.words[Arg.OUT_ROW]), body.mul(column, body.lanes)))

        def channel(i: int, v: int) -> ir.Value:
            return body.load(body.floats(self.epilogue.channels[i], body.add(self.panel_at, v * body.lanes)))

        def valid(column: ir.Value) -> ir.Value:
            assert columns is not None
            return body.sub(columns, body.mul(column, body.lanes))

        def tensor(i: int, row: ir.Value, column: ir.Value) -> ir.Value:
            at = body.floats(self.epilogue.tensors[i], place(row, column))
            return body.load(at) if columns is None else body.load_some(at, valid(column))

        def store(value: ir.Value, row: ir.Value, column: ir.Value) -> None:
            at = body.floats(self.words[Arg.OUTPUT], place(row, column))
            if columns is None:
                body.store(value, at)
            else:
                body.store_some(value, at, valid(column))

        self.tile.finish(
            self.epilogue, channel=channel, tensor=tensor, store=store, rolled=True if columns is not None else None
        )
