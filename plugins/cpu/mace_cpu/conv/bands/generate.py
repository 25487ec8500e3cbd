"""A convolution and what reads its result in windows (a pooling, a depthwise convolution), a few rows at a time.

The rows of the convolution's result that a band of the last result needs are computed into scratch memory, which stays
in cache, and read from there at once; what the next band needs of them is kept.  Both are computed by their own
kernels, called with argument words that say where a band lies.

One unit of work is a band of rows of the last result, in one image, for a group of channel tiles.
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.conv.bands.arguments import MOST_WORDS, WINDOW_INPUT, Arg
from mace_cpu.conv.direct.arguments import Arg as Conv
from mace_cpu.shared.codegen.body import FLOAT_BYTES, I64, POINTER, VOID, Body, constant

KERNEL = ir.FunctionType(VOID, [POINTER, I64, I64, I64])


def build(symbol: str, block: int, flat: bool, _target: Target) -> str:
    """IR of the driver; arguments are `Arg`, then those of both steps.

    Args:
        flat: the convolution takes all pixels of an image as one row.
    """
    body = Body(symbol, block)
    words = {arg: body.word(arg) for arg in Arg}
    first = _Words(body, constant(len(Arg)), words[Arg.FIRST_WORDS])
    second = _Words(body, body.add(words[Arg.FIRST_WORDS], len(Arg)), words[Arg.SECOND_WORDS])
    emitter = _Emitter(body, words, first, second, flat)
    with body.loop(body.begin, body.end) as unit:
        emitter.unit(unit)
    return body.text()


class _Words:
    """A copy of a step's argument words, to be changed band by band."""

    def __init__(self, body: Body, start: ir.Value, count: ir.Value) -> None:
        self._body = body
        self.address = body.memory(ir.ArrayType(I64, MOST_WORDS))
        with body.loop(0, count) as i:
            source = body.b.gep(body.args, [body.add(start, i)], source_etype=I64)
            target = body.b.gep(self.address, [i], source_etype=I64)
            body.b.store(body.b.load(source, typ=I64, align=8), target, align=8)

    def get(self, index: int) -> ir.Value:
        at = self._body.b.gep(self.address, [constant(index)], source_etype=I64)
        return self._body.b.load(at, typ=I64, align=8)

    def put(self, index: int, value: ir.Value) -> None:
        at = self._body.b.gep(self.address, [constant(index)], source_etype=I64)
        self._body.b.store(value, at, align=8)


class _Emitter:
    def __init__(self, body: Body, words: dict[Arg, ir.Value], first: _Words, second: _Words, flat: bool) -> None:
        self.body, self.words, self.first, self.second, self.flat = body, words, first, second, flat
        self.row_bytes = body.mul(words[Arg.WIDTH], body.lanes * FLOAT_BYTES)
        self.plane_bytes = body.mul(words[Arg.HELD_ROWS], self.row_bytes)
        self.scratch = body.add(words[Arg.SCRATCH], body.mul(body.chunk, words[Arg.SCRATCH_BYTES]))
        self.base = body.variable(I64)  # the row that lies at the beginning of the scratch memory
        self.end = body.variable(I64)  # behind the last row there
        self.input = first.get(Conv.INPUT)
        self.pad_top = first.get(Conv.PAD_TOP)
        first.put(Conv.OUT_BLOCK, body.mul(body.mul(words[Arg.HELD_ROWS], words[Arg.WIDTH]), body.lanes))
        body.b.store(constant(0), self.base)
        body.b.store(constant(0), self.end)

    def unit(self, unit: ir.Value) -> None:
        body, words, b = self.body, self.words, self.body.b
        rest, band = body.divide(unit, words[Arg.BANDS])
        n, group = body.divide(rest, words[Arg.GROUPS])
        tile = body.mul(group, words[Arg.GROUP_TILES])
        tiles = body.minimum(words[Arg.GROUP_TILES], body.sub(words[Arg.TILES], tile))
        planes = body.mul(tiles, words[Arg.TILE_BLOCKS])
        top = body.mul(band, words[Arg.BAND_ROWS])
        bottom = body.minimum(body.add(top, words[Arg.BAND_ROWS]), words[Arg.OUT_ROWS])
        low = self._row(top, constant(0))
        high = body.maximum(self._row(body.sub(bottom, constant(1)), words[Arg.SPAN]), low)
        with b.if_then(b.or_(b.icmp_signed("==", unit, body.begin), b.icmp_signed("==", band, constant(0)))):
            b.store(low, self.base)
            b.store(low, self.end)
        with b.if_then(b.icmp_signed(">", body.sub(high, self._load(self.base)), words[Arg.HELD_ROWS])):
            self._move(low, planes)
        start = body.maximum(self._load(self.end), low)
        with b.if_then(b.icmp_signed(">", high, start)):
            self._convolve(n, tile, tiles, start, body.sub(high, start))
        b.store(body.maximum(high, start), self.end)
        first_plane = body.add(
            body.add(body.mul(n, words[Arg.ALL_BLOCKS]), words[Arg.FIRST_BLOCK]), body.mul(tile, words[Arg.TILE_BLOCKS])
        )
        with body.loop(0, planes) as p:
            plane = body.add(first_plane, p)
            here = body.add(self.scratch, body.mul(p, self.plane_bytes))
            row = body.add(body.mul(plane, words[Arg.ROWS]), self._load(self.base))
            self.second.put(WINDOW_INPUT, body.sub(here, body.mul(row, self.row_bytes)))
            unit_of = body.mul(plane, words[Arg.OUT_ROWS])
            self._call(Arg.SECOND, self.second, body.add(unit_of, top), body.add(unit_of, bottom))

    def _row(self, out_row: ir.Value, distance: ir.Value) -> ir.Value:
        """The row ``distance`` below the topmost one of a window, moved into the image."""
        body, words = self.body, self.words
        row = body.add(body.sub(body.mul(out_row, words[Arg.STRIDE]), words[Arg.PAD]), distance)
        return body.minimum(body.maximum(row, constant(0)), words[Arg.ROWS])

    def _move(self, low: ir.Value, planes: ir.Value) -> None:
        """Bring the rows from ``low`` on to the beginning of the scratch memory."""
        body, b = self.body, self.body.b
        count = body.maximum(body.sub(self._load(self.end), low), constant(0))
        distance = body.mul(body.sub(low, self._load(self.base)), self.row_bytes)
        with body.loop(0, planes) as p:
            target = b.inttoptr(body.add(self.scratch, body.mul(p, self.plane_bytes)), POINTER)
            source = b.gep(target, [distance], source_etype=ir.IntType(8))
            with body.loop(0, body.mul(count, self.words[Arg.WIDTH])) as pixel:
                at = body.mul(pixel, body.lanes)
                body.store(body.load(body.floats(source, at)), body.floats(target, at))
        b.store(low, self.base)

    def _convolve(self, n: ir.Value, tile: ir.Value, tiles: ir.Value, start: ir.Value, rows: ir.Value) -> None:
        """Compute ``rows`` rows of the convolution's result from row ``start`` on."""
        body, words, first = self.body, self.words, self.first
        target = body.add(self.scratch, body.mul(body.sub(start, self._load(self.base)), self.row_bytes))
        first.put(Conv.INPUT, body.add(self.input, body.mul(body.mul(n, first.get(Conv.IN_IMAGE)), FLOAT_BYTES)))
        first.put(Conv.OUTPUT, target)
        first.put(Conv.FIRST_OUT_BLOCK, body.sub(constant(0), body.mul(tile, words[Arg.TILE_BLOCKS])))
        if self.flat:
            pixels = body.mul(rows, words[Arg.WIDTH])
            first.put(Conv.OUT_WIDTH, pixels)
            first.put(Conv.PAD_LEFT, body.sub(constant(0), body.mul(start, words[Arg.WIDTH])))
            in_tiles = self._quotient(pixels, words[Arg.TILE_PIXELS])
            positions = self._quotient(in_tiles, first.get(Conv.SEGMENT_TILES))
            first.put(Conv.SEGMENTS, positions)
        else:
            first.put(Conv.OUT_ROWS, rows)
            first.put(Conv.PAD_TOP, body.sub(self.pad_top, body.mul(start, first.get(Conv.ROW_STRIDE))))
            row_groups = self._quotient(rows, first.get(Conv.GROUP_ROWS))
            first.put(Conv.ROW_GROUPS, row_groups)
            positions = body.mul(row_groups, first.get(Conv.SEGMENTS))
        first.put(Conv.POSITIONS, positions)
        first.put(Conv.BAND, positions)
        self._call(Arg.FIRST, first, body.mul(tile, positions), body.mul(body.add(tile, tiles), positions))

    def _quotient(self, number: ir.Value, divisor: ir.Value) -> ir.Value:
        """Rounded up."""
        body = self.body
        return body.b.udiv(body.sub(body.add(number, divisor), constant(1)), divisor)

    def _call(self, kernel: Arg, arguments: _Words, begin: ir.Value, end: ir.Value) -> None:
        b = self.body.b
        function = b.inttoptr(self.words[kernel], KERNEL.as_pointer())
        b.call(function, [arguments.address, begin, end, self.body.chunk])

    def _load(self, variable: ir.Value) -> ir.Value:
        return self.body.b.load(variable, typ=I64)
