"""Convolution of bytes on the CHANNELS_LAST layout: a kernel row of a window is one run of consecutive bytes.

One unit of work is a band of output pixels of one image and group, for some tiles of channels.  Where windows reach
beyond the image, or the bytes have to be changed for the unit that multiplies, the rows of the image that the band sees
are first copied into scratch memory, with the padding around them.  Then each tile of channels goes over all pixels of
the band, a few at a time, while its weights are near; those of the next tile are fetched meanwhile.  Pixels beyond the
last one of a band stand for it: it is computed and stored more than once.

Wide numbers, of 16 bits, are copied as two images, one of their high bytes and one of their low ones.  A tile has two
rows for each pixel then, which meet the same weights; what becomes of the sums puts them together.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.convolution.arguments import Arg, Copies, Variant
from mace_cpu.quantized.convolution.generate_window import FLIP, copy_bytes, fill_bytes, split_words
from mace_cpu.shared.codegen.body import I8, I32, I64, POINTER, Body, constant
from mace_cpu.shared.epilogue.generate_requantize import FloatLoads, RequantizeCode, ShortAccess
from mace_cpu.shared.tiles.gathered import NARROWEST, PLACE_BYTES, Gathering
from mace_cpu.shared.tiles.quad_matrix_tile import make_quad_tile
from mace_cpu.shared.tiles.tile import FetchAhead

POINTERS = (
    *(Arg.INPUT, Arg.WEIGHTS, Arg.BIAS, Arg.LOW_BIAS, Arg.SCALES, Arg.FLOAT_BIAS, Arg.WEIGHT_ZEROS),
    *(Arg.OUTPUT, Arg.SCRATCH, Arg.INDICES, Arg.PLACES),
)


def build(symbol: str, variant: Variant, target: Target) -> str:
    """IR of a dense convolution; arguments are `Arg`, then those of the requantization."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    emitter = _Emitter(body, variant, is_x86=target.architecture == "x86_64")
    with body.loop(body.begin, body.end) as unit:
        emitter.unit(unit)
    emitter.tile.close()
    return body.text()


@dataclass(slots=True)
class _Band:
    """The output pixels of a unit, and where their windows are.

    Attributes:
        first, last: pixels.
        source: the window of the first pixel; of pixel 0 where windows are linear.
        output: of pixel 0, at the group's first channel.
    """

    first: ir.Value
    last: ir.Value
    source: ir.Value
    output: ir.Value


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where the results of a tile of channels go.

    Attributes:
        output: of pixel 0, at the tile's first channel.
        packed_at: where what is packed per channel begins.
        channel: the first one, of its group.
        valid: how many there are.
    """

    output: ir.Value
    packed_at: ir.Value
    channel: ir.Value
    valid: ir.Value


class _Emitter:
    def __init__(self, body: Body, variant: Variant, *, is_x86: bool) -> None:
        self.body, self.variant = body, variant
        self.words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
        self.code = RequantizeCode(body, len(Arg), variant.spec, is_x86=is_x86)
        vectors = variant.vectors + variant.weight_zeros
        rows = variant.rows * variant.planes
        self.tile = make_quad_tile(body, rows, vectors, variant.unit, left_is_signed=variant.is_signed)
        self.columns = variant.vectors * body.lanes
        self.ahead = FetchAhead(body)
        self.access = ShortAccess(body, self.columns, partial=variant.partial)
        words = self.words
        self.copy_row = body.mul(words[Arg.COPY_WIDTH], words[Arg.GROUP_IN])
        self.pixel_bytes = body.mul(words[Arg.IN_PIXEL], variant.planes)
        self.scratch = self._at(words[Arg.SCRATCH], body.mul(body.chunk, words[Arg.SCRATCH_BYTES]))
        self.gathered = self._at(self.scratch, words[Arg.GATHERED])
        self.gathering = Gathering(body, max(variant.window, NARROWEST), variant.stored, is_x86=is_x86)
        self.starts = [body.variable(POINTER) for _ in range(variant.rows)]
        self.padding = self._padding()
        self.element = variant.spec.stored_bytes
        if variant.spec.floats is not None:
            self.aside = body.memory(ir.ArrayType(I32, rows * vectors * body.lanes))
            self.numbers = body.memory(ir.ArrayType(I64, variant.rows))

    def unit(self, unit: ir.Value) -> None:
        """One band for some channel tiles."""
        body, words = self.body, self.words
        rest, part = body.divide(unit, words[Arg.PARTS])
        rest, number = body.divide(rest, words[Arg.BANDS])
        n, group = body.divide(rest, words[Arg.GROUPS])
        first = body.mul(number, words[Arg.BAND_PIXELS])
        last = body.minimum(body.add(first, words[Arg.BAND_PIXELS]), words[Arg.PIXELS])
        offset = body.add(body.mul(n, words[Arg.IMAGE]), body.mul(group, words[Arg.GROUP_IN]))
        image = self._at(words[Arg.INPUT], body.mul(offset, self.variant.planes))
        source = image
        if self.variant.copies is not Copies.NONE:
            source = self.scratch
            is_first = body.b.or_(
                body.b.icmp_signed("==", part, constant(0)), body.b.icmp_signed("==", unit, body.begin)
            )
            with body.b.if_then(is_first):
                self._copy(image, first, last)
        elif not self.variant.linear:
            row = body.b.udiv(first, words[Arg.OUT_WIDTH])
            source = self._at(image, body.mul(row, words[Arg.ROW_STEP]))
        channel = body.mul(group, words[Arg.GROUP_OUT])
        origin = body.add(body.mul(n, words[Arg.OUT_IMAGE]), words[Arg.OUT_ORIGIN])
        out_at = body.add(body.mul(origin, words[Arg.OUT_CHANNELS]), channel)
        output = self._at(words[Arg.OUTPUT], body.mul(out_at, self.element))
        self.result_offset = out_at
        band = _Band(first, last, source, output)
        first_tile = body.mul(part, words[Arg.PART_TILES])
        last_tile = body.minimum(body.add(first_tile, words[Arg.PART_TILES]), words[Arg.TILES])
        with body.loop(first_tile, last_tile) as tile:
            self._channels(band, tile, body.add(body.mul(group, words[Arg.TILES]), tile))

    def _padding(self) -> ir.Value:
        """The byte around the image, as it is multiplied."""
        body, variant = self.body, self.variant
        if not variant.opened or variant.copies is Copies.NONE:
            return self.words[Arg.PADDING]
        byte = body.b.load(body.pointer(Arg.PADDING), typ=I8, align=1)
        if variant.copies is Copies.FLIPPED:
            byte = body.b.xor(byte, ir.Constant(I8, FLIP))
        return body.b.zext(byte, I64)

    # --- the window -----------------------------------------------------------------------------------------------

    def _copy(self, image: ir.Value, first: ir.Value, last: ir.Value) -> None:
        """Bring what the pixels see into scratch memory."""
        body, words, b = self.body, self.words, self.body.b
        row = b.udiv(first, words[Arg.OUT_WIDTH])
        rows = self._rows_seen(first, last)
        top = body.sub(body.mul(row, words[Arg.ROW_STRIDE]), words[Arg.PAD_TOP])
        width, size = words[Arg.COPY_WIDTH], words[Arg.GROUP_IN]
        left = body.minimum(body.maximum(words[Arg.PAD_LEFT], constant(0)), width)
        right = body.maximum(body.minimum(body.add(words[Arg.IN_WIDTH], words[Arg.PAD_LEFT]), width), left)
        skipped = body.sub(left, words[Arg.PAD_LEFT])
        with body.loop(0, rows) as i:
            line = body.add(top, i)
            target = self._at(self.scratch, body.mul(i, self.copy_row))
            with b.if_else(b.icmp_unsigned("<", line, words[Arg.IN_ROWS])) as (then, otherwise):
                with then:
                    pixel = body.add(body.mul(line, words[Arg.IN_WIDTH]), skipped)
                    source = self._at(image, body.mul(pixel, self.pixel_bytes))
                    self._fill(target, body.mul(left, size))
                    inner = self._at(target, body.mul(left, size))
                    self._copy_pixels(source, inner, body.sub(right, left))
                    beyond = self._at(target, body.mul(right, size))
                    self._fill(beyond, body.mul(body.sub(width, right), size))
                with otherwise:
                    self._fill(target, self.copy_row)

    def _fill(self, target: ir.Value, count: ir.Value) -> None:
        """What lies around the image."""
        body, padding = self.body, self.padding
        if self.variant.planes > 1:
            fill_bytes(body, self._at(target, self.words[Arg.PLANE]), padding, count)
            padding = body.b.lshr(padding, constant(8))
        fill_bytes(body, target, padding, count)

    def _rows_seen(self, first: ir.Value, last: ir.Value) -> ir.Value:
        """Rows of the image that the pixels of a band see."""
        body, words = self.body, self.words
        count = body.b.udiv(body.sub(last, first), words[Arg.OUT_WIDTH])
        return body.add(body.mul(body.sub(count, constant(1)), words[Arg.ROW_STRIDE]), words[Arg.ROW_SPAN])

    def _copy_pixels(self, source: ir.Value, target: ir.Value, count: ir.Value) -> None:
        body, words, variant = self.body, self.words, self.variant

        def copy(here: ir.Value, there: ir.Value, count: ir.Value, *, is_short: bool) -> None:
            if variant.copies is Copies.SPLIT:
                low = self._at(there, words[Arg.PLANE])
                split_words(body, here, there, low, count, flips=variant.flips, is_short=is_short)
            else:
                copy_bytes(body, here, there, count, flips=variant.copies is Copies.FLIPPED, is_short=is_short)

        if not variant.gathers:
            copy(source, target, body.mul(count, words[Arg.GROUP_IN]), is_short=False)
            return
        with body.loop(0, count) as pixel:
            here = self._at(source, body.mul(pixel, self.pixel_bytes))
            there = self._at(target, body.mul(pixel, words[Arg.GROUP_IN]))
            copy(here, there, words[Arg.GROUP_IN], is_short=True)

    # --- sums -----------------------------------------------------------------------------------------------------

    def _channels(self, band: _Band, tile: ir.Value, over_all: ir.Value) -> None:
        """One tile of channels for all pixels of the band."""
        body, words, variant = self.body, self.words, self.variant
        weights = self._at(words[Arg.WEIGHTS], body.mul(over_all, words[Arg.TILE_WEIGHTS]))
        following = self._at(weights, words[Arg.TILE_WEIGHTS])
        channel = body.mul(tile, self.columns)
        valid = body.sub(words[Arg.GROUP_OUT], channel)
        packed_at = body.mul(over_all, self.columns)
        output = self._at(band.output, body.mul(channel, self.element))
        with body.loop(band.first, band.last, variant.rows) as pixel:
            number = body.b.udiv(body.sub(pixel, band.first), constant(variant.rows))
            at = body.floats(following, body.mul(number, words[Arg.TILE_FETCH]))
            self.ahead.begin(at, words[Arg.STEPS_FETCH])
            pixels = self._pixels(pixel, band.last)
            starts = self._windows(band, pixels)
            starts += [self._at(start, words[Arg.PLANE]) for start in starts] if variant.planes > 1 else []
            biases = (Arg.BIAS, Arg.LOW_BIAS)[: variant.planes]
            none = [ir.Constant(self.tile.vector, None)] * variant.weight_zeros
            vectors = range(variant.vectors)
            self.tile.start(*([self._whole(bias, packed_at, v) for v in vectors] + none for bias in biases))
            self._accumulate(starts, weights, over_all)
            self.tile.settle()
            self._finish(output, pixels, packed_at, channel, valid)

    def _pixels(self, first: ir.Value, last: ir.Value) -> list[ir.Value]:
        body = self.body
        final = body.sub(last, constant(1))
        return [first] + [body.minimum(body.add(first, r), final) for r in range(1, self.variant.rows)]

    def _windows(self, band: _Band, pixels: list[ir.Value]) -> list[ir.Value]:
        """The address of each pixel's window."""
        body, words, b = self.body, self.words, self.body.b
        step = words[Arg.PIXEL_STEP]
        if self.variant.linear:
            return [self._at(band.source, body.mul(pixel, step)) for pixel in pixels]
        y, x = body.divide(body.sub(pixels[0], band.first), words[Arg.OUT_WIDTH])
        at = body.mul(x, step)
        row = self._at(band.source, body.mul(y, words[Arg.ROW_STEP]))
        b.store(self._at(row, at), self.starts[0])
        is_straight = b.icmp_signed("<=", body.add(x, self.variant.rows), words[Arg.OUT_WIDTH])
        with b.if_else(is_straight) as (then, otherwise):
            with then:
                for r in range(1, self.variant.rows):
                    b.store(self._at(row, body.add(at, body.mul(step, r))), self.starts[r])
            with otherwise:
                end = body.mul(words[Arg.OUT_WIDTH], step)
                for (before, pixel), start in zip(itertools.pairwise(pixels), self.starts[1:], strict=True):
                    moves = b.icmp_signed("!=", before, pixel)
                    further = body.add(at, step)
                    wraps = b.icmp_signed("==", further, end)
                    at = b.select(moves, b.select(wraps, constant(0), further), at)
                    row = b.select(b.and_(moves, wraps), self._at(row, words[Arg.ROW_STEP]), row)
                    b.store(self._at(row, at), start)
        return [b.load(start, typ=POINTER) for start in self.starts]

    def _accumulate(self, starts: list[ir.Value], weights: ir.Value, over_all: ir.Value) -> None:
        body, words, variant = self.body, self.words, self.variant
        if variant.single:
            self._run(starts, weights, over_all)
            return
        row_weights = body.mul(words[Arg.TAPS], words[Arg.RUN_WEIGHTS])
        first = body.mul(over_all, words[Arg.KERNEL_ROWS])
        with body.loop(0, words[Arg.KERNEL_ROWS]) as row, body.loop(0, words[Arg.TAPS]) as tap:
            offset = body.add(body.mul(row, words[Arg.KERNEL_ROW]), body.mul(tap, words[Arg.TAP_STEP]))
            at = body.add(body.mul(row, row_weights), body.mul(tap, words[Arg.RUN_WEIGHTS]))
            here = [self._at(start, offset) for start in starts]
            number = body.add(body.mul(body.add(first, row), words[Arg.TAPS]), tap)
            self._run(here, self._at(weights, at), number)

    def _run(self, starts: list[ir.Value], weights: ir.Value, number: ir.Value) -> None:
        """One run of each window; ``number``: which of all runs of all tiles it is."""
        body, words, variant = self.body, self.words, self.variant
        if variant.window:
            rows = [self._at(self.gathered, constant(row * variant.row_bytes)) for row in range(variant.rows)]
            before = body.mul(number, words[Arg.GATHERS])
            self.gathering.rows(
                starts,
                rows,
                self._at(words[Arg.INDICES], body.mul(before, variant.window)),
                self._at(words[Arg.PLACES], body.mul(before, PLACE_BYTES)),
                words[Arg.GATHERS],
            )
            starts = rows
        ahead = None if variant.short else self.ahead
        self.tile.run(starts, weights, words[Arg.QUADS], variant.tail, ahead, variant.unroll)

    # --- results --------------------------------------------------------------------------------------------------

    def _finish(
        self, output: ir.Value, pixels: list[ir.Value], packed_at: ir.Value, channel: ir.Value, valid: ir.Value
    ) -> None:
        variant, body = self.variant, self.body
        single, planes = variant.vectors + variant.weight_zeros, variant.planes
        vectors = single * planes
        sums = [
            [self.tile.cell(plane * variant.rows + r, v) for plane in range(planes) for v in range(single)]
            for r in range(variant.rows)
        ]
        ends = _Ends(output, packed_at, channel, valid)
        if variant.spec.floats is None:
            for own, pixel in zip(sums, pixels, strict=True):
                self._finish_pixel(ends, own, pixel)
            return
        # operations in float32 may be long: their code is there once for all pixels
        for r, own in enumerate(sums):
            for v, total in enumerate(own):
                body.b.store(total, body.floats(self.aside, (r * vectors + v) * body.lanes), align=4)
            body.b.store(pixels[r], body.b.gep(self.numbers, [constant(r)], source_etype=I64), align=8)
        with body.loop(0, constant(variant.rows)) as r:
            places = [
                body.floats(self.aside, body.add(body.mul(r, vectors * body.lanes), v * body.lanes))
                for v in range(vectors)
            ]
            own = [body.b.load(place, typ=self.tile.vector, align=4) for place in places]
            self._finish_pixel(ends, own, body.table_entry(self.numbers, r))

    def _finish_pixel(self, ends: _Ends, sums: list[ir.Value], pixel: ir.Value) -> None:
        """What becomes of the sums of one pixel."""
        body, words, variant = self.body, self.words, self.variant
        packed_at, channel, valid = ends.packed_at, ends.channel, ends.valid

        def at(base: ir.Value, index: ir.Value, v: int) -> ir.Value:
            return body.floats(base, body.add(index, v * body.lanes))

        def per_channel(arg: Arg, v: int) -> ir.Value:
            return body.load(at(words[arg], packed_at, v))

        def left(v: int) -> ir.Value:
            return body.sub(valid, constant(v * body.lanes))

        inside = body.mul(self._place(pixel), words[Arg.OUT_CHANNELS])
        output = self._at(ends.output, body.mul(inside, self.element))
        count = len(sums) // variant.planes
        high, *rest = (
            self._without_zeros(sums[plane * count : (plane + 1) * count], packed_at) for plane in range(variant.planes)
        )
        place = body.add(body.add(self.result_offset, channel), inside)

        def tensor(base: ir.Value, v: int) -> ir.Value:
            there = at(base, place, v)
            return body.load_some(there, left(v)) if variant.partial else body.load(there)

        def other(base: ir.Value, kind: ir.Type) -> ir.Value:
            here = body.b.gep(base, [place], inbounds=True, source_etype=kind.element)
            return self.access.load(here, kind, valid)

        arguments = (
            high,
            lambda v: per_channel(Arg.SCALES, v),
            lambda v: per_channel(Arg.FLOAT_BIAS, v),
            other,
        )
        low = rest[0] if rest else None
        floats = FloatLoads(lambda base, v: body.load(at(base, packed_at, v)), tensor)
        if variant.spec.is_quantized:
            self.access.store(self.code.to_numbers(*arguments, floats=floats, low=low), output, valid)
            return
        values = [body.b.bitcast(total, body.vector) for total in high]
        if variant.spec.result == "float32":
            values = self.code.to_floats(*arguments, floats, low=low)
        for v, value in enumerate(values):
            there = body.floats(output, v * body.lanes)
            if variant.partial:
                body.store_some(value, there, left(v))
            else:
                body.store(value, there)

    def _without_zeros(self, sums: list[ir.Value], packed_at: ir.Value) -> list[ir.Value]:
        """Sums with the zero points of the weights taken off, if there are some."""
        body, variant = self.body, self.variant
        if not variant.weight_zeros:
            return sums
        *sums, seen = sums
        off = [body.b.mul(seen, self._whole(Arg.WEIGHT_ZEROS, packed_at, v)) for v in range(variant.vectors)]
        return [body.b.sub(total, part) for total, part in zip(sums, off, strict=True)]

    def _place(self, pixel: ir.Value) -> ir.Value:
        """Where a pixel is among those of the result."""
        body, words = self.body, self.words
        if not self.variant.lattice:
            return pixel
        y, x = body.divide(pixel, words[Arg.OUT_WIDTH])
        return body.add(body.mul(y, words[Arg.OUT_ROW]), body.mul(x, words[Arg.OUT_PIXEL]))

    def _whole(self, arg: Arg, packed_at: ir.Value, v: int) -> ir.Value:
        """A vector of int32 of the channels of a tile."""
        body = self.body
        at = body.floats(self.words[arg], body.add(packed_at, v * body.lanes))
        return body.b.load(at, typ=self.tile.vector, align=4)

    def _at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=I8)
