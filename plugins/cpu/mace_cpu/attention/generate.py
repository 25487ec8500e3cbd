"""Attention: softmax(scale * Q K^T + mask) V for a few rows of Q at a time, whose scores stay in the cache.

The weights are summed while they are computed and the sums are divided out of the result, which saves a pass over the
scores (as in Dao et al., "FlashAttention"); all scores of a row are at hand, so there is no running maximum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.attention.arguments import Arg, Split, Variant
from mace_cpu.shared.codegen.body import constant
from mace_cpu.shared.codegen.rows import RowBody, larger, plus
from mace_cpu.shared.codegen.vector_basic import constant as number
from mace_cpu.shared.codegen.vector_math import exp_of_negative
from mace_cpu.shared.tiles.row_steps import run_rows
from mace_cpu.shared.tiles.tile import Tile

POINTERS = (Arg.QUERY, Arg.OUTPUT, Arg.MASK, Arg.SCRATCH, Arg.QUERY_STARTS, Arg.OUTPUT_STARTS, Arg.MASK_STARTS)
UNROLL = 4


def build(symbol: str, variant: Variant, target: Target) -> str:
    """IR of the kernel; a unit is a segment of the rows of one product."""
    return _Attention(symbol, variant, target).emit()


class _Attention:
    def __init__(self, symbol: str, variant: Variant, target: Target) -> None:
        self.variant = variant
        self.body = body = RowBody(symbol, target, "float32")
        self.words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg if arg != Arg.SCALE}
        self.scale = body.real(Arg.SCALE)
        at = len(Arg)
        self.keys: list[_Panels] = []
        self.values: list[_Panels] = []
        for widths, found in ((variant.keys, self.keys), (variant.values, self.values)):
            for width in widths:
                found.append(_Panels(body, at, Tile(body, variant.rows, width)))
                at += len(Split)

    def emit(self) -> str:
        body, words = self.body, self.words
        rows = words[Arg.ROWS]
        scores = body.floats(words[Arg.SCRATCH], body.mul(body.chunk, words[Arg.SCRATCH_STEP]))
        with body.loop(body.begin, body.end) as unit:
            product, segment = body.divide(unit, words[Arg.UNITS])
            wanted = body.mul(segment, words[Arg.SEGMENT])
            stop = body.minimum(body.add(wanted, words[Arg.SEGMENT]), rows)
            # a last segment of less than a tile begins with rows of the one before
            start = body.minimum(wanted, body.sub(rows, constant(self.variant.rows)))
            count = body.sub(stop, start)
            sums = body.floats(scores, body.mul(count, words[Arg.SCORE_STEP]))
            self._scores(product, start, count, scores)
            self._weights(product, start, count, scores, sums)
            self._mix(product, start, count, scores, sums)
        return body.text()

    def _tile_rows(self, count: ir.Value, wanted: ir.Value) -> ir.Value:
        """The last tile is moved back, so that no tile lacks rows."""
        return self.body.minimum(wanted, self.body.sub(count, constant(self.variant.rows)))

    def _scores(self, product: ir.Value, start: ir.Value, count: ir.Value, scores: ir.Value) -> None:
        body, words = self.body, self.words
        query = body.floats(words[Arg.QUERY], body.table_entry(words[Arg.QUERY_STARTS], product))
        for panels in self.keys:
            tile = panels.tile
            with panels.each(product) as (panel, column), body.loop(0, count, tile.rows) as wanted:
                row = self._tile_rows(count, wanted)
                tile.start([body.zero()] * tile.vectors)
                source = body.floats(query, body.mul(body.add(start, row), words[Arg.QUERY_STEP]))
                run_rows(
                    tile, source, words[Arg.QUERY_STEP], panel, panels.words[Split.ROW_STEP], words[Arg.DEPTH], UNROLL
                )
                for r in range(tile.rows):
                    at = body.floats(scores, body.mul(body.add(row, r), words[Arg.SCORE_STEP]))
                    for v in range(tile.vectors):
                        place = body.floats(at, body.add(column, v * body.lanes))
                        body.store(body.b.fmul(tile.cell(r, v), self.scale), place)

    def _weights(self, product: ir.Value, start: ir.Value, count: ir.Value, scores: ir.Value, sums: ir.Value) -> None:
        """Scores become ``e**(score - largest)``, and the inverse sum of each row is noted."""
        body, words, b = self.body, self.words, self.body.b
        length = words[Arg.KEYS]
        with body.loop(0, count) as row:
            x = body.floats(scores, body.mul(row, words[Arg.SCORE_STEP]))
            mask = None
            if self.variant.mask:
                first = body.table_entry(words[Arg.MASK_STARTS], product)
                mask = body.floats(
                    words[Arg.MASK], body.add(first, body.mul(body.add(start, row), words[Arg.MASK_STEP]))
                )

            inverse = weigh(body, x, mask, length, empty=self.variant.empty)
            b.store(body.first_lane(inverse), body.floats(sums, row), align=4)

    def _mix(self, product: ir.Value, start: ir.Value, count: ir.Value, scores: ir.Value, sums: ir.Value) -> None:
        body, words = self.body, self.words
        output = body.floats(words[Arg.OUTPUT], body.table_entry(words[Arg.OUTPUT_STARTS], product))
        for panels in self.values:
            tile = panels.tile
            with panels.each(product) as (panel, column), body.loop(0, count, tile.rows) as wanted:
                row = self._tile_rows(count, wanted)
                tile.start([body.zero()] * tile.vectors)
                source = body.floats(scores, body.mul(row, words[Arg.SCORE_STEP]))
                run_rows(
                    tile, source, words[Arg.SCORE_STEP], panel, panels.words[Split.ROW_STEP], words[Arg.KEYS], UNROLL
                )
                valid = body.sub(words[Arg.COLUMNS], column)
                whole = body.b.icmp_signed(">=", valid, constant(tile.columns))
                factors = [body.splat(body.load_scalar(body.floats(sums, body.add(row, r)))) for r in range(tile.rows)]
                with body.b.if_else(whole, likely=True) as (then, otherwise):
                    for branch, limit in ((then, None), (otherwise, valid)):
                        with branch:
                            self._store(tile, factors, output, body.add(start, row), column, limit)

    def _store(
        self,
        tile: Tile,
        factors: list[ir.Value],
        output: ir.Value,
        row: ir.Value,
        column: ir.Value,
        limit: ir.Value | None,
    ) -> None:
        body = self.body
        for r in range(tile.rows):
            at = body.floats(output, body.add(body.mul(body.add(row, r), self.words[Arg.OUTPUT_STEP]), column))
            for v in range(tile.vectors):
                value = body.b.fmul(tile.cell(r, v), factors[r])
                place = body.floats(at, v * body.lanes)
                if limit is None:
                    body.store(value, place)
                else:
                    body.store_some(value, place, body.add(limit, -v * body.lanes))


def weigh(body: RowBody, x: ir.Value, mask: ir.Value | None, length: ir.Value, *, empty: bool) -> ir.Value:
    """Scores at ``x``, to which ``mask`` is added, become ``e**(score - largest)``; gives the inverse of their sum.

    ``empty``: a row whose scores all are -inf has weights of zero.
    """
    b = body.b

    def score(i: ir.Value, rest: ir.Value | None) -> list[ir.Value]:
        value = body.read(x, i, rest, float("-inf"))
        if mask is not None:
            value = b.fadd(value, body.read(mask, i, rest))
            body.write(value, x, i, rest)
        return [value]

    (top,) = body.fold(length, [float("-inf")], [larger], score)
    if empty:
        lowest = number(body.vector, float("-inf"))
        top = b.select(b.fcmp_ordered("==", top, lowest), number(body.vector, 0.0), top)

    def weight(i: ir.Value, rest: ir.Value | None) -> list[ir.Value]:
        found = exp_of_negative(b, b.fsub(body.read(x, i, rest), top))
        body.write(found, x, i, rest)
        return [body.selected(found, rest, 0.0)]

    (total,) = body.fold(length, [0.0], [plus], weight)
    inverse = b.fdiv(number(body.vector, 1.0), total)
    if empty:
        none = number(body.vector, 0.0)
        inverse = b.select(b.fcmp_ordered("==", total, none), none, inverse)
    return inverse


class _Panels:
    """The panels of one split and the tile they are multiplied with."""

    def __init__(self, body: RowBody, at: int, tile: Tile) -> None:
        self.body = body
        self.tile = tile
        pointers = (Split.AT, Split.STARTS)
        self.words = {s: body.pointer(at + s) if s in pointers else body.word(at + s) for s in Split}

    @contextmanager
    def each(self, product: ir.Value) -> Iterator[tuple[ir.Value, ir.Value]]:
        """A loop over (panel, its first column) of one product."""
        body, words = self.body, self.words
        first = body.floats(words[Split.AT], body.table_entry(words[Split.STARTS], product))
        with body.loop(0, words[Split.PANELS]) as index:
            panel = body.floats(first, body.mul(index, words[Split.PANEL_STEP]))
            yield panel, body.add(words[Split.FIRST], body.mul(index, self.tile.columns))
