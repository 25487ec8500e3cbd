"""Interpolation between pixels of bytes that lie channels last: vectors are over channels, taps are unrolled."""

from __future__ import annotations

import itertools

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.resizing import WORDS, Interpolation
from mace_cpu.shared.codegen.body import I8, I32, I64, Body, constant
from mace_cpu.shared.epilogue.generate_requantize import RequantizeCode, ShortAccess

NAMES = [run.name for run in WORDS.runs]


def build(symbol: str, variant: Interpolation, target: Target) -> str:
    """IR; one unit is one row of the result."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    code = _Rows(body, variant, is_x86=target.architecture == "x86_64")
    with body.loop(body.begin, body.end) as unit:
        code.emit_row(unit)
    return body.text()


class _Rows:
    """The code while it is emitted."""

    def __init__(self, body: Body, variant: Interpolation, *, is_x86: bool) -> None:
        self.body, self.variant = body, variant
        self.tables = [body.pointer(i) for i in range(6)]
        self.words = {name: body.word(i) for i, name in enumerate(NAMES[6:11], 6)}
        self.offset, self.ratio = (body.splat(body.number(i)) for i in (11, 12))
        self.code = RequantizeCode(body, NAMES.index("result_zero"), variant.result, is_x86=is_x86)
        self.width = variant.vectors * body.lanes
        self.bytes, self.ints = ir.VectorType(I8, self.width), ir.VectorType(I32, body.lanes)
        self.whole, self.some = (ShortAccess(body, self.width, partial=partial) for partial in (False, True))

    def emit_row(self, unit: ir.Value) -> None:
        body, words = self.body, self.words
        source, target, rows, row_weights, columns, column_weights = self.tables
        image, row = body.divide(unit, words["out_rows"])
        line = body.mul(words["in_width"], words["channels"])
        down, across = self.variant.taps
        heights = [self._weight(row_weights, row, down, tap) for tap in range(down)]
        lines = []
        for tap in range(down):
            there = body.add(body.mul(image, words["in_rows"]), self._entry(rows, row, down, tap))
            lines.append(self._at(source, body.mul(there, line)))
        result = self._at(target, body.mul(unit, body.mul(words["out_width"], words["channels"])))
        with body.loop(0, words["out_width"]) as column:
            taps = [body.mul(self._entry(columns, column, across, tap), words["channels"]) for tap in range(across)]
            pixels = [self._at(start, tap) for start, tap in itertools.product(lines, taps)]
            widths = [self._weight(column_weights, column, across, tap) for tap in range(across)]
            weights = [body.splat(body.b.fmul(h, w)) for h, w in itertools.product(heights, widths)]
            self._emit_pixel(pixels, weights, self._at(result, body.mul(column, words["channels"])))

    def _emit_pixel(self, pixels: list[ir.Value], weights: list[ir.Value], result: ir.Value) -> None:
        """All channels of one pixel; the last vector is moved back, so that it is whole, if there are so many."""
        body, channels = self.body, self.words["channels"]
        last = body.sub(channels, constant(self.width))
        with body.b.if_else(body.less(last, 0)) as (then, otherwise):
            with then:
                self._emit_channels(pixels, weights, result, constant(0), self.some, channels)
            with otherwise, body.loop(0, channels, self.width) as channel:
                first = body.minimum(channel, last)
                self._emit_channels(pixels, weights, result, first, self.whole, constant(self.width))

    def _emit_channels(
        self,
        pixels: list[ir.Value],
        weights: list[ir.Value],
        result: ir.Value,
        first: ir.Value,
        access: ShortAccess,
        valid: ir.Value,
    ) -> None:
        body, b = self.body, self.body.b
        widen = b.sext if self.variant.source == "int8" else b.zext
        sums = [body.zero()] * self.variant.vectors
        for pixel, weight in zip(pixels, weights, strict=True):
            codes = access.load(self._at(pixel, first), self.bytes, valid)
            for v in range(self.variant.vectors):
                own = body.shuffle(codes, codes, list(range(v * body.lanes, (v + 1) * body.lanes)))
                sums[v] = body.multiply_add(b.sitofp(widen(own, self.ints), body.vector), weight, sums[v])
        numbers = [b.fmul(b.fsub(total, self.offset), self.ratio) for total in sums]
        access.store(self.code.floats_to_numbers(numbers), self._at(result, first), valid)

    def _entry(self, table: ir.Value, row: ir.Value, taps: int, tap: int) -> ir.Value:
        at = self.body.floats(table, self.body.add(self.body.mul(row, taps), tap))
        return self.body.b.sext(self.body.b.load(at, typ=I32, align=4), I64)

    def _weight(self, table: ir.Value, row: ir.Value, taps: int, tap: int) -> ir.Value:
        return self.body.load_scalar(self.body.floats(table, self.body.add(self.body.mul(row, taps), tap)))

    def _at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=I8)
