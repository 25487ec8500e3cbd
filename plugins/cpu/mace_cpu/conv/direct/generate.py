"""Direct convolution into the BLOCKED layout, from BLOCKED or (few channels) PLAIN input.

One unit of work is a stretch of some output rows for one tile of output channels.  It passes over the input blocks a
few at a time, so that their weights stay in the first level cache, and keeps the sums between passes in scratch memory.
Rows of the kernel that fall outside the image are skipped; where a tile reaches beyond the left or right border, its
window of the input is copied into scratch memory with zeros around it, and the same code runs on the copy.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.conv.direct.arguments import Arg, Variant
from mace_cpu.shared.codegen.body import I8, I64, Body, constant
from mace_cpu.shared.codegen.pairs import half_address, load_half, pair_of, store_half
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.tiles.pair_tile import make_tile
from mace_cpu.shared.tiles.tile import FetchAhead, Tile


class _Words:
    """Argument words by name, loaded in the entry block."""

    def __init__(self, body: Body) -> None:
        self._values = {arg: body.word(arg.value) for arg in Arg if arg not in POINTERS}
        self._values.update({arg: body.pointer(arg.value) for arg in POINTERS})

    def __getitem__(self, arg: Arg) -> ir.Value:
        return self._values[arg]


MOST_FETCHED = 4
"""Input pixels asked for ahead of time for each output pixel: of a longer stride most are never read."""

BLOCKS_PER_RUN = 4

POINTERS = (Arg.INPUT, Arg.WEIGHTS, Arg.BIAS, Arg.OUTPUT, Arg.SCRATCH, Arg.PAIR_OUTPUT, Arg.KEPT)


@dataclass(slots=True)
class _Unit:
    """Where one unit of work lies."""

    n: ir.Value
    oc_tile: ir.Value  # over all groups
    row_group: ir.Value
    segment: ir.Value
    is_first: ir.Value  # of those with its weights


@dataclass(slots=True)
class _Pass:
    """Some of the input blocks, with the weights that meet them."""

    first_block: ir.Value
    blocks: ir.Value
    image: ir.Value  # the first block
    weights: ir.Value
    next_weights: ir.Value
    fetch: ir.Value  # how much of them to fetch every few steps


@dataclass(slots=True)
class _Source:
    """Where the window of a tile starts, and the strides through it, in floats."""

    start: ir.Value
    kernel_row: ir.Value
    block: ir.Value
    direct: ir.Value  # the start in the image itself


def build(symbol: str, variant: Variant, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of a direct convolution; arguments are `Arg`, then epilogue channels, then epilogue tensors."""
    body = Body(symbol, variant.block, target.features)
    words = _Words(body)
    epilogue = EpilogueCode(body, len(Arg), ops)
    emitter = _Emitter(body, words, variant, epilogue)
    with body.loop(body.begin, body.end) as unit:
        emitter.unit(_decode(body, words, unit))
    emitter.tile.close()
    return body.text()


def _decode(body: Body, words: _Words, unit: ir.Value) -> _Unit:
    """Units run over bands of positions; in a band over channel tiles, then over its positions.

    A position is (n, row group, segment).  So weights stay in cache over a band, and a band's input over the channel
    tiles.
    """
    band_size, positions, oc_tiles = words[Arg.BAND], words[Arg.POSITIONS], words[Arg.ALL_OC_TILES]
    band, inside = body.divide(unit, body.mul(band_size, oc_tiles))
    first = body.mul(band, band_size)
    size = body.minimum(band_size, body.sub(positions, first))
    oc_tile, offset = body.divide(inside, size)
    rest, segment = body.divide(body.add(first, offset), words[Arg.SEGMENTS])
    n, row_group = body.divide(rest, words[Arg.ROW_GROUPS])
    is_first = body.b.or_(body.b.icmp_signed("==", offset, constant(0)), body.b.icmp_signed("==", unit, body.begin))
    return _Unit(n, oc_tile, row_group, segment, is_first)


class _Emitter:
    def __init__(
        self,
        body: Body,
        words: _Words,
        variant: Variant,
        epilogue: EpilogueCode,
    ) -> None:
        self.body, self.words, self.variant, self.epilogue = body, words, variant, epilogue
        self.channels, self.tensors = epilogue.channels, epilogue.tensors
        self.tile = make_tile(body, variant.rows, variant.blocks, variant.unit)
        self.ahead = FetchAhead(body)
        self.channel_step = 1 if variant.plain_input else variant.block
        self.pixel_step = variant.stride * self.channel_step
        b = body
        self.image_row = b.mul(words[Arg.IN_WIDTH], self.channel_step)
        self.image_block = b.mul(self.image_row, words[Arg.IN_ROWS])
        self.tap_weights = b.mul(words[Arg.RUN], self.tile.columns)
        self.row_weights = b.mul(words[Arg.TAPS], self.tap_weights)
        self.block_weights = b.mul(words[Arg.KERNEL_ROWS], self.row_weights)
        self.tile_weights = b.mul(words[Arg.IN_BLOCKS], self.block_weights)
        scratch_at = b.mul(body.chunk, words[Arg.SCRATCH_FLOATS])
        self.window = b.floats(words[Arg.SCRATCH], scratch_at)
        self.zeros = body.memory(body.vector)
        body.store(body.zero(), self.zeros)
        self.sums = b.floats(self.window, words[Arg.WINDOW_FLOATS])
        # of the unit: its first channel block, and how far ahead of its pairs its floats lie, in words
        self.first_block: ir.Value | None = None
        self.pair_shift: ir.Value | None = None

    def unit(self, unit: _Unit) -> None:
        """All passes over the input blocks for the rows and the stretch of one unit."""
        body, words = self.body, self.words
        group, tile_in_group = body.divide(unit.oc_tile, words[Arg.OC_TILES])
        out_block = body.add(
            body.add(body.mul(group, words[Arg.OUT_BLOCKS]), words[Arg.FIRST_OUT_BLOCK]),
            body.mul(tile_in_group, self.variant.blocks),
        )
        channel_at = body.mul(unit.oc_tile, self.tile.columns)
        image = body.add(
            body.mul(unit.n, words[Arg.IN_IMAGE]), body.mul(body.mul(group, words[Arg.IN_BLOCKS]), self.image_block)
        )
        out_image = body.add(body.mul(unit.n, words[Arg.OUT_IMAGE]), body.mul(out_block, words[Arg.OUT_BLOCK]))
        self.first_block = out_block
        if self.variant.stores != "floats" or any(self.variant.pair_tensors):
            pair_block, _ = pair_of(body, out_block)
            pair_image = body.mul(unit.n, words[Arg.PAIR_IMAGE])
            self.pair_shift = body.sub(out_image, body.add(pair_image, body.mul(pair_block, words[Arg.OUT_BLOCK])))
        weights = body.floats(words[Arg.WEIGHTS], body.mul(unit.oc_tile, self.tile_weights))
        first_row = body.mul(unit.row_group, words[Arg.GROUP_ROWS])
        last_row = body.minimum(body.add(first_row, words[Arg.GROUP_ROWS]), words[Arg.OUT_ROWS])
        # the next units of a band use the same weights
        fetch = body.b.select(unit.is_first, words[Arg.STEPS_FETCH], constant(0))
        with body.loop(0, words[Arg.IN_BLOCKS], words[Arg.PASS_BLOCKS]) as first_block:
            blocks = body.minimum(words[Arg.PASS_BLOCKS], body.sub(words[Arg.IN_BLOCKS], first_block))
            here = _Pass(
                first_block,
                blocks,
                body.floats(words[Arg.INPUT], body.add(image, body.mul(first_block, self.image_block))),
                body.floats(weights, body.mul(first_block, self.block_weights)),
                body.floats(weights, body.mul(body.add(first_block, blocks), self.block_weights)),
                fetch,
            )
            with body.loop(first_row, last_row) as row:
                slot = body.mul(body.sub(row, first_row), words[Arg.SEGMENT_TILES])
                out_row = body.add(out_image, body.mul(row, words[Arg.OUT_ROW]))
                self._row(here, row, unit.segment, slot, out_row, channel_at)

    def _row(
        self, here: _Pass, row: ir.Value, segment: ir.Value, slot: ir.Value, out_row: ir.Value, channel_at: ir.Value
    ) -> None:
        """One pass over the tiles of a row; ``slot`` numbers the first one's place for sums between passes."""
        body, words, rows = self.body, self.words, self.variant.rows
        top = body.sub(body.mul(row, words[Arg.ROW_STRIDE]), words[Arg.PAD_TOP])
        first_kernel_row = self._kernel_row_reaching(body.sub(constant(0), top))
        last_kernel_row = body.minimum(
            words[Arg.KERNEL_ROWS], self._kernel_row_reaching(body.sub(words[Arg.IN_ROWS], top))
        )
        kernel_rows = body.maximum(body.sub(last_kernel_row, first_kernel_row), constant(0))
        first_row = body.add(top, body.mul(first_kernel_row, words[Arg.ROW_DILATION]))
        weights = body.floats(here.weights, body.mul(first_kernel_row, self.row_weights))
        width = words[Arg.OUT_WIDTH]
        tiles = body.b.udiv(body.add(width, rows - 1), constant(rows))
        first_tile = body.mul(segment, words[Arg.SEGMENT_TILES])
        last_tile = body.minimum(body.add(first_tile, words[Arg.SEGMENT_TILES]), tiles)
        is_first = body.b.icmp_signed("==", here.first_block, constant(0))
        is_last = body.b.icmp_signed("==", body.add(here.first_block, here.blocks), words[Arg.IN_BLOCKS])
        with body.loop(first_tile, last_tile) as tile:
            # the last tile of a row is moved back, so that no tile is incomplete; some pixels are computed twice
            pixel = body.minimum(body.mul(tile, rows), body.sub(width, constant(rows)))
            left = body.sub(body.mul(pixel, self.variant.stride), words[Arg.PAD_LEFT])
            source = self._source(here, first_row, left, kernel_rows)
            place = body.add(slot, body.sub(tile, first_tile))
            sums = body.floats(self.sums, body.mul(place, rows * self.tile.columns))
            at = body.floats(here.next_weights, body.mul(place, words[Arg.TILE_FETCH]))
            self.ahead.begin(at, here.fetch)
            with body.b.if_else(is_first) as (then, otherwise):
                with then:
                    self.tile.start(
                        [
                            body.load(body.floats(words[Arg.BIAS], body.add(channel_at, v * body.lanes)))
                            for v in range(self.variant.blocks)
                        ]
                    )
                with otherwise:
                    self.tile.take_up(sums)
            self._accumulate(here, source, weights, kernel_rows)
            with body.b.if_else(is_last) as (then, otherwise):
                with then:
                    self._finish(body.add(out_row, body.mul(pixel, words[Arg.OUT_PIXEL])), channel_at)
                with otherwise:
                    self.tile.put_aside(sums)

    def _kernel_row_reaching(self, distance: ir.Value) -> ir.Value:
        """The first kernel row that lies at least ``distance`` image rows below the topmost one."""
        body, dilation = self.body, self.words[Arg.ROW_DILATION]
        positive = body.maximum(distance, constant(0))
        return body.b.udiv(body.sub(body.add(positive, dilation), constant(1)), dilation)

    def _source(self, here: _Pass, first_row: ir.Value, left: ir.Value, kernel_rows: ir.Value) -> _Source:
        """The tile's window in the image itself, or in scratch memory where it reaches beyond a border."""
        body, words = self.body, self.words
        b = body.b
        span = words[Arg.WINDOW_WIDTH]
        direct_row = body.mul(self.image_row, words[Arg.ROW_DILATION])
        direct = body.floats(
            here.image, body.add(body.mul(first_row, self.image_row), body.mul(left, self.channel_step))
        )
        outside = b.or_(body.less(left, 0), b.icmp_signed(">", body.add(left, span), words[Arg.IN_WIDTH]))
        copied_row = body.mul(span, self.channel_step)
        copied_block = body.mul(copied_row, kernel_rows)
        with b.if_then(outside, likely=False):
            self._copy_window(here, first_row, left, kernel_rows, copied_row, copied_block)
        return _Source(
            b.select(outside, self.window, direct),
            b.select(outside, copied_row, direct_row),
            b.select(outside, copied_block, self.image_block),
            direct,
        )

    def _copy_window(
        self,
        here: _Pass,
        first_row: ir.Value,
        left: ir.Value,
        kernel_rows: ir.Value,
        copied_row: ir.Value,
        copied_block: ir.Value,
    ) -> None:
        body, words = self.body, self.words
        b, step = body.b, self.channel_step
        with body.loop(0, here.blocks) as block, body.loop(0, kernel_rows) as kernel_row:
            row = body.add(first_row, body.mul(kernel_row, words[Arg.ROW_DILATION]))
            from_at = body.add(
                body.mul(block, self.image_block), body.add(body.mul(row, self.image_row), body.mul(left, step))
            )
            source = body.floats(here.image, from_at)
            target = body.floats(self.window, body.add(body.mul(block, copied_block), body.mul(kernel_row, copied_row)))
            with body.loop(0, words[Arg.WINDOW_WIDTH]) as x:
                at = body.mul(x, step)
                inside = b.icmp_unsigned("<", body.add(left, x), words[Arg.IN_WIDTH])
                pixel = b.select(inside, body.floats(source, at), self.zeros)
                if self.variant.plain_input:
                    b.store(body.load_scalar(pixel), body.floats(target, at), align=4)
                else:
                    body.store(body.load(pixel), body.floats(target, at))

    def _accumulate(self, here: _Pass, source: _Source, weights: ir.Value, kernel_rows: ir.Value) -> None:
        body, words = self.body, self.words
        self._offsets = [r * self.pixel_step for r in range(self.variant.rows)]
        if self.variant.kept and self.variant.one_tap:
            self._accumulate_channels(here, source, weights, kernel_rows)
            return
        if isinstance(self.tile, Tile) and body.takes_lanes and not self.variant.plain_input and not self.variant.kept:
            b = body.b
            steps = [words[Arg.RUN], words[Arg.LAST_RUN]]
            short = [b.icmp_signed("==", run, constant(self.variant.block)) for run in steps]
            short += [b.icmp_signed("==", count, constant(1)) for count in (kernel_rows, words[Arg.TAPS])]
            with b.if_else(functools.reduce(b.and_, short)) as (then, otherwise):
                with then:
                    self._accumulate_pixels(here, source, weights)
                with otherwise:
                    self._accumulate_runs(here, source, weights, kernel_rows)
            return
        self._accumulate_runs(here, source, weights, kernel_rows)

    def _accumulate_pixels(self, here: _Pass, source: _Source, weights: ir.Value) -> None:
        """A window of one pixel: its blocks of channels, each of which takes too few steps for loops of its own."""
        body, tile, block = self.body, self.tile, self.variant.block
        assert isinstance(tile, Tile)
        self.ahead.fetch_for(body.mul(here.blocks, block))
        with body.loop(0, here.blocks) as number:
            start = body.floats(source.start, body.mul(number, source.block))
            columns = body.floats(weights, body.mul(number, self.block_weights))
            self._fetch_ahead(body.floats(source.direct, body.mul(number, self.image_block)))
            for first in range(0, block, tile.together):

                def left(row: int, first: int = first) -> ir.Value:
                    return body.floats(start, self._offsets[row] + first)

                def right(lane: int, first: int = first) -> ir.Value:
                    return body.floats(columns, (first + lane) * tile.columns)

                tile.lane_steps(left, right)

    def _accumulate_runs(self, here: _Pass, source: _Source, weights: ir.Value, kernel_rows: ir.Value) -> None:
        """The runs of each block's window, one for each kernel row, or for each tap."""
        body, words, offsets = self.body, self.words, self._offsets
        last_block = body.sub(body.sub(words[Arg.IN_BLOCKS], here.first_block), constant(1))
        with body.loop(0, here.blocks) as block:
            run = body.b.select(body.less(block, last_block), words[Arg.RUN], words[Arg.LAST_RUN])
            block_source = body.floats(source.start, body.mul(block, source.block))
            if not self.variant.plain_input:
                self._fetch_ahead(body.floats(source.direct, body.mul(block, self.image_block)))
            block_weights = body.floats(weights, body.mul(block, self.block_weights))
            with body.loop(0, kernel_rows) as kernel_row:
                row_source = body.floats(block_source, body.mul(kernel_row, source.kernel_row))
                row_weights = body.floats(block_weights, body.mul(kernel_row, self.row_weights))
                with body.loop(0, words[Arg.TAPS]) as tap:
                    tap_source = body.floats(row_source, body.mul(tap, words[Arg.TAP_STEP]))
                    tap_weights = body.floats(row_weights, body.mul(tap, self.tap_weights))
                    if self.variant.kept:
                        assert isinstance(self.tile, Tile)
                        self.tile.run_kept(tap_source, offsets, tap_weights, self._kept(tap_weights), run, self.ahead)
                    else:
                        self.tile.run(
                            tap_source, offsets, tap_weights, self.tile.columns, run, self.variant.unroll, self.ahead
                        )

    def _accumulate_channels(self, here: _Pass, source: _Source, weights: ir.Value, kernel_rows: ir.Value) -> None:
        """A kernel of one tap: the channels that are kept of several blocks are one run."""
        body, words, block = self.body, self.words, self.variant.block
        assert isinstance(self.tile, Tile)

        def place(entry: ir.Value) -> ir.Value:
            channel = body.b.and_(entry, constant(block - 1))
            return body.add(body.mul(body.b.udiv(entry, constant(block)), source.block), channel)

        blocks = body.mul(here.blocks, kernel_rows)  # there is no row where the kernel lies outside of the image
        with body.loop(0, blocks, BLOCKS_PER_RUN) as first:
            count = body.minimum(body.sub(blocks, first), constant(BLOCKS_PER_RUN))
            with body.loop(first, body.add(first, count)) as inside:
                self._fetch_ahead(body.floats(source.direct, body.mul(inside, self.image_block)))
            run_weights = body.floats(weights, body.mul(first, self.block_weights))
            steps = body.mul(count, words[Arg.RUN])
            self.tile.run_kept(
                source.start, self._offsets, run_weights, self._kept(run_weights), steps, self.ahead, place
            )

    def _kept(self, weights: ir.Value) -> ir.Value:
        """The table's entry that belongs to a row of weights: there is one for each."""
        b = self.body.b
        distance = b.sub(b.ptrtoint(weights, I64), b.ptrtoint(self.words[Arg.WEIGHTS], I64))
        return b.gep(self.words[Arg.KEPT], [b.udiv(distance, constant(self.tile.columns))], source_etype=I8)

    def _fetch_ahead(self, window: ir.Value) -> None:
        """Ask for input that a later tile starts to read: the memory's own guesses are too short for rows in blocks."""
        body, ahead = self.body, self.words[Arg.INPUT_AHEAD]
        with body.b.if_then(body.b.icmp_signed("!=", ahead, constant(0))):
            start = body.floats(window, ahead)
            stride = self.variant.stride
            for pixel in range(self.variant.rows):
                for beside in range(min(stride, MOST_FETCHED)):
                    body.prefetch(body.floats(start, (pixel * stride + beside) * self.channel_step))

    def _finish(self, out_at: ir.Value, channel_at: ir.Value) -> None:
        body, words, first_block = self.body, self.words, self.first_block

        def place(row: ir.Value, column: ir.Value) -> ir.Value:
            inside = body.add(body.mul(row, words[Arg.OUT_PIXEL]), body.mul(column, words[Arg.OUT_BLOCK]))
            return body.add(out_at, inside)

        def channel(i: int, v: int) -> ir.Value:
            return body.load(body.floats(self.channels[i], body.add(channel_at, v * body.lanes)))

        def tensor(i: int, row: ir.Value, column: ir.Value) -> ir.Value:
            if self.variant.pair_tensors[i : i + 1] == (True,):
                assert self.variant.unit is not None
                return load_half(body, self._half(self.tensors[i], out_at, row, column), self.variant.unit)
            return body.load(body.floats(self.tensors[i], place(row, column)))

        def store(value: ir.Value, row: ir.Value, column: ir.Value) -> None:
            if self.variant.stores != "pairs":
                body.store(value, body.floats(words[Arg.OUTPUT], place(row, column)))
            if self.variant.stores != "floats":
                assert self.variant.unit is not None
                at = self._half(words[Arg.PAIR_OUTPUT], out_at, row, column)
                is_alone = body.b.icmp_signed("==", body.add(first_block, column), words[Arg.LONE_BLOCK])
                store_half(body, value, at, self.variant.unit, is_alone)

        self.tile.finish(self.epilogue, channel=channel, tensor=tensor, store=store)

    def _half(self, base: ir.Value, out_at: ir.Value, row: ir.Value, column: ir.Value) -> ir.Value:
        """Where a vector of the tile at ``out_at`` lies in the PAIRS layout."""
        body, words = self.body, self.words
        assert self.pair_shift is not None and self.first_block is not None
        pair, odd = pair_of(body, body.add(body.b.and_(self.first_block, constant(1)), column))
        inside = body.add(body.mul(row, words[Arg.OUT_PIXEL]), body.mul(pair, words[Arg.OUT_BLOCK]))
        return half_address(body, base, body.add(body.sub(out_at, self.pair_shift), inside), odd)
