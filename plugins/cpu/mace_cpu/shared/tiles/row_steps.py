"""The innermost loop of matrix products: rows of the left operand read where they lie, a packed panel of the right one.

Left to itself LLVM computes the address of every row anew in each turn, loads all factors of a turn at once and spills
most of them.  So the rows' addresses are kept where it cannot see what they are made of: one for every three rows,
which the others reach with the processor's scaled index.
"""

from __future__ import annotations

import functools

from llvmlite import ir

from mace_cpu.shared.codegen.body import I32, I64, POINTER, Body, constant
from mace_cpu.shared.tiles.arguments import STEPS_BETWEEN_FETCHES, STEPS_PER_FETCH
from mace_cpu.shared.tiles.tile import FetchAhead, Tile

ROWS_PER_ADDRESS = 3


def opaque(body: Body, address: ir.Value, *, in_order: bool = False) -> ir.Value:
    """The same address, as one that LLVM knows nothing about; ``in_order``: it moves no load across this place."""
    kind = ir.FunctionType(POINTER, [POINTER])
    constraint = "=r,0,~{memory}" if in_order else "=r,0"
    return body.b.call(ir.InlineAsm(kind, "", constraint, side_effect=in_order), [address])


def run_kept_rows(
    tile: Tile,
    left: ir.Value,
    stride: ir.Value,
    right: ir.Value,
    kept: ir.Value,
    length: ir.Value,
    ahead: FetchAhead,
) -> None:
    """As `run_rows`, over ``length`` steps whose places in the rows of the left operand are in the table ``kept``.

    The rows of the right operand follow each other without gaps.
    """
    body = tile.body
    places = []
    for row in range(0, tile.rows, ROWS_PER_ADDRESS):
        place = body.variable(POINTER)
        body.b.store(opaque(body, body.floats(left, body.mul(stride, row))), place)
        places.append(place)

    def step(k: ir.Value) -> None:
        entry = body.b.load(body.b.gep(kept, [k], inbounds=True, source_etype=I32), typ=I32, align=4)
        at = body.b.zext(entry, I64)
        addresses: list[ir.Value] = []

        def factor(row: int) -> ir.Value:
            group, inside = divmod(row, ROWS_PER_ADDRESS)
            if not inside:
                place = body.b.load(places[group], typ=POINTER)
                addresses.append(opaque(body, body.floats(place, at), in_order=True))
            return body.floats(addresses[group], body.mul(stride, inside)) if inside else addresses[group]

        tile.step(factor, body.floats(right, body.mul(k, tile.columns)))

    with body.loop(0, length, STEPS_PER_FETCH) as first:
        ahead.fetch()
        with body.loop(first, body.minimum(body.add(first, STEPS_PER_FETCH), length)) as k:
            step(k)


def run_rows(
    tile: Tile,
    left: ir.Value,
    stride: ir.Value,
    right: ir.Value,
    right_step: ir.Value,
    length: ir.Value,
    unroll: int,
    ahead: FetchAhead | None = None,
) -> None:
    """Accumulate ``length`` steps: consecutive floats of rows ``stride`` floats apart times rows of the right operand.

    Args:
        left: the first row's first float.
        right_step: floats from row to row of the right operand.
        unroll: steps per turn, a power of two.
        ahead: what to fetch a little of every few steps.
    """
    body = tile.body
    places = []
    for row in range(0, tile.rows, ROWS_PER_ADDRESS):
        place = body.variable(POINTER)
        body.b.store(opaque(body, body.floats(left, body.mul(stride, row))), place)
        places.append(place)
    column = body.variable(POINTER)
    body.b.store(right, column)

    def turn(steps: int) -> None:
        addresses = [opaque(body, body.b.load(place, typ=POINTER)) for place in places]
        panel = body.b.load(column, typ=POINTER)

        def factor(row: int, step: int) -> ir.Value:
            group, inside = divmod(row, ROWS_PER_ADDRESS)
            address = body.floats(addresses[group], step)
            return body.floats(address, body.mul(stride, inside)) if inside else address

        together = tile.together if body.takes_lanes and steps % tile.together == 0 else 1
        for step in range(0, steps, together):
            panels = [panel]
            for _ in range(together):
                panels.append(body.floats(panels[-1], right_step))
            if together > 1:
                tile.lane_steps(functools.partial(factor, step=step), panels.__getitem__)
            else:
                tile.step(functools.partial(factor, step=step), panel)
            panel = panels[-1]
        for place, address in zip(places, addresses, strict=True):
            body.b.store(body.floats(address, steps), place)
        body.b.store(panel, column)

    def run(count: ir.Value) -> None:
        turns = max(unroll, tile.together) if body.takes_lanes else unroll
        whole = body.b.and_(count, constant(-turns))
        with body.loop(0, whole, turns):
            turn(turns)
        if tile.is_whole:
            return
        with body.loop(whole, count):
            turn(1)

    if ahead is None:
        run(length)
        return
    every = STEPS_BETWEEN_FETCHES if body.takes_lanes else STEPS_PER_FETCH
    with body.loop(0, length, every) as first:
        count = body.minimum(body.sub(length, first), constant(every))
        if body.takes_lanes:
            ahead.fetch_for(count)
        else:
            ahead.fetch()
        run(count)
