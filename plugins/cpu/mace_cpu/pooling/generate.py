"""Pooling of as many channels as a vector has lanes: windows of up to two spatial axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.pooling.arguments import Arg
from mace_cpu.shared.codegen.body import F32, Body, constant
from mace_cpu.shared.codegen.vector_basic import maximum

F64 = ir.DoubleType()
SIDE_BY_SIDE = 4
"""Results or parts of one that are computed independently, so that no operation waits for the one before."""


def build_windows(symbol: str, block: int, kind: str, target: Target) -> str:
    """IR of a pooling; arguments are `Arg`.  Kinds: "max" (a NaN wins), "average".  Unit: one row of the result, of one
    block of channels."""
    body = Body(symbol, block, target.features)
    code = _Windows(body, kind, constant(block))
    with body.loop(body.begin, body.end) as unit:
        code.emit_row(unit, constant(0))
    return body.text()


def build_channels_last(symbol: str, block: int, kind: str, target: Target) -> str:
    """As `build_windows`, of at least ``block`` channels that lie last.  Unit: one row of the result, all channels."""
    body = Body(symbol, block, target.features)
    channels = body.word(Arg.CHANNELS)
    code = _Windows(body, kind, channels)
    with body.loop(body.begin, body.end) as unit, body.loop(0, channels, block) as first:
        # the last ones are moved back, so that no vector lacks channels; some are computed twice
        code.emit_row(unit, body.minimum(first, body.sub(channels, constant(block))))
    return body.text()


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the result.

    Attributes:
        source: the first pixel of the first input row that its windows see.
        target: its first pixel.
        rows: input rows that its windows see.
        counted_rows: rows of taps that an average divides by.
        span: pixels from a window's first to its last tap, in one row.
        next_window: from window to window in the input.
    """

    source: ir.Value
    target: ir.Value
    rows: ir.Value
    counted_rows: ir.Value
    span: ir.Value
    next_window: ir.Value


class _Windows:
    """The code of a pooling while it is emitted.

    Taps are counted from the first of a window, pixels from the first of the input; ``pixel`` floats are one of them.
    """

    def __init__(self, body: Body, kind: str, pixel: ir.Value) -> None:
        self.body, self.pixel = body, pixel
        self.words = {arg: body.pointer(arg) if arg in (Arg.SOURCE, Arg.TARGET) else body.word(arg) for arg in Arg}
        self.is_max = kind == "max"
        self.held = [body.variable(body.vector) for _ in range(SIDE_BY_SIDE)]
        self.start = ir.Constant(body.vector, [-math.inf if self.is_max else 0.0] * body.lanes)
        self.row_step = body.mul(body.mul(self.words[Arg.IN_WIDTH], self.words[Arg.ROW_DILATION]), pixel)
        self.column_step = body.mul(self.words[Arg.COLUMN_DILATION], pixel)
        self.counts_padding = body.b.icmp_signed("!=", self.words[Arg.COUNTS_PADDING], constant(0))

    def emit_row(self, unit: ir.Value, channel: ir.Value) -> None:
        """Compute one row from a channel on: windows side by side where all of them lie inside, one by one where one
        does not."""
        body, words = self.body, self.words
        row = self._row(unit, channel)
        width, taps, dilation = words[Arg.IN_WIDTH], words[Arg.TAP_COLUMNS], words[Arg.COLUMN_DILATION]
        with body.loop(0, words[Arg.OUT_WIDTH], SIDE_BY_SIDE) as first:
            behind = body.add(first, SIDE_BY_SIDE)
            last = self._left_of(body.add(first, SIDE_BY_SIDE - 1))
            inside = body.b.and_(
                body.b.icmp_signed("<=", behind, words[Arg.OUT_WIDTH]),
                body.b.and_(
                    body.b.icmp_signed(">=", self._left_of(first), constant(0)),
                    body.b.icmp_signed("<=", body.add(last, row.span), width),
                ),
            )
            with body.b.if_else(inside) as (then, otherwise):
                with then:
                    place = body.floats(row.target, body.mul(first, self.pixel))
                    left = self._left_of(first)
                    self._emit_windows(row, left, constant(0), taps, taps, place, SIDE_BY_SIDE)
                with otherwise, body.loop(first, body.minimum(behind, words[Arg.OUT_WIDTH])) as column:
                    left = self._left_of(column)
                    size = (dilation, width, taps)
                    first_column = self._first_tap(left, dilation)
                    columns = body.sub(self._end_tap(left, *size), first_column)
                    count = self._counted(left, *size, words[Arg.PAD_RIGHT], columns)
                    place = body.floats(row.target, body.mul(column, self.pixel))
                    self._emit_windows(row, left, first_column, columns, count, place, 1)

    def _row(self, unit: ir.Value, channel: ir.Value) -> _Row:
        body, words = self.body, self.words
        plane, out_row = body.divide(unit, words[Arg.OUT_ROWS])
        top = body.sub(body.mul(out_row, words[Arg.ROW_STRIDE]), words[Arg.PAD_TOP])
        size = (words[Arg.ROW_DILATION], words[Arg.IN_ROWS], words[Arg.TAP_ROWS])
        first_row = self._first_tap(top, size[0])
        rows = body.sub(self._end_tap(top, *size), first_row)
        counted_rows = self._counted(top, *size, words[Arg.PAD_BOTTOM], rows)
        row = body.add(body.mul(plane, words[Arg.IN_ROWS]), body.add(top, body.mul(first_row, size[0])))
        first, behind = (
            body.add(body.mul(body.mul(number, words[width]), self.pixel), channel)
            for number, width in ((row, Arg.IN_WIDTH), (unit, Arg.OUT_WIDTH))
        )
        source, target = body.floats(words[Arg.SOURCE], first), body.floats(words[Arg.TARGET], behind)
        span = body.add(body.mul(body.sub(words[Arg.TAP_COLUMNS], constant(1)), words[Arg.COLUMN_DILATION]), 1)
        next_window = body.mul(words[Arg.COLUMN_STRIDE], self.pixel)
        return _Row(source, target, rows, counted_rows, span, next_window)

    def _emit_windows(
        self,
        row: _Row,
        left: ir.Value,
        first_column: ir.Value,
        columns: ir.Value,
        count: ir.Value,
        place: ir.Value,
        windows: int,
    ) -> None:
        """Windows side by side that have the same taps in the input.

        Args:
            left: the pixel of the first window's first tap.
            first_column, columns: taps inside the input.
            count: taps of a row that an average divides by.
            place: of the first result.
        """
        body = self.body
        offset = body.add(left, body.mul(first_column, self.words[Arg.COLUMN_DILATION]))
        window = body.floats(row.source, body.mul(offset, self.pixel))
        for cell in self.held[:windows]:
            body.b.store(self.start, cell)
        with body.loop(0, row.rows) as r:
            line = body.floats(window, body.mul(r, self.row_step))
            with body.loop(0, columns) as c:
                at = body.floats(line, body.mul(c, self.column_step))
                for i, cell in enumerate(self.held[:windows]):
                    value = body.load(body.floats(at, body.mul(row.next_window, i)))
                    before = body.b.load(cell, typ=body.vector)
                    body.b.store(maximum(body.b, before, value) if self.is_max else body.b.fadd(before, value), cell)
        if not self.is_max:
            scale = body.b.fdiv(ir.Constant(F64, 1.0), body.b.sitofp(body.b.mul(row.counted_rows, count), F64))
            factor = body.splat(body.b.fptrunc(scale, F32))
        for i, cell in enumerate(self.held[:windows]):
            result = body.b.load(cell, typ=body.vector)
            body.store(
                result if self.is_max else body.b.fmul(result, factor), body.floats(place, body.mul(self.pixel, i))
            )

    def _left_of(self, column: ir.Value) -> ir.Value:
        """The pixel of a window's first tap."""
        body = self.body
        return body.sub(body.mul(column, self.words[Arg.COLUMN_STRIDE]), self.words[Arg.PAD_LEFT])

    def _first_tap(self, origin: ir.Value, dilation: ir.Value) -> ir.Value:
        """The first tap that is not before the input, of a window that begins at ``origin``."""
        body = self.body
        missing = body.maximum(body.sub(constant(0), origin), constant(0))
        return body.b.udiv(body.sub(body.add(missing, dilation), constant(1)), dilation)

    def _end_tap(self, origin: ir.Value, dilation: ir.Value, size: ir.Value, taps: ir.Value) -> ir.Value:
        """One past the last tap that lies before ``size``."""
        return self.body.minimum(taps, self._first_tap(self.body.sub(origin, size), dilation))

    def _counted(
        self, origin: ir.Value, dilation: ir.Value, size: ir.Value, taps: ir.Value, pad_end: ir.Value, inside: ir.Value
    ) -> ir.Value:
        """The taps that an average divides by along one axis."""
        return self.body.b.select(
            self.counts_padding,
            self._end_tap(origin, dilation, self.body.add(size, pad_end), taps),
            self.body.maximum(inside, constant(0)),
        )
