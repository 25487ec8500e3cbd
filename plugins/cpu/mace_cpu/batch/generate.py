"""The steps of a stretch, one after the other for one row of the batch, then for the next row.

Each chunk has a copy of the steps' words, whose addresses it moves from row to row, and memory for what the steps
compute in between.  That stays in the cache of one processor, and threads never wait for each other within a row.
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.batch.arguments import Arg, Entry
from mace_cpu.shared.codegen.body import I64, POINTER, VOID, Body, constant

KERNEL = ir.FunctionType(VOID, [POINTER, I64, I64, I64])

LANES = 4
"""No vectors are used."""

RECORD_BYTES = 24
"""What the timer notes of a step: a thread, when it began, when it ended."""


def build(symbol: str, _target: Target) -> str:
    """IR of the driver; arguments are `Arg`, then the lists; one unit is a row."""
    body = Body(symbol, LANES)
    emitter = _Emitter(body)
    emitter.prepare()
    with body.loop(body.begin, body.end) as row:
        emitter.move_to(row)
        emitter.run_steps(row)
    return body.text()


class _Emitter:
    def __init__(self, body: Body) -> None:
        self.body = body
        self.counts = {arg: body.word(arg) for arg in Arg}
        self.table = constant(len(Arg))
        self.private = body.add(self.table, self.counts[Arg.TABLE_WORDS])
        self.moved = body.add(self.private, self.counts[Arg.PRIVATE_WORDS])
        self.words = body.add(self.moved, self.counts[Arg.MOVED_WORDS])
        memory = body.add(self.counts[Arg.MEMORY], body.mul(body.chunk, self.counts[Arg.CHUNK_BYTES]))
        self.own = body.b.inttoptr(memory, POINTER)
        self.arena = body.add(memory, self.counts[Arg.ARENA_START])
        self.timed = body.memory(ir.ArrayType(I64, 3))  # the arguments of the timer: kernel, its words, the record

    def prepare(self) -> None:
        """Copy the words of the steps; what lies in the chunk's memory is the same for all rows."""
        body = self.body
        with body.loop(0, self.counts[Arg.STEP_WORDS]) as i:
            self._put(i, self._given(body.add(self.words, i)))
        with body.loop(0, self.counts[Arg.PRIVATE_WORDS]) as i:
            word = self._given(body.add(self.private, i))
            self._put(word, body.add(self.arena, self._given(body.add(self.words, word))))
        control = self._load(body.args, constant(-1))
        with body.loop(0, self.counts[Arg.TABLE_WORDS], len(Entry)) as at:
            self._put(body.add(self._entry(at, Entry.FIRST), -1), control)

    def move_to(self, row: ir.Value) -> None:
        """Let the words name the row's part of what the steps read and write outside of the stretch."""
        body = self.body
        with body.loop(0, self.counts[Arg.MOVED_WORDS], 2) as i:
            word, stride = (self._given(body.add(body.add(self.moved, i), place)) for place in (0, 1))
            self._put(word, body.add(self._given(body.add(self.words, word)), body.mul(row, stride)))

    def run_steps(self, row: ir.Value) -> None:
        body, b = self.body, self.body.b
        times = self.counts[Arg.TIMES]
        first = body.mul(row, self.counts[Arg.TABLE_WORDS])
        with body.loop(0, self.counts[Arg.TABLE_WORDS], len(Entry)) as at:
            kernel = self._entry(at, Entry.KERNEL)
            words = b.gep(self.own, [self._entry(at, Entry.FIRST)], source_etype=I64)
            record = body.add(times, body.mul(body.add(first, at), RECORD_BYTES // len(Entry)))
            extent, piece = self._entry(at, Entry.EXTENT), self._entry(at, Entry.PIECE)
            with body.loop(0, extent, piece) as begin:
                body.return_if_stopped()
                end = body.minimum(body.add(begin, piece), extent)
                with b.if_else(b.icmp_signed("!=", times, constant(0)), likely=False) as (is_timed, is_not):
                    with is_timed:
                        for index, value in enumerate((kernel, b.ptrtoint(words, I64), record)):
                            place = b.gep(self.timed, [constant(index)], source_etype=I64)
                            b.store(value, place, align=8)
                        self._call(self.counts[Arg.TIMER], self.timed, begin, end)
                    with is_not:
                        self._call(kernel, words, begin, end)

    def _call(self, kernel: ir.Value, words: ir.Value, begin: ir.Value, end: ir.Value) -> None:
        b = self.body.b
        b.call(b.inttoptr(kernel, KERNEL.as_pointer()), [words, begin, end, constant(0)])

    def _entry(self, at: ir.Value, entry: Entry) -> ir.Value:
        return self._given(self.body.add(self.body.add(self.table, at), int(entry)))

    def _given(self, index: ir.Value) -> ir.Value:
        return self._load(self.body.args, index)

    def _load(self, start: ir.Value, index: ir.Value) -> ir.Value:
        at = self.body.b.gep(start, [index], source_etype=I64)
        return self.body.b.load(at, typ=I64, align=8)

    def _put(self, index: ir.Value, value: ir.Value) -> None:
        at = self.body.b.gep(self.own, [index], source_etype=I64)
        self.body.b.store(value, at, align=8)
