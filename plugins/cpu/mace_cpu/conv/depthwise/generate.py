"""Depthwise convolution in the BLOCKED layout: every lane is a channel of its own.

One unit of work is one output row of one channel block.  Each pixel of the input that a tile sees is loaded once per
kernel row and multiplied with all weights that meet it; pixels beyond a border are read from a vector of zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.conv.depthwise.arguments import Arg, Variant
from mace_cpu.shared.codegen.body import Body, constant
from mace_cpu.shared.codegen.float16 import load_halves
from mace_cpu.shared.codegen.pairs import half_address, load_half, pair_of, store_half
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.precision import HALF_STEPS
from mace_cpu.shared.tiles.half_sums import HalfSums
from mace_cpu.shared.tiles.tile import Tile

HOISTED_TAPS = 3
"""A kernel of 3 x 3 leaves registers for sums where there are 32."""

POINTERS = (Arg.INPUT, Arg.WEIGHTS, Arg.BIAS, Arg.OUTPUT, Arg.PAIR_OUTPUT, Arg.SUMS)


def build(symbol: str, variant: Variant, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of a depthwise convolution; arguments are `Arg`, then epilogue channels, then epilogue tensors.

    Unit: ``(n * blocks + block) * output rows + row``.
    """
    body = Body(symbol, variant.block, target.features)
    words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
    epilogue = EpilogueCode(body, len(Arg), ops)
    zeros = body.memory(body.vector)
    body.store(body.zero(), zeros)
    tile = Tile(body, variant.pixels, 1)
    sums = HalfSums(tile, variant.unit) if variant.in_halves and variant.unit is not None else None
    row_floats = body.mul(words[Arg.IN_WIDTH], variant.block)
    total = body.variable(body.vector) if variant.sums else None
    line = variant.row_floats
    hoists = body.takes_lanes and variant.taps == HOISTED_TAPS and variant.dilation == 1
    with body.loop(body.begin, body.end) as unit:
        row = _row(body, variant, words, unit, row_floats)
        if total is not None:
            body.b.store(body.zero(), total)
        tiles = functools.partial(_tiles, body, variant, words, tile, sums, epilogue, zeros, row_floats, row, total)
        if not hoists:
            tiles(None)
        else:
            whole = body.b.icmp_signed("==", body.sub(row.last, row.first), constant(HOISTED_TAPS))
            same = body.b.icmp_signed("==", words[Arg.KERNEL_ROWS], constant(HOISTED_TAPS))
            with body.b.if_else(body.b.and_(whole, same)) as (then, otherwise):
                with then:
                    tiles([_taps(body, variant, body.floats(row.weights, k * line)) for k in range(HOISTED_TAPS)])
                with otherwise:
                    tiles(None)
        if total is not None:
            sum_at = body.floats(words[Arg.SUMS], body.mul(unit, variant.block))
            body.store(body.b.load(total, typ=body.vector), sum_at)
    return body.text()


def _tiles(
    body: Body,
    variant: Variant,
    words: dict[Arg, ir.Value],
    tile: Tile,
    sums: HalfSums | None,
    epilogue: EpilogueCode,
    zeros: ir.Value,
    row_floats: ir.Value,
    row: _Row,
    total: ir.Value | None,
    hoisted: list[list[ir.Value]] | None,
) -> None:
    """The tiles of one row of the result; ``hoisted``: the weights of all kernel rows, which stay in registers."""
    with body.loop(0, words[Arg.OUT_WIDTH], variant.pixels) as wanted:
        # the last tile of a row is moved back, so that no tile is incomplete; some pixels are computed twice
        pixel = body.minimum(wanted, body.sub(words[Arg.OUT_WIDTH], constant(variant.pixels)))
        left = body.sub(body.mul(pixel, variant.stride), words[Arg.PAD_LEFT])
        tile.start([row.bias])
        outside = body.b.or_(
            body.less(left, 0),
            body.b.icmp_signed(">", body.add(left, variant.span), words[Arg.IN_WIDTH]),
        )

        def kernel_row(number: ir.Value, taps: list[ir.Value], border: ir.Value | None) -> None:
            line = body.add(row.top, body.mul(number, words[Arg.ROW_DILATION]))
            at = body.add(body.mul(line, row_floats), body.mul(left, variant.block))
            start = body.floats(row.image, at)
            _accumulate(body, variant, sums or tile, start, taps, left, words[Arg.IN_WIDTH], border)

        with body.b.if_else(outside) as (then, otherwise):
            for branch, border in ((then, zeros), (otherwise, None)):
                with branch:
                    if hoisted is not None and border is None:
                        for k, taps in enumerate(hoisted):
                            kernel_row(constant(k), taps, None)
                        if sums is not None:
                            sums.carry()
                        continue
                    together = max(HALF_STEPS // variant.taps, 1) if sums is not None else 0
                    with _rows_together(body, row, together) as (first, last):
                        with body.loop(first, last) as number:
                            of_row = body.floats(row.weights, body.mul(number, variant.row_floats))
                            kernel_row(number, _taps(body, variant, of_row), border)
                        if sums is not None:
                            sums.carry()
        place = _place(body, variant, words, row, pixel)
        _finish(body, variant, tile, epilogue, place, row.channel_at, total, body.sub(wanted, pixel))


@contextmanager
def _rows_together(body: Body, row: _Row, together: int) -> Iterator[tuple[ir.Value, ir.Value]]:
    """A loop over stretches of so many kernel rows; 0: all rows are one."""
    if not together:
        yield row.first, row.last
        return
    with body.loop(row.first, row.last, together) as first:
        yield first, body.minimum(body.add(first, together), row.last)


@dataclass(frozen=True, slots=True)
class _Row:
    """One unit of work, and what it is computed from.

    Attributes:
        unit: its number.
        row, block: of the result.
        pair_plane, odd: where its block lies in the PAIRS layout: the pair of blocks, and which of the two.
        channel_at: the block's first channel.
        top: the image row of the topmost kernel row; may lie above the image.
        first, last: kernel rows that lie inside the image.
        image, weights: addresses of the block's.
        bias: a vector.
    """

    unit: ir.Value
    row: ir.Value
    block: ir.Value
    pair_plane: ir.Value
    odd: ir.Value
    channel_at: ir.Value
    top: ir.Value
    first: ir.Value
    last: ir.Value
    image: ir.Value
    weights: ir.Value
    bias: ir.Value


def _row(body: Body, variant: Variant, words: dict[Arg, ir.Value], unit: ir.Value, row_floats: ir.Value) -> _Row:
    plane, row = body.divide(unit, words[Arg.OUT_ROWS])
    n, block = body.divide(plane, words[Arg.BLOCKS])
    pair, odd = pair_of(body, block)
    pairs, is_short = pair_of(body, words[Arg.BLOCKS])
    pair_plane = body.add(body.mul(n, body.add(pairs, is_short)), pair)
    channel_at = body.mul(block, variant.block)
    top = body.sub(body.mul(row, words[Arg.ROW_STRIDE]), words[Arg.PAD_TOP])
    first = _kernel_row_reaching(body, words, body.sub(constant(0), top))
    last = body.minimum(words[Arg.KERNEL_ROWS], _kernel_row_reaching(body, words, body.sub(words[Arg.IN_ROWS], top)))
    image_floats = body.mul(words[Arg.IN_ROWS], row_floats)
    if variant.reads_pairs:
        image = half_address(body, words[Arg.INPUT], body.mul(pair_plane, image_floats), odd)
    else:
        image = body.floats(words[Arg.INPUT], body.mul(plane, image_floats))
    kernel_size = body.mul(words[Arg.KERNEL_ROWS], variant.taps)
    weights = body.floats(words[Arg.WEIGHTS], body.mul(body.mul(block, kernel_size), variant.tap_floats))
    bias = body.load(body.floats(words[Arg.BIAS], channel_at))
    return _Row(unit, row, block, pair_plane, odd, channel_at, top, first, last, image, weights, bias)


def _kernel_row_reaching(body: Body, words: dict[Arg, ir.Value], distance: ir.Value) -> ir.Value:
    """The first kernel row that lies at least ``distance`` image rows below the topmost one."""
    dilation = words[Arg.ROW_DILATION]
    positive = body.maximum(distance, constant(0))
    return body.b.udiv(body.sub(body.add(positive, dilation), constant(1)), dilation)


def _taps(body: Body, variant: Variant, weights: ir.Value) -> list[ir.Value]:
    """The weights of one kernel row."""
    places = [body.floats(weights, t * variant.tap_floats) for t in range(variant.taps)]
    return [load_halves(body, place) if variant.in_halves else body.load(place) for place in places]


def _accumulate(
    body: Body,
    variant: Variant,
    tile: Tile | HalfSums,
    source: ir.Value,
    taps: list[ir.Value],
    left: ir.Value,
    width: ir.Value,
    zeros: ir.Value | None,
) -> None:
    """One kernel row of weights ``taps``; with ``zeros`` given, pixels outside [0, width) are read from there."""
    for distance, meetings in variant.meetings().items():
        at = body.floats(source, distance * variant.block)
        if zeros is not None:
            inside = body.b.icmp_unsigned("<", body.add(left, distance), width)
            at = body.b.select(inside, at, zeros)
        if variant.in_halves:
            pixel = load_halves(body, at)
        elif variant.reads_pairs:
            assert variant.unit is not None
            pixel = load_half(body, at, variant.unit)
        else:
            pixel = body.load(at)
        for row, tap in meetings:
            tile.accumulate(row, 0, pixel, taps[tap])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the first pixel of a tile goes."""

    output: ir.Value
    at: ir.Value  # in floats
    half: ir.Value  # its address in the PAIRS layout
    is_alone: ir.Value  # no other block belongs to its pair


def _place(body: Body, variant: Variant, words: dict[Arg, ir.Value], row: _Row, pixel: ir.Value) -> _Place:
    at = body.add(body.mul(row.unit, words[Arg.OUT_WIDTH]), pixel)
    pair_row = body.add(body.mul(row.pair_plane, words[Arg.OUT_ROWS]), row.row)
    pair_at = body.add(body.mul(pair_row, words[Arg.OUT_WIDTH]), pixel)
    return _Place(
        words[Arg.OUTPUT],
        body.mul(at, variant.block),
        half_address(body, words[Arg.PAIR_OUTPUT], body.mul(pair_at, variant.block), row.odd),
        body.b.icmp_signed("==", body.add(row.block, body.sub(constant(1), row.odd)), words[Arg.BLOCKS]),
    )


def _finish(
    body: Body,
    variant: Variant,
    tile: Tile,
    epilogue: EpilogueCode,
    place: _Place,
    channel_at: ir.Value,
    total: ir.Value | None,
    again: ir.Value,
) -> None:
    """Epilogue and stores; all but the first ``again`` pixels, which came before, are added to ``total``."""

    def float_at(row: ir.Value) -> ir.Value:
        return body.add(place.at, body.mul(row, body.lanes))

    def channel(i: int, v: int) -> ir.Value:
        return body.load(body.floats(epilogue.channels[i], channel_at))

    def tensor(i: int, row: ir.Value, column: ir.Value) -> ir.Value:
        return body.load(body.floats(epilogue.tensors[i], float_at(row)))

    def store(value: ir.Value, row: ir.Value, column: ir.Value) -> None:
        if variant.stores != "pairs":
            body.store(value, body.floats(place.output, float_at(row)))
        if variant.stores != "floats":
            assert variant.unit is not None
            at = body.floats(place.half, body.mul(row, body.lanes))
            store_half(body, value, at, variant.unit, place.is_alone)
        if total is not None:
            counted = body.b.select(body.less(row, again), body.zero(), value)
            body.b.store(body.b.fadd(body.b.load(total, typ=body.vector), counted), total)

    tile.finish(epilogue, channel=channel, tensor=tensor, store=store)
