"""Nearest neighbors in blocks of channels: whole vectors copied by tables of source indices, with an epilogue."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.resize.arguments import Arg
from mace_cpu.shared.codegen.body import I32, I64, Body, constant
from mace_cpu.shared.codegen.vector_basic import allow_features
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp

POINTERS = (Arg.SOURCE, Arg.TARGET, Arg.TABLES)


def build(symbol: str, rank: int, block: int, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of the kernel for ``rank`` axes up to the last one that is resized; a unit is one row along that axis.

    Arguments are `Arg`, then sizes, source strides (floats) and starts of tables per axis, then the addresses of the
    epilogue's channels and tensors.
    """
    body = Body(symbol, min(max(target.vector_bits // 32, 4), block))
    allow_features(body.module, target.features)
    words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg}
    first = len(Arg)
    sizes, strides, starts = ([body.word(first + rank * part + axis) for axis in range(rank)] for part in range(3))
    first += 3 * rank
    epilogue = EpilogueCode(body, first, ops)
    channels, tensors = epilogue.channels, epilogue.tensors
    inner = words[Arg.INNER]

    def entry(axis: int, index: ir.Value) -> ir.Value:
        """Distance in the source, in floats, of one index of an axis."""
        at = body.b.gep(words[Arg.TABLES], [body.add(starts[axis], index)], inbounds=True, source_etype=I32)
        return body.mul(body.b.sext(body.b.load(at, typ=I32, align=4), I64), strides[axis])

    with body.loop(body.begin, body.end) as unit:
        rest, row = unit, constant(0)
        for axis in range(rank - 2, -1, -1):
            rest, index = body.divide(rest, sizes[axis])
            row = body.add(row, entry(axis, index))
        block_of_row = body.divide(body.divide(unit, words[Arg.ROWS_PER_BLOCK])[0], words[Arg.BLOCKS])[1]
        lane = body.mul(block_of_row, block)
        out_row = body.mul(unit, body.mul(sizes[-1], inner))
        with body.loop(0, sizes[-1]) as j:
            source = body.floats(words[Arg.SOURCE], body.add(row, entry(rank - 1, j)))
            out = body.add(out_row, body.mul(j, inner))
            with body.loop(0, inner, body.lanes) as i:
                here = body.add(out, i)
                of_block = body.add(lane, body.b.and_(i, constant(block - 1)))
                value = epilogue.emit(
                    body.b,
                    body.load(body.floats(source, i)),
                    channel=lambda k: body.load(body.floats(channels[k], of_block)),
                    tensor=lambda k: body.load(body.floats(tensors[k], here)),
                )
                body.store(value, body.floats(words[Arg.TARGET], here))
    return body.text()
