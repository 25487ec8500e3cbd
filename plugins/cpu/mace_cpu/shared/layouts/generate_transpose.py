"""Kernels between the PLAIN and the BLOCKED layout: transposes of block x block tiles in registers."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import Body, constant


def build(symbol: str, block: int, to_blocked: bool, _target: Target) -> str:
    """IR of a conversion.

    Unit: ``(n * channel_blocks + channel_block) * units_per_block + part``.
    """
    body = Body(symbol, block)
    source, target = body.pointer(0), body.pointer(1)
    channels, pixels, part_size, parts = (body.word(i) for i in range(2, 6))
    blocks = body.b.sdiv(body.add(channels, block - 1), constant(block))
    with body.loop(body.begin, body.end) as unit:
        plane, part = body.divide(unit, parts)
        n, channel_block = body.divide(plane, blocks)
        first_channel = body.mul(channel_block, block)
        valid = body.minimum(body.sub(channels, first_channel), constant(block))
        plain_at = body.mul(body.add(body.mul(n, channels), first_channel), pixels)
        blocked_at = body.mul(body.mul(plane, pixels), block)
        plain = body.floats(source if to_blocked else target, plain_at)
        blocked = body.floats(target if to_blocked else source, blocked_at)
        first = body.mul(part, part_size)
        stop = body.minimum(body.add(first, part_size), pixels)
        wide = body.b.icmp_signed(">=", pixels, constant(block))
        with body.b.if_else(wide) as (then, otherwise):
            with then:
                _tiles(body, plain, blocked, pixels, valid, first, stop, to_blocked)
            with otherwise:
                _single(body, plain, blocked, pixels, valid, first, stop, to_blocked)
    return body.text()


def _tiles(
    body: Body,
    plain: ir.Value,
    blocked: ir.Value,
    pixels: ir.Value,
    valid: ir.Value,
    first: ir.Value,
    stop: ir.Value,
    to_blocked: bool,
) -> None:
    """Whole tiles; the last one is moved back so that it ends at the last pixel.

    In a block that is not full, the rows of channels that do not exist fall on the last one that does: read once more
    for lanes nobody looks at, written before the true row overwrites them.
    """
    block = body.lanes
    last = body.sub(valid, constant(1))
    rows = [body.mul(body.minimum(constant(c), last), pixels) for c in range(block)]
    with body.loop(first, stop, block) as wanted:
        pixel = body.minimum(wanted, body.sub(pixels, constant(block)))
        at_plain = [body.floats(plain, body.add(row, pixel)) for row in rows]
        at_blocked = body.floats(blocked, body.mul(pixel, block))
        if to_blocked:
            for p, vector in enumerate(transposed(body, [body.load(at) for at in at_plain])):
                body.store(vector, body.floats(at_blocked, p * block))
        else:
            vectors = transposed(body, [body.load(body.floats(at_blocked, p * block)) for p in range(block)])
            for c in reversed(range(block)):
                body.store(vectors[c], at_plain[c])


def _single(
    body: Body,
    plain: ir.Value,
    blocked: ir.Value,
    pixels: ir.Value,
    valid: ir.Value,
    first: ir.Value,
    stop: ir.Value,
    to_blocked: bool,
) -> None:
    """One element at a time, for planes smaller than a tile."""
    with body.loop(first, stop) as pixel, body.loop(0, valid) as channel:
        at_plain = body.floats(plain, body.add(body.mul(channel, pixels), pixel))
        at_blocked = body.floats(blocked, body.add(body.mul(pixel, body.lanes), channel))
        if to_blocked:
            body.store(body.load_scalar(at_plain), at_blocked)
        else:
            body.store(body.load_scalar(at_blocked), at_plain)


def transposed(body: Body, rows: list[ir.Value]) -> list[ir.Value]:
    """The columns of a square tile given as vectors of its rows."""
    size = len(rows)
    distance = size // 2
    while distance:
        mixed = list(rows)
        for i in range(size):
            if i & distance:
                continue
            low = [j if not j & distance else size + j - distance for j in range(size)]
            high = [j + distance if not j & distance else size + j for j in range(size)]
            mixed[i] = body.shuffle(rows[i], rows[i + distance], low)
            mixed[i + distance] = body.shuffle(rows[i], rows[i + distance], high)
        rows = mixed
        distance //= 2
    return rows
