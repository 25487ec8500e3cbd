"""Moving elements without looking at them: strided copies, tiled transposes, panels for matrix products.

Elements are words of 1, 2, 4 or 8 bytes.  Strides and offsets are in words.
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import I1, I8, I64, POINTER, VOID, Body, constant
from mace_cpu.shared.layouts.generate_bytes import Stretch, transpose_bytes
from mace_cpu.shared.layouts.generate_transpose import transposed

PIECE_BYTES = 32


class Mover:
    """Loads, stores and addresses of words."""

    def __init__(self, body: Body, width: int) -> None:
        self.body, self.width = body, width
        self.word = ir.IntType(8 * width)

    def at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.body.b.gep(base, [index], source_etype=self.word)

    def move(self, source: ir.Value, target: ir.Value) -> None:
        value = self.body.b.load(source, typ=self.word, align=self.width)
        self.body.b.store(value, target, align=self.width)


def plane_offsets(
    body: Body, plane: ir.Value, axes: ir.Value, first: int, apart: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Source and target offset of a plane numbered over the first ``axes`` axes.

    Their sizes begin at argument word ``first``; source strides follow ``apart`` words later, target strides as many
    words after those.
    """
    b = body.b
    rest, source, target = (body.variable(I64) for _ in range(3))
    b.store(plane, rest)
    b.store(constant(0), source)
    b.store(constant(0), target)

    def word(axis: ir.Value, block: int) -> ir.Value:
        at = body.add(body.add(axis, first), body.mul(apart, block))
        return b.load(b.gep(body.args, [at], source_etype=I64), typ=I64, align=8)

    with body.loop(0, axes) as i:
        axis = body.sub(body.sub(axes, i), constant(1))
        outer, index = body.divide(b.load(rest, typ=I64), word(axis, 0))
        b.store(outer, rest)
        for cell, block in ((source, 1), (target, 2)):
            b.store(body.add(b.load(cell, typ=I64), body.mul(index, word(axis, block))), cell)
    return b.load(source, typ=I64), b.load(target, typ=I64)


def build_strided_rows(symbol: str, width: int, inner: str, _target: Target) -> str:
    """(source, target, rank, sizes[rank], source strides[rank], target strides[rank]): one unit is one innermost row.

    ``inner`` says how a row lies: "memory" (contiguous on both sides, long enough for memcpy), "dense" (contiguous on
    both sides), "gather" (only in the target) or "strided".  Rank is at least 2.
    """
    body = Body(symbol, 4)
    b, mover = body.b, Mover(body, width)
    source, target, rank = body.pointer(0), body.pointer(1), body.word(2)

    def word(block: int, back: int) -> ir.Value:
        at = body.add(body.mul(rank, block + 1), 3 - back)
        return b.load(b.gep(body.args, [at], source_etype=I64), typ=I64, align=8)

    length, rows = word(0, 1), word(0, 2)
    row_from, row_to = word(1, 2), word(2, 2)
    step_from, step_to = word(1, 1), word(2, 1)
    outer_axes = body.sub(rank, constant(2))
    first_plane = b.udiv(body.begin, rows)
    last_plane = b.udiv(body.sub(body.add(body.end, rows), constant(1)), rows)
    with body.loop(first_plane, last_plane) as plane:
        before = body.mul(plane, rows)
        first_row = body.maximum(body.sub(body.begin, before), constant(0))
        last_row = body.minimum(body.sub(body.end, before), rows)
        from_plane, to_plane = plane_offsets(body, plane, outer_axes, 3, rank)
        with body.loop(first_row, last_row) as row:
            here = mover.at(source, body.add(from_plane, body.mul(row, row_from)))
            there = mover.at(target, body.add(to_plane, body.mul(row, row_to)))
            if inner == "memory":
                _copy_memory(body, here, there, body.mul(length, width))
            elif inner == "dense":
                _copy_short(body, mover, here, there, length)
            else:
                with body.loop(0, length) as i:
                    to = i if inner == "gather" else body.mul(i, step_to)
                    mover.move(mover.at(here, body.mul(i, step_from)), mover.at(there, to))
    return body.text()


def _copy_memory(body: Body, source: ir.Value, target: ir.Value, nbytes: ir.Value) -> None:
    kind = ir.FunctionType(VOID, [POINTER, POINTER, I64, I1])
    found = body.module.globals.get("llvm.memcpy.p0.p0.i64")
    function = found or ir.Function(body.module, kind, "llvm.memcpy.p0.p0.i64")
    body.b.call(function, [target, source, nbytes, ir.Constant(I1, 0)])


def _copy_short(body: Body, mover: Mover, source: ir.Value, target: ir.Value, length: ir.Value) -> None:
    """A contiguous row in pieces of a vector, then word by word."""
    b = body.b
    piece = ir.VectorType(I8, PIECE_BYTES)
    words = PIECE_BYTES // mover.width
    whole = b.and_(length, constant(-words))
    with body.loop(0, whole, words) as i:
        value = b.load(mover.at(source, i), typ=piece, align=mover.width)
        b.store(value, mover.at(target, i), align=mover.width)
    with body.loop(whole, length) as i:
        mover.move(mover.at(source, i), mover.at(target, i))


def build_tiled_transpose(symbol: str, width: int, band: int, machine: Target) -> str:
    """(source, target, columns, rows, source step, target step, rank, sizes, source strides, target strides).

    Swaps two axes under ``rank`` outer ones: ``target[r * target step + c] = source[c * source step + r]`` for
    c < columns, r < rows.  One unit is ``band`` rows of the target in one outer plane.  Words of four bytes are
    exchanged in registers, ``lanes`` x ``lanes`` at a time; ``lanes`` divides ``band``.  So are bytes, 16 x 16.
    """
    lanes = machine.vector_bits // 32
    body = Body(symbol, lanes)
    mover = Mover(body, width)
    source, target = body.pointer(0), body.pointer(1)
    columns, rows, source_step, target_step, rank = (body.word(i) for i in range(2, 7))
    bands = body.b.udiv(body.add(rows, band - 1), constant(band))
    with body.loop(body.begin, body.end) as unit:
        plane, number = body.divide(unit, bands)
        from_plane, to_plane = plane_offsets(body, plane, rank, 7, rank)
        here, there = mover.at(source, from_plane), mover.at(target, to_plane)
        first_row = body.mul(number, band)
        last_row = body.minimum(body.add(first_row, band), rows)

        def single(low: ir.Value, high: ir.Value, left: ir.Value, right: ir.Value) -> None:
            with body.loop(low, high) as r, body.loop(left, right) as c:
                mover.move(
                    mover.at(here, body.add(body.mul(c, source_step), r)),
                    mover.at(there, body.add(body.mul(r, target_step), c)),
                )

        if width == 4:
            with body.loop(first_row, last_row, lanes) as low, body.loop(0, columns, lanes) as left:
                high, right = body.add(low, lanes), body.add(left, lanes)
                whole = body.b.and_(body.b.icmp_signed("<=", high, last_row), body.b.icmp_signed("<=", right, columns))
                with body.b.if_else(whole) as (then, otherwise):
                    with then:
                        corner = mover.at(here, body.add(body.mul(left, source_step), low))
                        tile = [body.load(mover.at(corner, body.mul(source_step, i))) for i in range(lanes)]
                        corner = mover.at(there, body.add(body.mul(low, target_step), left))
                        for i, vector in enumerate(transposed(body, tile)):
                            body.store(vector, mover.at(corner, body.mul(target_step, i)))
                    with otherwise:
                        single(low, body.minimum(high, last_row), left, body.minimum(right, columns))
        elif width == 1:
            transpose_bytes(
                body,
                lambda c, r, here=here: mover.at(here, body.add(body.mul(c, source_step), r)),  # type: ignore[misc]
                lambda r, c, there=there: mover.at(there, body.add(body.mul(r, target_step), c)),  # type: ignore[misc]
                Stretch(first_row, last_row, rows),
                Stretch(constant(0), columns, columns),
            )
        else:
            with body.loop(0, columns, band) as left:
                single(first_row, last_row, left, body.minimum(body.add(left, band), columns))
    return body.text()


def build_panels(symbol: str, lanes: int, is_transposed: bool, _target: Target) -> str:
    """Columns of a right operand as panels [matrix][panel][step][columns of the tile], zeros beyond the last column.

    The source has matrices of (steps, columns), or of (columns, steps) if transposed; a table tells where each starts,
    ``source_row`` is the distance of its rows, both in floats.  ``width``, the columns of the tile, is a multiple of
    ``lanes``.  Unit: some steps of a matrix.
    """
    body = Body(symbol, lanes)
    source, target = body.pointer(0), body.pointer(1)
    steps, columns, first, width, panels, unit_steps, units = (body.word(i) for i in range(2, 9))
    table, row = body.pointer(9), body.word(10)
    with body.loop(body.begin, body.end) as unit:
        matrix, number = body.divide(unit, units)
        start = body.mul(number, unit_steps)
        stop = body.minimum(body.add(start, unit_steps), steps)
        base = body.floats(source, body.table_entry(table, matrix))
        with body.loop(0, panels) as panel, body.loop(0, width, lanes) as inside:
            column = body.add(body.add(first, body.mul(panel, width)), inside)
            valid = body.sub(columns, column)
            to = body.mul(body.mul(body.add(body.mul(matrix, panels), panel), steps), width)
            there = body.floats(target, body.add(to, inside))
            whole = body.b.icmp_signed(">=", valid, constant(lanes))
            if is_transposed:
                here = body.floats(base, body.mul(column, row))
                _turn(body, here, there, row, width, start, stop, valid, whole)
            else:
                here = body.floats(base, column)
                with body.loop(start, stop) as k:
                    at, place = body.floats(here, body.mul(k, row)), body.floats(there, body.mul(k, width))
                    with body.b.if_else(whole) as (then, otherwise):
                        with then:
                            body.store(body.load(at), place)
                        with otherwise:
                            body.store(body.load_some(at, valid), place)
    return body.text()


def _turn(
    body: Body,
    here: ir.Value,
    there: ir.Value,
    row: ir.Value,
    width: ir.Value,
    start: ir.Value,
    stop: ir.Value,
    valid: ir.Value,
    whole: ir.Value,
) -> None:
    """``lanes`` columns of a panel from rows of the source, ``row`` floats apart, of which ``valid`` exist."""
    lanes, b = body.lanes, body.b
    zero = ir.Constant(ir.FloatType(), 0.0)
    with body.loop(start, stop, lanes) as k:
        end = body.add(k, lanes)
        with b.if_else(b.and_(whole, b.icmp_signed("<=", end, stop))) as (then, otherwise):
            with then:
                at = body.floats(here, k)
                tile = [body.load(body.floats(at, body.mul(row, i))) for i in range(lanes)]
                place = body.floats(there, body.mul(k, width))
                for i, vector in enumerate(transposed(body, tile)):
                    body.store(vector, body.floats(place, body.mul(width, i)))
            with otherwise, body.loop(k, body.minimum(end, stop)) as step:
                place = body.floats(there, body.mul(step, width))
                exist = body.minimum(body.maximum(valid, constant(0)), constant(lanes))
                with body.loop(0, exist) as c:
                    value = body.load_scalar(body.floats(here, body.add(body.mul(c, row), step)))
                    b.store(value, body.floats(place, c), align=4)
                with body.loop(exist, constant(lanes)) as c:
                    b.store(zero, body.floats(place, c), align=4)
