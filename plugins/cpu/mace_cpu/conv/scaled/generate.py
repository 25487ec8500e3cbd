"""Packed weights of a convolution times a number for each channel of its input."""

from __future__ import annotations

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import Body, constant


def build(symbol: str, columns: int, _target: Target) -> str:
    """IR of the kernel.

    Weights and result are [tile][in block][tap][channel in block][columns]; there is a number for each of the channels.
    Unit: ``tile * in blocks + in block``.  Rows of channels that do not exist are left undefined.
    """
    body = Body(symbol, columns)
    weights, result, numbers = (body.pointer(i) for i in range(3))
    channels, in_blocks, taps, block = (body.word(i) for i in range(3, 7))
    with body.loop(body.begin, body.end) as unit:
        _, in_block = body.divide(unit, in_blocks)
        first = body.mul(in_block, block)
        count = body.minimum(block, body.sub(channels, first))
        with body.loop(0, taps) as tap, body.loop(0, count) as channel:
            factor = body.splat(body.load_scalar(body.floats(numbers, body.add(first, channel))))
            row = body.add(body.mul(body.add(body.mul(unit, taps), tap), block), channel)
            at = body.mul(row, constant(columns))
            body.store(body.b.fmul(body.load(body.floats(weights, at)), factor), body.floats(result, at))
    return body.text()
