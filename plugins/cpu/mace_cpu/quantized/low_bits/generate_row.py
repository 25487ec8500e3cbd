"""A single row times packed weights: each code is read once, in the order in which it lies in memory."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.low_bits.arguments import VECTORS, Form, RowArg
from mace_cpu.quantized.low_bits.generate_unpacking import Unpacking, zero_points
from mace_cpu.shared.codegen.body import F32, I64, Body
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp

POINTERS = (RowArg.LEFT, RowArg.CODES, RowArg.SCALES, RowArg.ZEROS, RowArg.OUTPUT)
FETCHED_BYTES = 2048
"""So far ahead of what is read memory is asked for."""


def build(symbol: str, form: Form, lanes: int, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of the kernel; arguments are `RowArg`, then epilogue channels, then epilogue tensors."""
    body = Body(symbol, lanes, target.features)
    words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in RowArg}
    epilogue = EpilogueCode(body, len(RowArg), ops)
    unpacking = Unpacking(body, form, target)
    width = VECTORS * lanes
    totals = [body.variable(body.vector) for _ in range(VECTORS)]
    sums = [body.variable(body.vector) for _ in range(VECTORS)]
    few = ir.VectorType(F32, form.group)
    row_sum = body.variable(few)
    with body.loop(body.begin, body.end) as panel:
        codes = body.floats(words[RowArg.CODES], body.mul(panel, body.mul(words[RowArg.GROUPS], width)))
        first = body.mul(panel, body.mul(words[RowArg.BLOCKS], width))
        for cell in totals:
            body.b.store(body.zero(), cell)
        with body.loop(0, words[RowArg.BLOCKS]) as block:
            for cell in sums:
                body.b.store(body.zero(), cell)
            if form.zeros:
                body.b.store(ir.Constant(few, None), row_sum)
            start = body.mul(block, words[RowArg.BLOCK])
            stop = body.minimum(body.add(start, words[RowArg.BLOCK]), words[RowArg.GROUPS])
            with body.loop(start, stop) as group:
                at = body.floats(codes, body.mul(group, width))
                left = body.floats(words[RowArg.LEFT], body.mul(group, form.group))
                read = []
                for v in range(VECTORS):
                    here = body.floats(at, v * lanes)
                    read.append(unpacking.load(here))
                    if v * lanes % 16 == 0:
                        body.prefetch(body.floats(here, FETCHED_BYTES // 4))
                if form.zeros:
                    some = body.b.load(left, typ=few, align=4)
                    body.b.store(body.b.fadd(body.b.load(row_sum, typ=few), some), row_sum)
                for step in range(form.group):
                    factor = body.splat(body.load_scalar(body.floats(left, step)))
                    for v in range(VECTORS):
                        total = body.b.load(sums[v], typ=body.vector)
                        body.b.store(body.multiply_add(unpacking.numbers(read[v], step), factor, total), sums[v])
            _finish_block(body, words, form, body.add(first, body.mul(block, width)), sums, totals, row_sum)
        _store(body, words, epilogue, body.mul(panel, width), totals)
    return body.text()


def _finish_block(
    body: Body,
    words: dict[RowArg, ir.Value],
    form: Form,
    index: ir.Value,
    sums: list[ir.Value],
    totals: list[ir.Value],
    row_sum: ir.Value,
) -> None:
    """Subtract what the zero points make up, scale, and add to the totals."""
    zeros: list[ir.Value] = []
    if form.zeros:
        few = ir.VectorType(F32, form.group)
        kind = ir.FunctionType(F32, [F32, few])
        reduce = body.declared(f"llvm.vector.reduce.fadd.v{form.group}f32", kind)
        summed = body.b.call(reduce, [ir.Constant(F32, -0.0), body.b.load(row_sum, typ=few)], fastmath=("reassoc",))
        minus = body.splat(body.b.fneg(summed))
        zeros = [body.b.fmul(zero, minus) for zero in zero_points(body, form, words[RowArg.ZEROS], index)]
    for v, (cell, total) in enumerate(zip(sums, totals, strict=True)):
        value = body.b.load(cell, typ=body.vector)
        if zeros:
            value = body.b.fadd(value, zeros[v])
        scale = body.load(body.floats(words[RowArg.SCALES], body.add(index, v * body.lanes)))
        body.b.store(body.multiply_add(value, scale, body.b.load(total, typ=body.vector)), total)


def _store(
    body: Body, words: dict[RowArg, ir.Value], epilogue: EpilogueCode, column: ir.Value, totals: list[ir.Value]
) -> None:
    """The results of a panel through the epilogue, those beyond the last column left out."""
    spilled = body.memory(ir.ArrayType(body.vector, VECTORS))
    for v, cell in enumerate(totals):
        body.store(body.b.load(cell, typ=body.vector), body.floats(spilled, v * body.lanes))
    with body.loop(0, ir.Constant(I64, VECTORS * body.lanes), body.lanes) as inside:
        at = body.add(column, inside)
        left = body.sub(words[RowArg.COLUMNS], at)
        result = epilogue.emit(
            body.b,
            body.load(body.floats(spilled, inside)),
            channel=lambda i: body.load(body.floats(epilogue.channels[i], at)),
            tensor=lambda i: body.load_some(body.floats(epilogue.tensors[i], at), left),
        )
        body.store_some(result, body.floats(words[RowArg.OUTPUT], at), left)
