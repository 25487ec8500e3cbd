"""Pixels of a few words each, taken apart into planes and put together: the pictures of most models begin so."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import Body, constant
from mace_cpu.shared.layouts.generate_movement import Mover, plane_offsets


def build_woven(symbol: str, count: int, is_apart: bool, machine: Target) -> str:
    """(source, target, pixels, step, pixels of a unit, rank, sizes, source strides, target strides).

    For c < count and p < pixels, under ``rank`` outer axes: ``target[c * step + p] = source[count * p + c]`` if
    ``is_apart``, else ``target[count * p + c] = source[c * step + p]``.  Words have four bytes.  One unit is so many
    pixels of one outer plane; whole vectors are shuffled in registers, the last of them moved back to end at the last
    pixel.
    """
    lanes = machine.vector_bits // 32
    body = Body(symbol, lanes)
    mover = Mover(body, 4)
    source, target = body.pointer(0), body.pointer(1)
    pixels, step, unit_pixels, rank = (body.word(i) for i in range(2, 6))
    units = body.b.udiv(body.sub(body.add(pixels, unit_pixels), constant(1)), unit_pixels)
    with body.loop(body.begin, body.end) as unit:
        plane, number = body.divide(unit, units)
        from_plane, to_plane = plane_offsets(body, plane, rank, 6, rank)
        here, there = mover.at(source, from_plane), mover.at(target, to_plane)
        woven, planes = (here, there) if is_apart else (there, here)
        first = body.mul(number, unit_pixels)
        stop = body.minimum(body.add(first, unit_pixels), pixels)
        with body.b.if_else(body.b.icmp_signed(">=", pixels, constant(lanes))) as (then, otherwise):
            with then, body.loop(first, stop, lanes) as wanted:
                pixel = body.minimum(wanted, body.sub(pixels, constant(lanes)))
                at_woven = mover.at(woven, body.mul(pixel, count))
                together = [mover.at(at_woven, constant(i * lanes)) for i in range(count)]
                apart = [mover.at(planes, body.add(body.mul(step, c), pixel)) for c in range(count)]
                sources, targets = (together, apart) if is_apart else (apart, together)
                loaded = [body.load(at) for at in sources]
                for i, at in enumerate(targets):
                    body.store(_picked(body, loaded, _places(i, count, lanes, is_apart)), at)
            with otherwise, body.loop(first, stop) as pixel:
                for c in range(count):
                    one = mover.at(woven, body.add(body.mul(pixel, count), c))
                    other = mover.at(planes, body.add(body.mul(step, c), pixel))
                    mover.move(*((one, other) if is_apart else (other, one)))
    return body.text()


def _places(number: int, count: int, lanes: int, is_apart: bool) -> list[tuple[int, int]]:
    """For each lane of a result the vector that it comes from and the lane in that."""
    if is_apart:
        return [divmod(count * lane + number, lanes) for lane in range(lanes)]
    return [(place % count, place // count) for place in range(number * lanes, (number + 1) * lanes)]


def _picked(body: Body, vectors: Sequence[ir.Value], places: Sequence[tuple[int, int]]) -> ir.Value:
    """A vector of lanes of several others: a shuffle of two, and one for each further one."""
    lanes = len(places)
    found = vectors[0]
    for number in range(1, len(vectors)):
        found = body.shuffle(
            found,
            vectors[number],
            [
                # lanes of the first are where they are to be once it has been shuffled with the second
                lanes + lane if vector == number else (lane if number == 1 and vector == 0 else place)
                for place, (vector, lane) in enumerate(places)
            ],
        )
    return found
