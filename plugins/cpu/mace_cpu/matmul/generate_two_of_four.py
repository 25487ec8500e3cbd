"""The innermost loop of products with 2:4 columns: two permutations of four floats where there were four broadcasts."""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.matmul.arguments import BLOCK_GROUPS, BLOCK_WORDS, GROUP, PICKS
from mace_cpu.shared.codegen.body import F32, I32, constant
from mace_cpu.shared.codegen.vector_basic import call
from mace_cpu.shared.tiles.tile import Tile

PERMUTATIONS = {16: "llvm.x86.avx512.vpermilvar.ps.512", 8: "llvm.x86.avx.vpermilvar.ps.256"}
"""Each lane takes one of the four of its 128 bits, by the two lowest bits of its index."""


def run_picks(tile: Tile, left: ir.Value, stride: ir.Value, right: ir.Value, steps: ir.Value) -> None:
    """Accumulate ``steps``, whole groups of four, of rows ``stride`` floats apart with a panel of `pack_picks`."""
    body, b = tile.body, tile.body.b
    integers = ir.VectorType(I32, body.lanes)
    two = ir.Constant(integers, [2] * body.lanes)
    repeated = list(range(GROUP)) * (body.lanes // GROUP)
    groups = b.udiv(steps, constant(GROUP))
    indices = [body.variable(integers) for _ in range(tile.vectors)]

    with body.loop(0, groups, BLOCK_GROUPS) as first:
        block = body.floats(right, body.mul(b.udiv(first, constant(BLOCK_GROUPS)), BLOCK_WORDS * tile.columns))
        for v, place in enumerate(indices):
            b.store(b.load(body.floats(block, v * body.lanes), typ=integers, align=4), place)
        count = body.minimum(constant(BLOCK_GROUPS), body.sub(groups, first))
        with body.loop(0, count) as inside:
            at = body.mul(body.add(first, inside), GROUP)
            fours = []
            for row in range(tile.rows):
                place = body.floats(left, body.add(body.mul(stride, row), at))
                four = b.load(place, typ=ir.VectorType(F32, GROUP), align=4)
                fours.append(b.shuffle_vector(four, four, ir.Constant(ir.VectorType(I32, body.lanes), repeated)))
            weights = body.floats(block, body.mul(body.add(body.mul(inside, PICKS), 1), tile.columns))
            for pick in range(PICKS):
                for v, place in enumerate(indices):
                    index = b.load(place, typ=integers)
                    column = body.load(body.floats(weights, pick * tile.columns + v * body.lanes))
                    for row, four in enumerate(fours):
                        chosen = call(b, PERMUTATIONS[body.lanes], body.vector, [four, index])
                        tile.accumulate(row, v, chosen, column)
                    b.store(b.lshr(index, two), place)
