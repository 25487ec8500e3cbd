"""Depthwise convolution of bytes or words on the CHANNELS_LAST layout: vectors over channels, taps unrolled.

One unit of work is one output row of one image.  It goes over blocks of channels, and in each over the pixels, a few
at a time.  Where an instruction multiplies quads, the bytes of up to four kernel rows of one input pixel are
interleaved to quads, once for all outputs of the tile that see the pixel; the words of two rows to pairs.  What lies
outside the image is read from a pixel of padding.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.convolution.arguments_depthwise import Arg, Variant
from mace_cpu.shared.codegen.body import I8, I32, Body, constant
from mace_cpu.shared.codegen.quads import QuadDot, add_pairs
from mace_cpu.shared.epilogue.generate_requantize import FloatLoads, RequantizeCode, ShortAccess
from mace_cpu.shared.quads import QUAD

POINTERS = (Arg.INPUT, Arg.WEIGHTS, Arg.BIAS, Arg.SCALES, Arg.FLOAT_BIAS, Arg.OUTPUT, Arg.PADDING)
I16 = ir.IntType(16)
WORD_SIGN = -(1 << 15)


def build(symbol: str, variant: Variant, target: Target) -> str:
    """IR of a depthwise convolution; arguments are `Arg`, then those of the requantization."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    emitter = _Emitter(body, variant, is_x86=target.architecture == "x86_64")
    with body.loop(body.begin, body.end) as unit:
        emitter.row(unit)
    return body.text()


@dataclass(slots=True)
class _Block:
    """Channels of a unit.

    Attributes:
        channel: the first.
        valid: how many there are.
        rows: for each kernel row the address of the channels of its pixel 0.
        steps: for each kernel row the distance of its pixels; 0 for rows outside the image.
        weights: their address.
        at: where their bias and scale are.
    """

    channel: ir.Value
    valid: ir.Value
    rows: list[ir.Value]
    steps: list[ir.Value]
    weights: ir.Value
    at: ir.Value


class _Emitter:
    def __init__(self, body: Body, variant: Variant, *, is_x86: bool) -> None:
        self.body, self.variant = body, variant
        self.words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
        self.code = RequantizeCode(body, len(Arg), variant.spec, is_x86=is_x86)
        self.vectors = variant.vectors
        self.numbers = ir.VectorType(I16 if variant.is_wide else I8, self.vectors * body.lanes)
        self.width = 2 if variant.is_wide else 1
        self.ints = ir.VectorType(I32, body.lanes)
        self.access = ShortAccess(body, self.numbers.count, partial=variant.partial)
        self.dot = None if variant.unit is None else QuadDot(body, variant.unit, left_is_signed=variant.is_signed)
        self.cells = [[body.variable(self.ints) for _ in range(self.vectors)] for _ in range(variant.pixels)]
        column = variant.rows
        if self.dot is not None:
            column = -(-variant.rows // variant.folded) * variant.folded * self.width
        self.block_weights = variant.taps * column * self.numbers.count
        self.pixel_bytes = body.mul(self.words[Arg.CHANNELS], self.width)

    def row(self, unit: ir.Value) -> None:
        """One row of the result."""
        body, words, b = self.body, self.words, self.body.b
        n, out_row = body.divide(unit, words[Arg.OUT_ROWS])
        channels = words[Arg.CHANNELS]
        line = body.mul(words[Arg.IN_WIDTH], self.pixel_bytes)
        image = self._at(words[Arg.INPUT], body.mul(n, body.mul(words[Arg.IN_ROWS], line)))
        top = body.sub(body.mul(out_row, words[Arg.ROW_STRIDE]), words[Arg.PAD_TOP])
        inside, lines = [], []
        for k in range(self.variant.rows):
            y = body.add(top, body.mul(words[Arg.ROW_DILATION], k))
            inside.append(b.icmp_unsigned("<", y, words[Arg.IN_ROWS]))
            lines.append(self._at(image, body.mul(y, line)))
        result = body.mul(body.mul(unit, words[Arg.OUT_WIDTH]), channels)
        with body.loop(0, words[Arg.BLOCKS]) as number:
            channel = body.mul(number, self.numbers.count)
            block = _Block(
                channel,
                body.sub(channels, channel),
                [
                    b.select(is_in, self._at(at, body.mul(channel, self.width)), words[Arg.PADDING])
                    for is_in, at in zip(inside, lines, strict=True)
                ],
                [b.select(is_in, self.pixel_bytes, constant(0)) for is_in in inside],
                self._at(words[Arg.WEIGHTS], body.mul(number, self.block_weights)),
                channel,
            )
            with body.loop(0, words[Arg.OUT_WIDTH], self.variant.pixels) as pixel:
                self._tile(block, pixel, body.add(result, channel))

    def _tile(self, block: _Block, pixel: ir.Value, result: ir.Value) -> None:
        """A few pixels of a block."""
        body, words, b = self.body, self.words, self.body.b
        left = body.sub(body.mul(pixel, self.variant.stride), words[Arg.PAD_LEFT])
        for v in range(self.vectors):
            start = b.load(body.floats(words[Arg.BIAS], body.add(block.at, v * body.lanes)), typ=self.ints, align=4)
            for row in self.cells:
                b.store(start, row[v])
        outside = b.or_(
            body.less(left, 0),
            b.icmp_signed(">", body.add(left, self.variant.span), words[Arg.IN_WIDTH]),
        )
        with b.if_else(outside) as (then, otherwise):
            for branch, is_border in ((then, True), (otherwise, False)):
                with branch:
                    self._accumulate(block, left, is_border=is_border)
        for i, row in enumerate(self.cells):
            here = body.add(pixel, i)
            with b.if_then(body.less(here, words[Arg.OUT_WIDTH])):
                self._finish(block, row, body.add(result, body.mul(here, words[Arg.CHANNELS])))

    def _accumulate(self, block: _Block, left: ir.Value, *, is_border: bool) -> None:
        body, words, b = self.body, self.words, self.body.b
        starts = [self._at(row, body.mul(left, step)) for row, step in zip(block.rows, block.steps, strict=True)]
        for distance, meetings in self.variant.meetings().items():
            at = [self._at(start, body.mul(step, distance)) for start, step in zip(starts, block.steps, strict=True)]
            if is_border:
                inside = b.icmp_unsigned("<", body.add(left, distance), words[Arg.IN_WIDTH])
                at = [b.select(inside, address, words[Arg.PADDING]) for address in at]
            pixels = [self.access.load(address, self.numbers, block.valid) for address in at]
            if self.dot is None:
                self._meet_widened(block, pixels, meetings)
            else:
                self._meet_quads(self.dot, block, pixels, meetings)

    def _meet_quads(self, dot: QuadDot, block: _Block, pixels: list[ir.Value], meetings: list[tuple[int, int]]) -> None:
        b, folded = self.body.b, self.variant.folded
        groups, size = -(-self.variant.rows // folded), 4 * self.body.lanes
        for group in range(groups):
            rows = pixels[group * folded : (group + 1) * folded]
            if self.variant.is_wide:
                operands = [[pair] for pair in self._paired(rows)]
            else:
                operands = [list(dot.left(quad)) for quad in self._interleaved(rows)]
            for pixel, tap in meetings:
                first = (tap * groups + group) * self.vectors * size
                for v, operand in enumerate(operands):
                    at = self._at(block.weights, constant(first + v * size))
                    weights = b.load(at, typ=self.ints, align=4)
                    cell = self.cells[pixel][v]
                    before = b.load(cell, typ=self.ints)
                    if self.variant.is_wide:
                        b.store(add_pairs(self.body, before, operand[0], weights), cell)
                    else:
                        b.store(dot.add(before, operand, dot.right(weights)), cell)

    def _paired(self, rows: list[ir.Value]) -> list[ir.Value]:
        """Words of one or two vectors side by side, as signed ones: of each 8 channels, four are in each vector."""
        b = self.body.b
        if not self.variant.is_signed:
            rows = [b.xor(row, ir.Constant(row.type, [WORD_SIGN] * row.type.count)) for row in rows]
        full = rows + [ir.Constant(self.numbers, None)] * (self.variant.folded - len(rows))
        return [b.bitcast(half, self.ints) for half in _woven(self.body, full[0], full[1], 8)]

    def _interleaved(self, rows: list[ir.Value]) -> list[ir.Value]:
        """Bytes of up to four vectors side by side: four vectors of quads.

        Of each 16 channels, four are in each vector: what packing the results undoes.
        """
        body, b = self.body, self.body.b
        zero = ir.Constant(self.numbers, None)
        full = rows + [zero] * (QUAD - len(rows))
        words = ir.VectorType(I16, 2 * body.lanes)
        upper = [b.bitcast(half, words) for half in _woven(body, full[0], full[1], 16)]
        lower = [b.bitcast(half, words) for half in _woven(body, full[2], full[3], 16)]
        found = []
        for one, other in zip(upper, lower, strict=True):
            found += [b.bitcast(half, self.ints) for half in _woven(body, one, other, 8)]
        return found

    def _meet_widened(self, block: _Block, pixels: list[ir.Value], meetings: list[tuple[int, int]]) -> None:
        b = self.body.b
        widen = b.sext if self.variant.is_signed else b.zext
        for k, row in enumerate(pixels):
            if not self.variant.is_wide:
                # words once for all taps: there are instructions that multiply words into int32
                words = ir.VectorType(I16, row.type.count)
                parts = [b.sext(self._part(widen(row, words), v), self.ints) for v in range(self.vectors)]
            else:
                parts = [widen(self._part(row, v), self.ints) for v in range(self.vectors)]
            for pixel, tap in meetings:
                at = self._at(block.weights, constant((tap * self.variant.rows + k) * self.numbers.count))
                weights = b.load(at, typ=ir.VectorType(I8, self.numbers.count), align=1)
                if not self.variant.is_wide:
                    weights = b.sext(weights, ir.VectorType(I16, self.numbers.count))
                for v in range(self.vectors):
                    product = b.mul(parts[v], b.sext(self._part(weights, v), self.ints))
                    cell = self.cells[pixel][v]
                    b.store(b.add(b.load(cell, typ=self.ints), product), cell)

    def _part(self, vector: ir.Value, v: int) -> ir.Value:
        lanes = self.body.lanes
        return self.body.shuffle(vector, vector, list(range(v * lanes, (v + 1) * lanes)))

    def _finish(self, block: _Block, row: list[ir.Value], place: ir.Value) -> None:
        body, words, variant = self.body, self.words, self.variant
        sums = [body.b.load(cell, typ=self.ints) for cell in row]
        if self.dot is not None and not variant.interleaved:
            sums = self._in_order(sums)

        def at(base: ir.Value, index: ir.Value, v: int) -> ir.Value:
            return body.floats(base, body.add(index, v * body.lanes))

        def per_channel(arg: Arg, v: int) -> ir.Value:
            return body.load(at(words[arg], block.at, v))

        def valid(v: int) -> ir.Value:
            return body.sub(block.valid, constant(v * body.lanes))

        def tensor(base: ir.Value, v: int) -> ir.Value:
            there = at(base, place, v)
            return body.load_some(there, valid(v)) if variant.partial else body.load(there)

        arguments = (
            sums,
            lambda v: per_channel(Arg.SCALES, v),
            lambda v: per_channel(Arg.FLOAT_BIAS, v),
            lambda base, kind: self.access.load(self._at(base, place, kind.element), kind, block.valid),
        )
        floats = FloatLoads(lambda base, v: body.load(at(base, block.at, v)), tensor)
        if variant.spec.is_quantized:
            found = self.code.to_numbers(*arguments, floats=floats, interleaved=variant.interleaved)
            self.access.store(found, self._at(words[Arg.OUTPUT], place, found.type.element), block.valid)
            return
        for v, number in enumerate(self.code.to_floats(*arguments, floats)):
            there = at(words[Arg.OUTPUT], place, v)
            if variant.partial:
                body.store_some(number, there, valid(v))
            else:
                body.store(number, there)

    def _in_order(self, sums: list[ir.Value]) -> list[ir.Value]:
        """Vectors of sums of interleaved numbers, of which each has four in turn, as vectors in order."""
        body = self.body
        halves = sums
        if self.vectors > 2:
            halves = [body.shuffle(sums[i], sums[i + 1], list(range(2 * body.lanes))) for i in (0, 2)]
        found = []
        for v in range(self.vectors):
            lanes = []
            for four in range(v * body.lanes // 4, (v + 1) * body.lanes // 4):
                group, vector = divmod(four, self.vectors)
                lanes += [vector * body.lanes + group * 4 + i for i in range(4)]
            found.append(body.shuffle(halves[0], halves[1], lanes))
        return found

    def _at(self, base: ir.Value, index: ir.Value, kind: ir.Type = I8) -> ir.Value:
        return self.body.b.gep(base, [index], source_etype=kind)


def _woven(body: Body, left: ir.Value, right: ir.Value, group: int) -> tuple[ir.Value, ir.Value]:
    """Elements of two vectors in turn: of each ``group`` of them the first half, and the second."""
    count, half = left.type.count, group // 2
    halves = []
    for start in (0, half):
        lanes = []
        for first in range(start, count, group):
            for i in range(half):
                lanes += [first + i, count + first + i]
        halves.append(body.shuffle(left, right, lanes))
    return halves[0], halves[1]
