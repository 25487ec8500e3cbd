"""The innermost loop of products of bytes with 2:4 columns: each lane takes its four of eight bytes of a row."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_cpu.quantized.products.arguments import BLOCK_ROWS, BLOCK_STEPS
from mace_cpu.shared.codegen.body import I8, I64, constant
from mace_cpu.shared.codegen.vector_basic import call, splat
from mace_cpu.shared.quads import QUAD
from mace_cpu.shared.tiles.quad_tile import QuadTile

BYTES = 64
"""Of a vector."""

LOW_BITS = 3

BITS_PER_QUAD, BITS_PER_LANE = 8, 32


def run_byte_picks(tile: QuadTile, rows: Sequence[ir.Value], right: ir.Value, quads: ir.Value) -> None:
    """Accumulate rows of ``quads`` quads, whole blocks of 32 bytes, with a panel of `pack_picked`."""
    body, b = tile.body, tile.body.b
    wide, longs = ir.VectorType(I8, BYTES), ir.VectorType(I64, BYTES // 8)
    blocks = b.udiv(quads, constant(BLOCK_STEPS // QUAD))
    low = ir.Constant(wide, [LOW_BITS] * BYTES)
    # the third and fourth byte of a quad are of the second four
    half = ir.Constant(wide, [QUAD * (byte % QUAD >= 2) for byte in range(BYTES)])

    def at(base: ir.Value, index: ir.Value | int) -> ir.Value:
        place = constant(index) if isinstance(index, int) else index
        return b.gep(base, [place], inbounds=True, source_etype=I8)

    with body.loop(0, blocks) as block:
        packed = at(right, body.mul(block, BLOCK_ROWS * tile.step_bytes))
        for v in range(tile.vectors):
            places = b.load(at(packed, v * BYTES), typ=wide, align=4)
            for quad in range(QUAD):
                bits = [
                    BITS_PER_LANE * (byte % 8 // QUAD) + BITS_PER_QUAD * quad + 2 * (byte % QUAD)
                    for byte in range(BYTES)
                ]
                shifted = call(b, "llvm.x86.avx512.pmultishift.qb.512", wide, [ir.Constant(wide, bits), places])
                index = b.or_(b.and_(shifted, low), half)
                row_at = (1 + quad) * tile.step_bytes + v * BYTES
                column = tile.dot.right(b.load(at(packed, row_at), typ=tile.vector, align=4))
                for number, row in enumerate(rows):
                    eight = b.load(at(row, body.add(body.mul(block, BLOCK_STEPS), 8 * quad)), typ=I64, align=1)
                    every = b.bitcast(splat(b, eight, longs), wide)
                    chosen = b.bitcast(call(b, "llvm.x86.avx512.permvar.qi.512", wide, [every, index]), tile.vector)
                    tile.accumulate(number, v, tile.dot.left(chosen), column)
