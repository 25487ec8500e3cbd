"""Pooling over channel blocks: windows of up to two spatial axes."""

from __future__ import annotations

import math

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.pooling.arguments import Arg
from mace_cpu.shared.codegen.body import F32, Body, constant
from mace_cpu.shared.codegen.vector_basic import maximum

F64 = ir.DoubleType()
SIDE_BY_SIDE = 4
"""Results or parts of one that are computed independently, so that no operation waits for the one before."""


def build_windows(symbol: str, block: int, kind: str, _target: Target) -> str:
    """IR of a pooling; arguments are `Arg`.  Kinds: "max" (a NaN wins), "average".  Unit: one row of the result."""
    body = Body(symbol, block)
    words = {arg: body.pointer(arg) if arg in (Arg.SOURCE, Arg.TARGET) else body.word(arg) for arg in Arg}
    is_max = kind == "max"
    held = [body.variable(body.vector) for _ in range(SIDE_BY_SIDE)]
    start = ir.Constant(body.vector, [-math.inf if is_max else 0.0] * block)
    row_step = body.mul(body.mul(words[Arg.IN_WIDTH], words[Arg.ROW_DILATION]), block)
    column_step = body.mul(words[Arg.COLUMN_DILATION], block)
    counts_padding = body.b.icmp_signed("!=", words[Arg.COUNTS_PADDING], constant(0))

    def first_tap(origin: ir.Value, dilation: ir.Value) -> ir.Value:
        missing = body.maximum(body.sub(constant(0), origin), constant(0))
        return body.b.udiv(body.sub(body.add(missing, dilation), constant(1)), dilation)

    def end_tap(origin: ir.Value, dilation: ir.Value, size: ir.Value, taps: ir.Value) -> ir.Value:
        return body.minimum(taps, first_tap(body.sub(origin, size), dilation))

    def counted(
        origin: ir.Value, dilation: ir.Value, size: ir.Value, taps: ir.Value, pad_end: ir.Value, inside: ir.Value
    ) -> ir.Value:
        """The taps that an average divides by along one axis."""
        return body.b.select(
            counts_padding,
            end_tap(origin, dilation, body.add(size, pad_end), taps),
            body.maximum(inside, constant(0)),
        )

    with body.loop(body.begin, body.end) as unit:
        plane, out_row = body.divide(unit, words[Arg.OUT_ROWS])
        top = body.sub(body.mul(out_row, words[Arg.ROW_STRIDE]), words[Arg.PAD_TOP])
        size = (words[Arg.ROW_DILATION], words[Arg.IN_ROWS], words[Arg.TAP_ROWS])
        first_row = first_tap(top, size[0])
        rows = body.sub(end_tap(top, *size), first_row)
        counted_rows = counted(top, *size, words[Arg.PAD_BOTTOM], rows)
        row = body.add(body.mul(plane, words[Arg.IN_ROWS]), body.add(top, body.mul(first_row, size[0])))
        source = body.floats(words[Arg.SOURCE], body.mul(body.mul(row, words[Arg.IN_WIDTH]), block))
        target = body.floats(words[Arg.TARGET], body.mul(body.mul(unit, words[Arg.OUT_WIDTH]), block))
        width, taps, dilation = words[Arg.IN_WIDTH], words[Arg.TAP_COLUMNS], words[Arg.COLUMN_DILATION]
        span = body.add(body.mul(body.sub(taps, constant(1)), dilation), 1)
        next_window = body.mul(words[Arg.COLUMN_STRIDE], block)

        def pooled(
            left: ir.Value, first_column: ir.Value, columns: ir.Value, count: ir.Value, place: ir.Value, windows: int
        ) -> None:
            """Windows side by side that have the same taps in the input."""
            window = body.floats(source, body.mul(body.add(left, body.mul(first_column, dilation)), block))
            for cell in held[:windows]:
                body.b.store(start, cell)
            with body.loop(0, rows) as r:
                line = body.floats(window, body.mul(r, row_step))
                with body.loop(0, columns) as c:
                    at = body.floats(line, body.mul(c, column_step))
                    for i, cell in enumerate(held[:windows]):
                        value = body.load(body.floats(at, body.mul(next_window, i)))
                        before = body.b.load(cell, typ=body.vector)
                        body.b.store(maximum(body.b, before, value) if is_max else body.b.fadd(before, value), cell)
            if not is_max:
                scale = body.b.fdiv(ir.Constant(F64, 1.0), body.b.sitofp(body.b.mul(counted_rows, count), F64))
                factor = body.splat(body.b.fptrunc(scale, F32))
            for i, cell in enumerate(held[:windows]):
                result = body.b.load(cell, typ=body.vector)
                body.store(result if is_max else body.b.fmul(result, factor), body.floats(place, i * block))

        def left_of(column: ir.Value) -> ir.Value:
            return body.sub(body.mul(column, words[Arg.COLUMN_STRIDE]), words[Arg.PAD_LEFT])

        with body.loop(0, words[Arg.OUT_WIDTH], SIDE_BY_SIDE) as first:
            behind = body.add(first, SIDE_BY_SIDE)
            last = left_of(body.add(first, SIDE_BY_SIDE - 1))
            inside = body.b.and_(
                body.b.icmp_signed("<=", behind, words[Arg.OUT_WIDTH]),
                body.b.and_(
                    body.b.icmp_signed(">=", left_of(first), constant(0)),
                    body.b.icmp_signed("<=", body.add(last, span), width),
                ),
            )
            with body.b.if_else(inside) as (then, otherwise):
                with then:
                    place = body.floats(target, body.mul(first, block))
                    pooled(left_of(first), constant(0), taps, taps, place, SIDE_BY_SIDE)
                with otherwise, body.loop(first, body.minimum(behind, words[Arg.OUT_WIDTH])) as column:
                    left = left_of(column)
                    size = (dilation, width, taps)
                    first_column = first_tap(left, dilation)
                    columns = body.sub(end_tap(left, *size), first_column)
                    count = counted(left, *size, words[Arg.PAD_RIGHT], columns)
                    pooled(left, first_column, columns, count, body.floats(target, body.mul(column, block)), 1)
    return body.text()
