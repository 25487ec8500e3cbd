"""The innermost loop of matrix products: rows of the left operand read where they lie, a packed panel of the right one.

Left to itself LLVM computes the address of every row anew in each turn, loads all factors of a turn at once and spills
most of them.  So the rows' addresses are kept where it can not see what they are made of: one for every three rows,
which the others reach with the processor's scaled index.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from mace_cpu.codegen.body import CACHE_LINE_FLOATS, POINTER, Body, constant
from mace_cpu.codegen.tile import Tile

ROWS_PER_ADDRESS = 3


@dataclass(frozen=True, slots=True)
class Ahead:
    """What to bring into the second level cache meanwhile: weights that are used soon.

    Attributes:
        at: where to begin.
        lines: cache lines to ask for in each turn of the loop.
    """

    at: ir.Value
    lines: int


def opaque(body: Body, address: ir.Value) -> ir.Value:
    """The same address, as one that LLVM knows nothing about."""
    kind = ir.FunctionType(POINTER, [POINTER])
    return body.b.call(ir.InlineAsm(kind, "", "=r,0", side_effect=False), [address])


def run_rows(
    tile: Tile,
    left: ir.Value,
    stride: ir.Value,
    right: ir.Value,
    right_step: ir.Value,
    length: ir.Value,
    unroll: int,
    ahead: Ahead | None = None,
) -> None:
    """Accumulate ``length`` steps: consecutive floats of rows ``stride`` floats apart times rows of the right operand.

    Args:
        left: the first row's first float.
        right_step: floats from row to row of the right operand.
        unroll: steps per turn, a power of two.
        ahead: what to prefetch.
    """
    body = tile.body
    places = []
    for row in range(0, tile.rows, ROWS_PER_ADDRESS):
        place = body.variable(POINTER)
        body.b.store(opaque(body, body.floats(left, body.mul(stride, row))), place)
        places.append(place)
    column = body.variable(POINTER)
    body.b.store(right, column)
    soon = None
    if ahead is not None:
        soon = body.variable(POINTER)
        body.b.store(ahead.at, soon)

    def turn(steps: int) -> None:
        addresses = [opaque(body, body.b.load(place, typ=POINTER)) for place in places]
        panel = body.b.load(column, typ=POINTER)
        for step in range(steps):
            here = step

            def factor(row: int) -> ir.Value:
                group, inside = divmod(row, ROWS_PER_ADDRESS)
                address = body.floats(addresses[group], here)  # noqa: B023 - called within this turn
                return body.floats(address, body.mul(stride, inside)) if inside else address

            tile.step(factor, panel)
            panel = body.floats(panel, right_step)
        for place, address in zip(places, addresses, strict=True):
            body.b.store(body.floats(address, steps), place)
        body.b.store(panel, column)
        if ahead is not None and soon is not None and steps > 1:
            at = body.b.load(soon, typ=POINTER)
            for _ in range(ahead.lines):
                body.prefetch(at)
                at = body.floats(at, CACHE_LINE_FLOATS)
            body.b.store(at, soon)

    whole = body.b.and_(length, constant(-unroll))
    with body.loop(0, whole, unroll):
        turn(unroll)
    with body.loop(whole, length):
        turn(1)
