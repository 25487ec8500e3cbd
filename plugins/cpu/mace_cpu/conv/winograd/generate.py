"""Winograd's convolution of 3x3 kernels and stride 1, BLOCKED to BLOCKED.

Results are computed in square patches: the input under a patch is transformed, and for each point of the transform the
products of all channels are an ordinary matrix product over patches; the sums are transformed back.  One unit of work
is a band of patches for a part of the output channels; all that lies between is in scratch memory of the second level
cache.

An infinity or a NaN reaches all results of the patches that see it, not only those whose taps meet it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.conv.winograd.arguments import TAPS, Arg, Variant
from mace_cpu.conv.winograd.matrices import Matrix, transforms
from mace_cpu.shared.codegen.body import I32, Body, constant
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.tiles.tile import FetchAhead, Tile

POINTERS = (Arg.INPUT, Arg.WEIGHTS, Arg.BIAS, Arg.OUTPUT, Arg.SCRATCH, Arg.KEPT)


def build(symbol: str, variant: Variant, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of a convolution; arguments are `Arg`, then epilogue channels, then epilogue tensors.

    Unit: ``band * parts + part``.
    """
    body = Body(symbol, variant.block, target.features)
    words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
    epilogue = EpilogueCode(body, len(Arg), ops)
    emitter = _Emitter(body, words, variant, epilogue)
    with body.loop(body.begin, body.end) as unit:
        emitter.unit(unit)
    return body.text()


@dataclass(slots=True)
class _Patch:
    """Where a patch lies: its image, and the coordinates of its first result."""

    n: ir.Value
    y: ir.Value
    x: ir.Value


class _Emitter:
    def __init__(
        self,
        body: Body,
        words: dict[Arg, ir.Value],
        variant: Variant,
        epilogue: EpilogueCode,
    ) -> None:
        self.body, self.words, self.variant, self.epilogue = body, words, variant, epilogue
        self.channels, self.tensors = epilogue.channels, epilogue.tensors
        self.matrices = transforms(variant.results, TAPS)
        self.tile = Tile(body, variant.rows, variant.blocks)
        self.patch = Tile(body, variant.results**2, 1)
        self.ahead = FetchAhead(body)
        self.zeros = body.memory(body.vector)
        body.store(body.zero(), self.zeros)
        self.scratch = body.floats(words[Arg.SCRATCH], body.mul(body.chunk, words[Arg.SCRATCH_FLOATS]))
        self.products = body.floats(self.scratch, words[Arg.PRODUCTS_AT])
        self.in_row = body.mul(words[Arg.IN_WIDTH], variant.block)
        self.in_block = body.mul(self.in_row, words[Arg.IN_ROWS])
        self.out_row = body.mul(words[Arg.OUT_WIDTH], variant.block)
        self.out_block = body.mul(self.out_row, words[Arg.OUT_ROWS])
        self.point_weights = body.mul(words[Arg.IN_CHANNELS], self.tile.columns)

    def unit(self, unit: ir.Value) -> None:
        """Transform the input of a band, then multiply and transform back for one channel tile after the other."""
        body, words = self.body, self.words
        band, part = body.divide(unit, words[Arg.PARTS])
        first = body.mul(band, words[Arg.BAND])
        count = body.minimum(words[Arg.BAND], body.sub(words[Arg.PATCHES], first))
        with body.loop(0, count) as index:
            self._transform_input(self._patch(body.add(first, index)), index)
        oc_tiles, parts = words[Arg.OC_TILES], words[Arg.PARTS]
        start = body.b.udiv(body.mul(oc_tiles, part), parts)
        stop = body.b.udiv(body.mul(oc_tiles, body.add(part, 1)), parts)
        with body.loop(start, stop) as oc_tile:
            self._multiply(oc_tile, count)
            with body.loop(0, count) as index:
                self._transform_output(self._patch(body.add(first, index)), index, oc_tile)

    def _patch(self, number: ir.Value) -> _Patch:
        body, words = self.body, self.words
        row, column = body.divide(number, words[Arg.PATCH_COLUMNS])
        n, row = body.divide(row, words[Arg.PATCH_ROWS])
        return _Patch(n, body.mul(row, self.variant.results), body.mul(column, self.variant.results))

    def _transform_input(self, patch: _Patch, index: ir.Value) -> None:
        """All channels of the input under one patch, zeros beyond the borders of the image."""
        body, words, side = self.body, self.words, self.variant.side
        top, left = body.sub(patch.y, words[Arg.PAD_TOP]), body.sub(patch.x, words[Arg.PAD_LEFT])
        corner = body.add(body.mul(top, self.in_row), body.mul(left, self.variant.block))
        image = body.mul(body.mul(patch.n, words[Arg.IN_BLOCKS]), self.in_block)
        source = body.floats(words[Arg.INPUT], body.add(image, corner))
        target = body.floats(self.scratch, body.mul(index, self.variant.block))
        block_floats = body.mul(words[Arg.BAND], self.variant.block)
        outside = body.b.or_(
            body.b.or_(body.less(top, 0), body.less(left, 0)),
            body.b.or_(
                body.less(words[Arg.IN_ROWS], body.add(top, side)),
                body.less(words[Arg.IN_WIDTH], body.add(left, side)),
            ),
        )

        def pixel(block: ir.Value, y: int, x: int) -> ir.Value:
            inside = body.add(body.mul(self.in_row, y), x * self.variant.block)
            return body.floats(source, body.add(body.mul(block, self.in_block), inside))

        def pixel_or_zeros(block: ir.Value, y: int, x: int) -> ir.Value:
            there = body.b.and_(
                body.b.icmp_unsigned("<", body.add(top, y), words[Arg.IN_ROWS]),
                body.b.icmp_unsigned("<", body.add(left, x), words[Arg.IN_WIDTH]),
            )
            return body.b.select(there, pixel(block, y, x), self.zeros)

        with body.b.if_else(outside) as (then, otherwise):
            for branch, place in ((then, pixel_or_zeros), (otherwise, pixel)):
                with branch, body.loop(0, words[Arg.IN_BLOCKS]) as block:
                    at = body.floats(target, body.mul(block, block_floats))
                    self._transform_block(place, block, at)

    def _transform_block(
        self, place: Callable[[ir.Value, int, int], ir.Value], block: ir.Value, target: ir.Value
    ) -> None:
        body, side = self.body, self.variant.side
        columns = [
            self._product(self.matrices.b, [body.load(place(block, y, x)) for y in range(side)]) for x in range(side)
        ]
        for y in range(side):
            for x, value in enumerate(self._product(self.matrices.b, [column[y] for column in columns])):
                point = body.mul(self.words[Arg.INPUT_POINT], y * side + x)
                body.store(value, body.floats(target, point))

    def _multiply(self, oc_tile: ir.Value, count: ir.Value) -> None:
        """For each point, patches x input channels times input channels x the tile's output channels."""
        body, words, rows = self.body, self.words, self.variant.rows
        points = self.variant.side**2
        block_floats = body.mul(words[Arg.BAND], self.variant.block)
        block_weights = self.variant.block * self.tile.columns
        last_block = body.sub(words[Arg.IN_BLOCKS], constant(1))
        tile_weights = body.floats(words[Arg.WEIGHTS], body.mul(oc_tile, body.mul(self.point_weights, points)))
        offsets = [r * self.variant.block for r in range(rows)]
        kept = body.b.gep(words[Arg.KEPT], [body.mul(oc_tile, words[Arg.IN_CHANNELS])], source_etype=I32)
        with body.loop(0, constant(points)) as point:
            weights = body.floats(tile_weights, body.mul(point, self.point_weights))
            source = body.floats(self.scratch, body.mul(point, words[Arg.INPUT_POINT]))
            target = body.floats(self.products, body.mul(point, words[Arg.PRODUCT_POINT]))
            next_weights = body.floats(weights, self.point_weights)
            with body.loop(0, count, rows) as wanted:
                # the last tile is moved back; where a band has fewer patches than it, the others' sums are not used
                index = body.minimum(wanted, body.sub(words[Arg.BAND], constant(rows)))
                number = body.b.udiv(wanted, constant(rows))
                ahead = body.floats(next_weights, body.mul(number, words[Arg.TILE_FETCH]))
                self.ahead.begin(ahead, words[Arg.STEPS_FETCH])
                self.tile.start([body.zero()] * self.variant.blocks)
                left = body.floats(source, body.mul(index, self.variant.block))
                if self.variant.kept:
                    self.tile.run_kept(left, offsets, weights, kept, words[Arg.IN_CHANNELS], self.ahead)
                else:
                    with body.loop(0, words[Arg.IN_BLOCKS]) as block:
                        run = body.b.select(
                            body.less(block, last_block), constant(self.variant.block), words[Arg.LAST_RUN]
                        )
                        self.tile.run(
                            body.floats(left, body.mul(block, block_floats)),
                            offsets,
                            body.floats(weights, body.mul(block, block_weights)),
                            self.tile.columns,
                            run,
                            1,
                            self.ahead,
                        )
                self.tile.put_aside(body.floats(target, body.mul(index, self.tile.columns)))

    def _transform_output(self, patch: _Patch, index: ir.Value, oc_tile: ir.Value) -> None:
        """The results of one patch and channel tile; what lies beyond the image is left out."""
        body, words, variant = self.body, self.words, self.variant
        side, size = variant.side, variant.results
        below, right = body.sub(words[Arg.OUT_ROWS], patch.y), body.sub(words[Arg.OUT_WIDTH], patch.x)
        whole = body.b.and_(
            body.b.icmp_signed(">=", below, constant(size)), body.b.icmp_signed(">=", right, constant(size))
        )
        corner = body.add(body.mul(patch.y, self.out_row), body.mul(patch.x, variant.block))
        image = body.mul(body.mul(patch.n, words[Arg.OUT_BLOCKS]), self.out_block)
        first_block = body.add(words[Arg.FIRST_OUT_BLOCK], body.mul(oc_tile, variant.blocks))
        channel_tile = body.mul(oc_tile, self.tile.columns)
        with body.loop(0, constant(variant.blocks)) as v:
            channel_at = body.add(channel_tile, body.mul(v, body.lanes))
            out_at = body.add(body.add(image, corner), body.mul(body.add(first_block, v), self.out_block))
            source = body.floats(self.products, body.add(body.mul(index, self.tile.columns), body.mul(v, body.lanes)))

            def point(y: int, x: int, source: ir.Value = source) -> ir.Value:
                return body.load(body.floats(source, body.mul(words[Arg.PRODUCT_POINT], y * side + x)))

            columns = [self._product(self.matrices.a, [point(y, x) for y in range(side)]) for x in range(side)]
            bias = body.load(body.floats(words[Arg.BIAS], channel_at))
            for y in range(size):
                for x, value in enumerate(self._product(self.matrices.a, [column[y] for column in columns])):
                    self.patch.put(y * size + x, 0, body.b.fadd(value, bias))
            with body.b.if_else(whole, likely=True) as (then, otherwise):
                with then:
                    self._finish(out_at, channel_at, None)
                with otherwise:
                    self._finish(out_at, channel_at, (below, right))

    def _finish(self, out_at: ir.Value, channel_at: ir.Value, limits: tuple[ir.Value, ir.Value] | None) -> None:
        """Epilogue and stores of a patch whose results lie in rows of ``self.patch``."""
        body, size = self.body, self.variant.results

        def place(row: ir.Value) -> ir.Value:
            y, x = body.divide(row, constant(size))
            return body.add(out_at, body.add(body.mul(y, self.out_row), body.mul(x, self.variant.block)))

        def channel(i: int, v: int) -> ir.Value:
            return body.load(body.floats(self.channels[i], channel_at))

        def tensor(i: int, row: ir.Value, column: ir.Value) -> ir.Value:
            return body.load(body.floats(self.tensors[i], place(row)))

        def store(value: ir.Value, row: ir.Value, column: ir.Value) -> None:
            body.store(value, body.floats(self.words[Arg.OUTPUT], place(row)))

        def there(row: ir.Value) -> ir.Value:
            assert limits is not None
            y, x = body.divide(row, constant(size))
            return body.b.and_(body.less(y, limits[0]), body.less(x, limits[1]))

        self.patch.finish(
            self.epilogue, channel=channel, tensor=tensor, store=store, where=None if limits is None else there
        )

    def _product(self, matrix: Matrix, vector: Sequence[ir.Value]) -> list[ir.Value]:
        return [self._sum(row, vector) for row in matrix]

    def _sum(self, factors: Sequence[Fraction], values: Sequence[ir.Value]) -> ir.Value:
        """The sum of ``factor * value``, of which at least one factor is not 0."""
        body = self.body
        terms = [(f, v) for f, v in zip(factors, values, strict=True) if f]
        terms.sort(key=lambda term: term[0] != 1)  # one that needs no multiplication first
        factor, total = terms[0]
        if factor != 1:
            total = body.b.fmul(total, self._number(factor))
        for factor, value in terms[1:]:
            if factor == 1:
                total = body.b.fadd(total, value)
            elif factor == -1:
                total = body.b.fsub(total, value)
            else:
                total = body.multiply_add(value, self._number(factor), total)
        return total

    def _number(self, value: Fraction) -> ir.Constant:
        return ir.Constant(self.body.vector, [float(value)] * self.body.lanes)
