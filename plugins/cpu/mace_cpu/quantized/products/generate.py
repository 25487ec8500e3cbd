"""Products of bytes: rows of the left operand read where they lie, the right one in packed panels of quads."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.products.arguments import Arg, Variant
from mace_cpu.quantized.products.generate_picks import run_byte_picks
from mace_cpu.shared.codegen.body import I8, I32, Body, constant
from mace_cpu.shared.codegen.vector_basic import splat
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.generate_requantize import FloatLoads, RequantizeCode, ShortAccess
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.tiles.gathered import NARROWEST, PLACE_BYTES, Gathering
from mace_cpu.shared.tiles.quad_matrix_tile import QuadMatrixTile, make_quad_tile
from mace_cpu.shared.tiles.quad_tile import QuadTile

TABLES = (Arg.LEFT_OFFSETS, Arg.LEFT_NUMBERS, Arg.RIGHT_NUMBERS)
PER_COLUMN = (Arg.STARTS, Arg.COLUMN_ZEROS, Arg.SCALES, Arg.FLOAT_BIAS)
POINTERS = (Arg.LEFT, Arg.RIGHT, Arg.ROW_SUMS, Arg.OUTPUT, Arg.SCRATCH, Arg.INDICES, Arg.PLACES, *TABLES, *PER_COLUMN)


def build(symbol: str, variant: Variant, lanes: int, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of the kernel; a unit is a segment of rows times a panel of columns of one product."""
    return _Product(symbol, variant, lanes, ops, target).emit()


class _Product:
    def __init__(self, symbol: str, variant: Variant, lanes: int, ops: tuple[EpilogueOp, ...], target: Target) -> None:
        self.variant = variant
        self.body = body = Body(symbol, lanes, target.features)
        self.words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
        is_x86 = target.architecture == "x86_64"
        self.requantize = RequantizeCode(body, len(Arg), variant.spec, is_x86=is_x86)
        self.epilogue = EpilogueCode(body, len(Arg) + variant.spec.words, ops)
        self.tile = make_quad_tile(body, variant.rows, variant.vectors, variant.unit, left_is_signed=variant.is_signed)
        if not variant.unit.has_tiles:
            self.spilled = body.memory(ir.ArrayType(I32, variant.rows * self.tile.columns))
        self.gathering = Gathering(body, max(variant.window, NARROWEST), variant.stored, is_x86=is_x86)
        self.access = ShortAccess(body, self.tile.columns, partial=variant.partial)

    def emit(self) -> str:
        body, words, tile = self.body, self.words, self.tile
        with body.loop(body.begin, body.end) as unit:
            product, inside = body.divide(unit, words[Arg.UNITS])
            panel, segment = body.divide(inside, words[Arg.SEGMENTS])
            left = self._bytes(words[Arg.LEFT], body.table_entry(words[Arg.LEFT_OFFSETS], product))
            matrix = body.table_entry(words[Arg.RIGHT_NUMBERS], product)
            right = self._bytes(words[Arg.RIGHT], body.mul(matrix, words[Arg.RIGHT_MATRIX]))
            right = self._bytes(right, body.mul(panel, words[Arg.PANEL_BYTES]))
            column = body.mul(panel, tile.columns)
            starts = body.add(body.mul(matrix, words[Arg.START_MATRIX]), column)
            first_row = body.mul(body.table_entry(words[Arg.LEFT_NUMBERS], product), words[Arg.ROWS])
            start = body.mul(segment, words[Arg.SEGMENT])
            stop = body.minimum(body.add(start, words[Arg.SEGMENT]), words[Arg.ROWS])
            with body.loop(start, stop, self.variant.rows) as wanted:
                # the last tile is moved back, so that no tile lacks rows; some are computed twice
                row = body.minimum(wanted, body.sub(words[Arg.ROWS], constant(self.variant.rows)))
                tile.start([self._ints(Arg.STARTS, body.add(starts, v * body.lanes)) for v in range(tile.vectors)])
                number = body.add(body.mul(matrix, words[Arg.PANELS]), panel)
                self._accumulate(self._bytes(left, body.mul(row, words[Arg.LEFT_STRIDE])), right, number)
                with body.loop(0, constant(self.variant.rows)) as inner:
                    at = body.add(row, inner)
                    out = body.add(body.mul(product, words[Arg.OUT_MATRIX]), body.mul(at, words[Arg.COLUMNS]))
                    self._finish(inner, body.add(first_row, at), column, body.add(out, column))
        tile.close()
        return body.text()

    def _accumulate(self, first: ir.Value, right: ir.Value, number: ir.Value) -> None:
        """The sums of the rows from the one at ``first`` on, kept for `_sum`; ``number``: of the panel among all."""
        body, words, tile, variant = self.body, self.words, self.tile, self.variant
        apart, quads = words[Arg.LEFT_STRIDE], words[Arg.QUADS]
        if isinstance(tile, QuadMatrixTile):
            tile.run_apart(first, apart, right, quads, words[Arg.REST] if variant.tail else None)
            tile.settle()
            return
        rows = [self._bytes(first, body.mul(apart, r)) for r in range(variant.rows)]
        if variant.window:
            rows = self._gathered(rows, number)
        if variant.picks:
            assert isinstance(tile, QuadTile)
            run_byte_picks(tile, rows, right, quads)
        else:
            tile.run(rows, right, quads, variant.tail)
        tile.put_aside(self.spilled)

    def _gathered(self, rows: list[ir.Value], number: ir.Value) -> list[ir.Value]:
        """The bytes of rows that a panel has weights for, moved together."""
        body, words, variant = self.body, self.words, self.variant
        scratch = self._bytes(words[Arg.SCRATCH], body.mul(body.chunk, words[Arg.SCRATCH_BYTES]))
        targets = [self._bytes(scratch, constant(row * variant.row_bytes)) for row in range(variant.rows)]
        before = body.mul(number, words[Arg.GATHERS])
        indices = self._bytes(words[Arg.INDICES], body.mul(before, variant.window))
        places = self._bytes(words[Arg.PLACES], body.mul(before, PLACE_BYTES))
        self.gathering.rows(rows, targets, indices, places, words[Arg.GATHERS])
        return targets

    def _sum(self, row: ir.Value, v: int) -> ir.Value:
        """One vector of the sums accumulated last."""
        body, tile = self.body, self.tile
        if isinstance(tile, QuadMatrixTile):
            return tile.cell(row, v)
        place = body.floats(self.spilled, body.add(body.mul(row, tile.columns), v * body.lanes))
        return body.b.load(place, typ=tile.vector, align=4)

    def _finish(self, inner: ir.Value, row: ir.Value, column: ir.Value, out: ir.Value) -> None:
        """What becomes of the sums of one row of a tile."""
        body, b, spec = self.body, self.body.b, self.variant.spec
        valid = body.sub(self.words[Arg.COLUMNS], column)
        sums = [self._sum(inner, v) for v in range(self.tile.vectors)]
        if self.variant.subtracts:
            total = b.load(body.floats(self.words[Arg.ROW_SUMS], row), typ=I32, align=4)
            every = splat(b, total, self.tile.vector)
            for v, value in enumerate(sums):
                zeros = self._ints(Arg.COLUMN_ZEROS, body.add(column, v * body.lanes))
                sums[v] = b.sub(value, b.mul(zeros, every))

        def per_column(arg: Arg, v: int) -> ir.Value:
            return body.load(body.floats(self.words[arg], body.add(column, v * body.lanes)))

        def tensor(base: ir.Value, v: int) -> ir.Value:
            there = body.floats(base, body.add(out, v * body.lanes))
            left = body.sub(valid, constant(v * body.lanes))
            return body.load_some(there, left) if self.variant.partial else body.load(there)

        arguments = (
            sums,
            lambda v: per_column(Arg.SCALES, v),
            lambda v: per_column(Arg.FLOAT_BIAS, v),
            lambda address, kind: self.access.load(self._bytes(address, out, kind.element), kind, valid),
        )
        floats = FloatLoads(
            lambda base, v: body.load(body.floats(base, body.add(column, v * body.lanes))),
            tensor,
        )
        if spec.is_quantized:
            found = self.requantize.to_numbers(
                *arguments,
                column=lambda address, kind: b.load(self._bytes(address, column, kind.element), typ=kind, align=1),
                floats=floats,
                row=row,
            )
            self.access.store(found, self._bytes(self.words[Arg.OUTPUT], out, found.type.element), valid)
            return
        numbers = self.requantize.to_floats(*arguments, floats, row=row) if spec.result == "float32" else sums
        for v, value in enumerate(numbers):
            index, left = body.add(out, v * body.lanes), body.sub(valid, constant(v * body.lanes))
            if spec.result == "float32":
                value = self._epilogue(value, v, column, index, left)
            else:
                value = b.bitcast(value, body.vector)
            at = body.floats(self.words[Arg.OUTPUT], index)
            if self.variant.partial:
                body.store_some(value, at, left)
            else:
                body.store(value, at)

    def _epilogue(self, number: ir.Value, v: int, column: ir.Value, index: ir.Value, left: ir.Value) -> ir.Value:
        body, epilogue = self.body, self.epilogue
        at = body.add(column, v * body.lanes)

        def tensor(i: int) -> ir.Value:
            place = body.floats(epilogue.tensors[i], index)
            return body.load_some(place, left) if self.variant.partial else body.load(place)

        return epilogue.emit(
            body.b,
            number,
            channel=lambda i: body.load(body.floats(epilogue.channels[i], at)),
            tensor=tensor,
        )

    def _ints(self, arg: Arg, index: ir.Value) -> ir.Value:
        return self.body.b.load(self.body.floats(self.words[arg], index), typ=self.tile.vector, align=4)

    def _bytes(self, base: ir.Value, index: ir.Value, kind: ir.Type = I8) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=kind)
