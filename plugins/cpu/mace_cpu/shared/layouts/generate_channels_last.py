"""Kernels between the PLAIN and the CHANNELS_LAST layout of bytes and of words of 16 bits."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import Body, constant
from mace_cpu.shared.layouts.generate_bytes import Stretch, transpose_bytes, unweave_rows, weave_rows


def build(symbol: str, woven: int, to_channels_last: bool, bits: int, _target: Target) -> str:
    """IR of a conversion.

    Unit: ``n * units_per_image + part``, a part being ``unit_pixels`` pixels with all channels.

    Args:
        woven: the number of channels where it is so small that there is code for it, else 0.
        bits: of an element, 8 or 16.
    """
    body, kind = Body(symbol, 4), ir.IntType(bits)
    source, target = body.pointer(0), body.pointer(1)
    channels, pixels, part_size, parts = (body.word(i) for i in range(2, 6))
    with body.loop(body.begin, body.end) as unit:
        n, part = body.divide(unit, parts)
        first = body.mul(part, part_size)
        last = body.minimum(body.add(first, part_size), pixels)
        image = body.mul(n, body.mul(channels, pixels))
        plain_base, last_base = (source, target) if to_channels_last else (target, source)
        plain, channels_last = (
            body.b.gep(base, [image], inbounds=True, source_etype=kind) for base in (plain_base, last_base)
        )

        def at_plain(channel: ir.Value, pixel: ir.Value, base: ir.Value = plain) -> ir.Value:
            index = body.add(body.mul(channel, pixels), pixel)
            return body.b.gep(base, [index], inbounds=True, source_etype=kind)

        def at_last(pixel: ir.Value, channel: ir.Value, base: ir.Value = channels_last) -> ir.Value:
            index = body.add(body.mul(pixel, channels), channel)
            return body.b.gep(base, [index], inbounds=True, source_etype=kind)

        of_pixels = Stretch(first, last, pixels)
        of_channels = Stretch(constant(0), channels, channels)
        if woven and to_channels_last:
            weave_rows(body, woven, at_plain, channels_last, first, last, kind)
        elif woven:
            unweave_rows(body, woven, channels_last, at_plain, first, last, kind)
        elif to_channels_last:
            transpose_bytes(body, at_plain, at_last, of_pixels, of_channels, kind)
        else:
            transpose_bytes(body, at_last, at_plain, of_channels, of_pixels, kind)
    return body.text()
