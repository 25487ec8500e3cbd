"""Direct convolution from PLAIN to PLAIN, vectorized over the pixels of a row instead of over channels.

A tile is a few vectors of neighboring pixels by some output channels; a step multiplies the pixels that one tap of
the kernel meets with the tap's weights.  No lane idles where there are few output channels, or few per group, and
every lane reads channels of its own group alone.

The same code computes a ConvTranspose: its phases (results congruent modulo the strides) are further channels, which
the end of a tile interleaves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.conv.planar.arguments import Arg, Variant
from mace_cpu.shared.codegen.body import CACHE_LINE_FLOATS, I8, I32, LANES_TOGETHER, Body, constant
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.tiles.tile import CHEAP, Tile

POINTERS = (Arg.INPUT, Arg.WEIGHTS, Arg.BIAS, Arg.OUTPUT, Arg.SCRATCH)

LATENCY_SLOTS = 8
"""Multiplications under way at a time: two units, and four cycles until one of them has its result."""

MOST_COPIES = 4
MOST_SHUFFLED_STRIDE = 4
"""Pixels further apart are loaded one by one."""


@dataclass(slots=True)
class _Row:
    """One row of the result of one group of one image, and the rows of the input that it meets."""

    row: ir.Value
    group: ir.Value
    image: ir.Value  # the group's first input plane
    output: ir.Value  # the group's first result plane
    first_kernel_row: ir.Value
    kernel_rows: ir.Value
    first_row: ir.Value


@dataclass(slots=True)
class _Source:
    """Where the window of a tile starts, and the distances between its rows, in floats."""

    start: ir.Value
    kernel_row: ir.Value
    channel: ir.Value
    direct: ir.Value  # the start in the image itself


def build(symbol: str, variant: Variant, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of a planar convolution; arguments are `Arg`, then epilogue channels, then epilogue tensors."""
    body = Body(symbol, variant.lanes, target.features)
    emitter = _Emitter(body, variant, ops)
    with body.loop(body.begin, body.end) as unit:
        emitter.unit(unit)
    return body.text()


class _Emitter:
    def __init__(self, body: Body, variant: Variant, ops: tuple[EpilogueOp, ...]) -> None:
        self.body, self.variant = body, variant
        self.words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
        self.epilogue = EpilogueCode(body, len(Arg), ops)
        self.channels, self.tensors = self.epilogue.channels, self.epilogue.tensors
        self.interleaved = max(variant.phases, 1)
        self.rows = variant.channels * self.interleaved
        self.pixels = variant.vectors * variant.lanes
        # few sums are computed several times over, each from other taps, so that none waits for the one before
        self.copies = 1
        if body.takes_lanes:
            self.copies = min(max(LATENCY_SLOTS // (self.rows * variant.vectors), 1), MOST_COPIES)
        self.tile = Tile(body, self.rows * self.copies, variant.vectors)
        self.spilled = body.memory(ir.ArrayType(body.vector, self.rows * variant.vectors))
        self.edge = body.memory(body.vector)
        words = self.words
        self.plane = body.mul(words[Arg.IN_ROWS], words[Arg.IN_WIDTH])
        self.out_plane = body.mul(words[Arg.OUT_ROWS], words[Arg.OUT_WIDTH])
        self.row_weights = body.mul(words[Arg.KERNEL_COLUMNS], self.rows)
        self.channel_weights = body.mul(words[Arg.KERNEL_ROWS], self.row_weights)
        self.tile_weights = body.mul(words[Arg.GROUP_IN], self.channel_weights)
        self.window = body.floats(words[Arg.SCRATCH], body.mul(body.chunk, words[Arg.SCRATCH_FLOATS]))

    def unit(self, unit: ir.Value) -> None:
        """A stretch of one row of the result, all channels of a group."""
        body, words, pixels = self.body, self.words, self.pixels
        rest, segment = body.divide(unit, words[Arg.SEGMENTS])
        image_group, row = body.divide(rest, words[Arg.ROWS])
        _, group = body.divide(image_group, words[Arg.GROUPS])
        planes = body.b.udiv(words[Arg.GROUP_CHANNELS], words[Arg.ROW_PHASES])
        top = body.sub(body.mul(row, words[Arg.ROW_STRIDE]), words[Arg.PAD_TOP])
        first_kernel_row = self._kernel_row_reaching(body.sub(constant(0), top))
        end = body.minimum(words[Arg.KERNEL_ROWS], self._kernel_row_reaching(body.sub(words[Arg.IN_ROWS], top)))
        here = _Row(
            row,
            group,
            body.floats(words[Arg.INPUT], body.mul(body.mul(image_group, words[Arg.GROUP_IN]), self.plane)),
            body.mul(body.mul(image_group, planes), self.out_plane),
            first_kernel_row,
            body.maximum(body.sub(end, first_kernel_row), constant(0)),
            body.add(top, body.mul(first_kernel_row, words[Arg.ROW_DILATION])),
        )
        width = words[Arg.WIDTH]
        tiles = body.b.udiv(body.add(width, pixels - 1), constant(pixels))
        first_tile = body.mul(segment, words[Arg.SEGMENT_TILES])
        last_tile = body.minimum(body.add(first_tile, words[Arg.SEGMENT_TILES]), tiles)
        furthest = body.maximum(body.sub(width, constant(pixels)), constant(0))
        with body.loop(first_tile, last_tile) as tile:
            # the last tile of a row is moved back, so that it is complete; some pixels are computed twice
            pixel = body.minimum(body.mul(tile, pixels), furthest)
            source = self._source(here, body.sub(body.mul(pixel, self.variant.stride), words[Arg.PAD_LEFT]))
            with body.loop(0, words[Arg.CHANNEL_TILES]) as channel_tile:
                self._tile(here, source, pixel, channel_tile)

    def _kernel_row_reaching(self, distance: ir.Value) -> ir.Value:
        """The first kernel row that lies at least ``distance`` image rows below the topmost one."""
        body, dilation = self.body, self.words[Arg.ROW_DILATION]
        positive = body.maximum(distance, constant(0))
        return body.b.udiv(body.sub(body.add(positive, dilation), constant(1)), dilation)

    def _source(self, here: _Row, left: ir.Value) -> _Source:
        """The tile's window in the image itself, or in scratch memory where it reaches beyond a border."""
        body, words = self.body, self.words
        b, width = body.b, words[Arg.IN_WIDTH]
        direct = body.floats(here.image, body.add(body.mul(here.first_row, width), left))
        outside = b.or_(body.less(left, 0), b.icmp_signed(">", body.add(left, words[Arg.SPAN]), width))
        copied_row = words[Arg.WINDOW_ROW]
        copied_channel = body.mul(copied_row, here.kernel_rows)
        direct_row = body.mul(width, words[Arg.ROW_DILATION])
        with (
            b.if_then(outside, likely=False),
            body.loop(0, words[Arg.GROUP_IN]) as channel,
            body.loop(0, here.kernel_rows) as kernel_row,
        ):
            offset = body.add(body.mul(channel, self.plane), body.mul(kernel_row, direct_row))
            source = body.floats(direct, offset)
            at = body.add(body.mul(channel, copied_channel), body.mul(kernel_row, copied_row))
            target = body.floats(self.window, at)
            with body.loop(0, copied_row, body.lanes) as x:
                inside = self._load_between(source, x, body.sub(constant(0), left), body.sub(width, left))
                body.store(inside, body.floats(target, x))
        return _Source(
            b.select(outside, self.window, direct),
            b.select(outside, copied_row, direct_row),
            b.select(outside, copied_channel, self.plane),
            direct,
        )

    def _load_between(self, base: ir.Value, index: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """``base[index + lane]`` where that index lies in [low, high), else zero, reading nothing there."""
        body, b, lanes = self.body, self.body.b, self.body.lanes
        kind = ir.VectorType(I32, lanes)

        def everywhere(value: ir.Value) -> ir.Value:
            narrow = b.trunc(body.minimum(body.maximum(value, constant(-1)), constant(lanes)), I32)
            first = b.insert_element(ir.Constant(kind, ir.Undefined), narrow, ir.Constant(I32, 0))
            return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(kind, None))

        lane = ir.Constant(kind, list(range(lanes)))
        mask = b.and_(
            b.icmp_signed(">=", lane, everywhere(body.sub(low, index))),
            b.icmp_signed("<", lane, everywhere(body.sub(high, index))),
        )
        return body.load_where(body.floats(base, index), mask)

    def _tile(self, here: _Row, source: _Source, pixel: ir.Value, channel_tile: ir.Value) -> None:
        body, words, tile = self.body, self.words, self.tile
        number = body.add(body.mul(here.group, words[Arg.CHANNEL_TILES]), channel_tile)
        channel_at = body.mul(number, self.rows)
        first = body.minimum(
            body.mul(channel_tile, self.variant.channels),
            body.sub(words[Arg.GROUP_CHANNELS], constant(self.variant.channels)),
        )
        bias = body.floats(words[Arg.BIAS], channel_at)
        starts = [body.splat(body.load_scalar(body.floats(bias, r))) for r in range(self.rows)]
        tile.start_rows(starts + [body.zero()] * (tile.rows - self.rows))
        weights = body.floats(
            words[Arg.WEIGHTS],
            body.add(body.mul(number, self.tile_weights), body.mul(here.first_kernel_row, self.row_weights)),
        )
        with body.loop(0, words[Arg.GROUP_IN]) as channel:
            from_channel = body.floats(source.start, body.mul(channel, source.channel))
            self._fetch_ahead(body.floats(source.direct, body.mul(channel, self.plane)))
            of_channel = body.floats(weights, body.mul(channel, self.channel_weights))
            with body.loop(0, here.kernel_rows) as kernel_row:
                from_row = body.floats(from_channel, body.mul(kernel_row, source.kernel_row))
                of_row = body.floats(of_channel, body.mul(kernel_row, self.row_weights))
                self._columns(from_row, of_row)
        for row in range(self.rows, tile.rows):
            for v in range(self.variant.vectors):
                first_one = row % self.rows
                tile.put(first_one, v, body.b.fadd(tile.cell(first_one, v), tile.cell(row, v)))
        self._finish(here, pixel, first, channel_at)

    def _columns(self, from_row: ir.Value, of_row: ir.Value) -> None:
        """The taps of a row of the kernel."""
        body, words = self.body, self.words

        def step(column: ir.Value, copy: int) -> None:
            at = body.floats(from_row, body.mul(column, words[Arg.COLUMN_DILATION]))
            self._step(at, body.floats(of_row, body.mul(column, self.rows)), copy)

        count, whole = words[Arg.KERNEL_COLUMNS], constant(0)
        if self.copies > 1:
            whole = body.b.and_(count, constant(-self.copies))
            with body.loop(0, whole, self.copies) as column:
                for copy in range(self.copies):
                    step(body.add(column, copy), copy)
        with body.loop(whole, count) as column:
            step(column, 0)

    def _fetch_ahead(self, window: ir.Value) -> None:
        """Ask for input that a later tile starts to read: there are more planes than the memory's own guesses cover."""
        body, ahead = self.body, self.words[Arg.INPUT_AHEAD]
        with body.b.if_then(body.b.icmp_signed("!=", ahead, constant(0))):
            start = body.floats(window, ahead)
            for x in range(0, self.pixels * self.variant.stride, CACHE_LINE_FLOATS):
                body.prefetch(body.floats(start, x))

    def _step(self, pixels: ir.Value, weights: ir.Value, copy: int) -> None:
        body, variant = self.body, self.variant
        first = copy * self.rows
        step = variant.lanes * variant.stride
        vectors = [self._strided(body.floats(pixels, v * step)) for v in range(variant.vectors)]
        factors = []
        if body.takes_lanes and self.rows % LANES_TOGETHER == 0:
            factors = [body.load_factors(body.floats(weights, r)) for r in range(0, self.rows, LANES_TOGETHER)]
        for r in range(self.rows):
            factor = factors[r // LANES_TOGETHER] if factors else body.load_scalar(body.floats(weights, r))
            factor = body.lane(factor, r % LANES_TOGETHER) if factors else body.splat(factor)
            for v, vector in enumerate(vectors):
                self.tile.accumulate(first + r, v, factor, vector)

    def _strided(self, at: ir.Value) -> ir.Value:
        """Every ``stride``-th float from ``at``."""
        body, stride = self.body, self.variant.stride
        if stride == 1:
            return body.load(at)
        if stride > MOST_SHUFFLED_STRIDE:
            result: ir.Value = ir.Constant(body.vector, ir.Undefined)
            for lane in range(body.lanes):
                scalar = body.load_scalar(body.floats(at, lane * stride))
                result = body.b.insert_element(result, scalar, ir.Constant(I32, lane))
            return result
        parts = [body.load(body.floats(at, i * body.lanes)) for i in range(stride)]
        return _gathered(body, parts, [divmod(lane * stride, body.lanes) for lane in range(body.lanes)])

    def _finish(self, here: _Row, pixel: ir.Value, first: ir.Value, channel_at: ir.Value) -> None:
        """Epilogue and stores, channel by channel: generated once where they take many instructions."""
        body, variant = self.body, self.variant
        store = self._store_phases if variant.phases else self._store
        if not variant.phases and all(op.kind in CHEAP for op in self.epilogue.ops):
            for c in range(variant.channels):
                operands = body.add(channel_at, c)
                store(here, pixel, body.add(first, c), operands, functools.partial(self._cell, c))
            return
        nbytes = 4 * body.lanes
        for i in range(self.rows * variant.vectors):
            at = body.b.gep(self.spilled, [constant(i * nbytes)], source_etype=I8)
            body.b.store(self.tile.cell(*divmod(i, variant.vectors)), at, align=4)
        with body.loop(0, constant(variant.channels)) as channel:
            row = body.mul(channel, self.interleaved)

            def load(f: int, v: int) -> ir.Value:
                cell = body.add(body.mul(body.add(row, f), variant.vectors), v)
                return body.load(body.b.gep(self.spilled, [body.mul(cell, nbytes)], source_etype=I8))

            store(here, pixel, body.add(first, channel), body.add(channel_at, row), load)

    def _cell(self, channel: int, phase: int, v: int) -> ir.Value:
        return self.tile.cell(channel * self.interleaved + phase, v)

    def _store(
        self,
        here: _Row,
        pixel: ir.Value,
        channel: ir.Value,
        channel_at: ir.Value,
        load: Callable[[int, int], ir.Value],
    ) -> None:
        body, words = self.body, self.words
        row = body.add(body.mul(here.row, words[Arg.OUT_WIDTH]), pixel)
        place = body.add(body.add(here.output, body.mul(channel, self.out_plane)), row)
        for v in range(self.variant.vectors):
            at = body.add(place, v * body.lanes)
            left = body.sub(words[Arg.WIDTH], body.add(pixel, v * body.lanes))

            def tensor(i: int, at: ir.Value = at, left: ir.Value = left) -> ir.Value:
                source = body.floats(self.tensors[i], at)
                return body.load_some(source, left) if self.variant.narrow else body.load(source)

            result = self._applied(load(0, v), channel_at, tensor)
            target = body.floats(words[Arg.OUTPUT], at)
            if self.variant.narrow:
                body.store_some(result, target, left)
            else:
                body.store(result, target)

    def _store_phases(
        self,
        here: _Row,
        pixel: ir.Value,
        channel: ir.Value,
        channel_at: ir.Value,
        load: Callable[[int, int], ir.Value],
    ) -> None:
        """Interleave the column phases of a channel and store what lies inside the result."""
        body, words, phases, lanes = self.body, self.words, self.variant.phases, self.body.lanes
        plane, phase = body.divide(channel, words[Arg.ROW_PHASES])
        y = body.add(body.add(body.mul(here.row, words[Arg.ROW_PHASES]), phase), words[Arg.FIRST_ROW])
        x = body.add(body.mul(pixel, phases), words[Arg.FIRST_COLUMN])
        width = words[Arg.OUT_WIDTH]
        row = body.add(body.add(here.output, body.mul(plane, self.out_plane)), body.mul(y, width))
        target = body.floats(words[Arg.OUTPUT], body.add(row, x))
        b = body.b
        end = body.add(x, self.pixels * phases)
        whole = b.not_(b.or_(body.less(x, 0), b.icmp_signed(">", end, width)))

        def none(i: int) -> ir.Value:
            raise ValueError("an interleaved result takes no tensor operands")

        with b.if_then(b.icmp_unsigned("<", y, words[Arg.OUT_ROWS])):
            for v in range(self.variant.vectors):
                parts = [self._applied(load(f, v), channel_at, none) for f in range(phases)]
                for i in range(phases):
                    order = [divmod(i * lanes + lane, phases)[::-1] for lane in range(lanes)]
                    vector = _gathered(body, parts, order)
                    offset = (v * phases + i) * lanes
                    with b.if_else(whole) as (then, otherwise):
                        with then:
                            body.store(vector, body.floats(target, offset))
                        with otherwise:
                            self._store_inside(vector, target, body.add(x, offset), offset)

    def _store_inside(self, vector: ir.Value, row: ir.Value, x: ir.Value, offset: int) -> None:
        """Store the lanes whose coordinate ``x + lane`` lies in the result, at ``row[offset + lane]``."""
        body = self.body
        body.store(vector, self.edge)
        low = body.maximum(body.sub(constant(0), x), constant(0))
        high = body.minimum(body.sub(self.words[Arg.OUT_WIDTH], x), constant(body.lanes))
        with body.loop(low, high) as lane:
            value = body.load_scalar(body.floats(self.edge, lane))
            body.b.store(value, body.floats(row, body.add(lane, offset)), align=4)

    def _applied(self, value: ir.Value, channel_at: ir.Value, tensor: Callable[[int], ir.Value]) -> ir.Value:
        body = self.body
        return self.epilogue.emit(
            body.b,
            value,
            channel=lambda i: body.load_scalar(body.floats(self.channels[i], channel_at)),
            tensor=tensor,
        )


def _gathered(body: Body, parts: Sequence[ir.Value], order: Sequence[tuple[int, int]]) -> ir.Value:
    """A vector whose lanes are (part, lane) of ``parts``."""
    lanes = body.lanes
    if len(parts) == 1:
        return parts[0]
    mask = [part * lanes + lane if part < 2 else 0 for part, lane in order]
    result = body.shuffle(parts[0], parts[1], mask)
    for i in range(2, len(parts)):
        mask = [lanes + lane if part == i else at for at, (part, lane) in enumerate(order)]
        result = body.shuffle(result, parts[i], mask)
    return result
