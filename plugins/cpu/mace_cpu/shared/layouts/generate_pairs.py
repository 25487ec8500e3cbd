"""Kernels between float32 and layouts of 16-bit floats."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import Body, constant
from mace_cpu.shared.codegen.pairs import HALF_BYTES, I16, narrow, widen
from mace_cpu.shared.precision import PairUnit


def build_pairs(symbol: str, block: int, unit: PairUnit, processor: Target) -> str:
    """IR: from the BLOCKED to the PAIRS layout.

    Unit: ``(n * pairs + pair) * units_per_pair + part``, of some pixels.
    """
    body = Body(symbol, block, processor.features)
    source, target = body.pointer(0), body.pointer(1)
    channels, pixels, part_size, parts = (body.word(i) for i in range(2, 6))
    blocks = body.b.udiv(body.add(channels, block - 1), constant(block))
    pairs = body.b.udiv(body.add(blocks, 1), constant(2))
    with body.loop(body.begin, body.end) as index:
        plane, part = body.divide(index, parts)
        n, pair = body.divide(plane, pairs)
        first_block = body.mul(pair, 2)
        # without a second block the first one is read again, for nothing
        second_block = body.minimum(body.add(first_block, 1), body.sub(blocks, constant(1)))
        image = body.mul(n, blocks)
        first_channel = body.mul(first_block, block)
        masks = [body.first_lanes(body.sub(channels, body.add(first_channel, half * block))) for half in range(2)]
        sources = [
            body.floats(source, body.mul(body.mul(body.add(image, b), pixels), block))
            for b in (first_block, second_block)
        ]
        row = body.floats(target, body.mul(body.mul(plane, pixels), block))
        first = body.mul(part, part_size)
        with body.loop(first, body.minimum(body.add(first, part_size), pixels)) as pixel:
            at = body.mul(pixel, block)
            for half in range(2):
                value = body.b.select(masks[half], body.load(body.floats(sources[half], at)), body.zero())
                _store(body, narrow(body, value, unit), body.floats(row, at), half)
    return body.text()


def build_wide(symbol: str, block: int, unit: PairUnit, processor: Target) -> str:
    """IR: from the PAIRS to the BLOCKED layout; units as of `build_pairs`, but by block."""
    body = Body(symbol, block, processor.features)
    source, target = body.pointer(0), body.pointer(1)
    channels, pixels, part_size, parts = (body.word(i) for i in range(2, 6))
    blocks = body.b.udiv(body.add(channels, block - 1), constant(block))
    pairs = body.b.udiv(body.add(blocks, 1), constant(2))
    with body.loop(body.begin, body.end) as index:
        plane, part = body.divide(index, parts)
        n, number = body.divide(plane, blocks)
        pair, half = body.divide(number, constant(2))
        from_row = body.floats(source, body.mul(body.mul(body.add(body.mul(n, pairs), pair), pixels), block))
        row = body.floats(target, body.mul(body.mul(plane, pixels), block))
        first = body.mul(part, part_size)
        with body.loop(first, body.minimum(body.add(first, part_size), pixels)) as pixel:
            at = body.mul(pixel, block)
            place = body.b.gep(body.floats(from_row, at), [body.mul(half, block)], source_etype=I16)
            halves = body.b.load(place, typ=ir.VectorType(I16, block), align=HALF_BYTES)
            body.store(widen(body, halves, unit), body.floats(row, at))
    return body.text()


def build_pair_rows(symbol: str, lanes: int, unit: PairUnit, processor: Target) -> str:
    """IR: from rows of float32 to rows of pairs, filled up with zeros.

    A row has ``elements`` elements, in ``groups`` groups of ``2 lanes``.  Unit: one row.
    """
    body = Body(symbol, lanes, processor.features)
    source, target, elements, groups = body.pointer(0), body.pointer(1), body.word(2), body.word(3)
    with body.loop(body.begin, body.end) as row:
        from_row = body.floats(source, body.mul(row, elements))
        to_row = body.floats(target, body.mul(row, body.mul(groups, lanes)))
        whole = body.b.udiv(elements, constant(2 * lanes))
        for first, last, is_whole in ((constant(0), whole, True), (whole, groups, False)):
            with body.loop(first, last) as group:
                for half in range(2):
                    at = body.add(body.mul(group, 2 * lanes), half * lanes)
                    source_at = body.floats(from_row, at)
                    # loads under a mask are one by one where the processor has no masks
                    value = body.load(source_at) if is_whole else body.load_some(source_at, body.sub(elements, at))
                    halves = narrow(body, value, unit)
                    _store(body, halves, body.floats(to_row, body.mul(group, lanes)), half)
    return body.text()


def _store(body: Body, halves: ir.Value, words: ir.Value, half: int) -> None:
    """Store a vector of 16-bit floats as one half of as many words."""
    place = body.b.gep(words, [constant(half * body.lanes)], source_etype=I16)
    body.b.store(halves, place, align=HALF_BYTES)
