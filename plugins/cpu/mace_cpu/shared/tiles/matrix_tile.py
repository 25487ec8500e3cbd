"""The tile of a convolution or product in the tile registers of AMX.

Of the eight registers (16 rows of 64 bytes), up to four hold sums of 16 x 16, two the left operand and two the right
one.  Source of the instructions' meaning: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1,
chapter "Programming with Intel AMX".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from llvmlite import ir

from mace_cpu.shared.codegen.bfloat16 import add_bfloat16_products
from mace_cpu.shared.codegen.body import I8, I64, POINTER, VOID, Body, constant
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.tiles.tile import FetchAhead, LoadOperand

REGISTER_ROWS = 16
REGISTER_WORDS = 16
"""Words of 32 bits in a row of a register."""

REGISTERS = 8
LEFT, RIGHT = 4, 6
"""The first register of each operand; the sums are in those before."""

MOST_ROWS = 2 * REGISTER_ROWS
MOST_VECTORS = 2

ROWS_TOGETHER = (4, 3, 2, 1)
"""How many rows' results to compute per turn of the loop: the first of these that divides the rows."""


def register_heights(rows: int, vectors: int) -> tuple[list[int], list[int]]:
    """Rows of each group of a tile, and of each register."""
    groups = [min(rows - first, REGISTER_ROWS) for first in range(0, rows, REGISTER_ROWS)]
    heights = [REGISTER_ROWS] * REGISTERS
    for group, height in enumerate(groups):
        heights[LEFT + group] = height
        for v in range(vectors):
            heights[sum_register(group, v)] = height
    return groups, heights


def sum_register(group: int, v: int) -> int:
    """The register that holds the sums of a group of rows for a vector of columns."""
    return 2 * group + v


class MatrixTile:
    """Sums of ``rows`` x ``vectors`` vectors of 16; takes the place of a `Tile` whose operands are pairs of bfloat16.

    A step takes 16 words (32 elements) of each row of the left operand, and as many rows of the right one: whoever
    packs the operands fills up with zeros.

    Attributes:
        columns: floats of one row: ``vectors * 16``.
    """

    def __init__(self, body: Body, rows: int, vectors: int, *, by_instruction: bool) -> None:
        if not 1 <= rows <= MOST_ROWS or not 1 <= vectors <= MOST_VECTORS or body.lanes != REGISTER_WORDS:
            raise ValueError(f"a tile of {rows} rows and {vectors} vectors of {body.lanes} does not fit AMX registers")
        self.body = body
        self.rows = rows
        self.vectors = vectors
        self.columns = vectors * body.lanes
        self._sums = body.memory(ir.ArrayType(body.vector, rows * vectors))
        self._initial = [body.variable(body.vector) for _ in range(vectors)]
        self._heights, heights = register_heights(rows, vectors)
        self._registers: Instructions | Emulation
        if by_instruction:
            self._registers = Instructions(body, "llvm.x86.tdpbf16ps")
        else:
            self._registers = Emulation(
                body, lambda left, right, total: add_bfloat16_products(body, left, right, total, by_instruction=False)
            )
        self._registers.open(heights)

    def close(self) -> None:
        """At the end of the kernel: give the registers up, so that nobody has to save them."""
        self._registers.close()

    def start(self, initial: Sequence[ir.Value]) -> None:
        """Set every row to ``initial`` (one vector per column vector), which is added at the end."""
        for v, value in enumerate(initial):
            self.body.b.store(value, self._initial[v])
            for group in range(len(self._heights)):
                self._registers.clear(sum_register(group, v))

    def put_aside(self, at: ir.Value) -> None:
        """Store the accumulators as they are, row by row, without what they started from."""
        self._each_sum(at, self._registers.store)

    def take_up(self, at: ir.Value) -> None:
        """Go on from accumulators put aside, which started from the same as the latest ones."""
        self._each_sum(at, self._registers.load)

    def run(
        self,
        left: ir.Value,
        row_offsets: Sequence[ir.Value | int],
        right: ir.Value,
        right_step: ir.Value | int,
        length: ir.Value,
        unroll: int,
        ahead: FetchAhead | None = None,
    ) -> None:
        """``length`` words of each row, rounded up to 16, as `Tile.run` takes them; the rows are equally far apart."""
        body = self.body
        apart = row_offsets[1] if self.rows > 1 else REGISTER_WORDS
        left_stride = body.mul(_integer(apart), 4)
        right_stride = body.mul(_integer(right_step), 4)
        with body.loop(0, length, REGISTER_WORDS) as k:
            if ahead is not None:
                ahead.fetch()
            columns = body.floats(right, body.mul(k, right_step))
            for group in range(len(self._heights)):
                start = body.floats(body.floats(left, row_offsets[group * REGISTER_ROWS]), k)
                self._registers.load(LEFT + group, start, left_stride)
            for v in range(self.vectors):
                self._registers.load(RIGHT + v, body.floats(columns, v * body.lanes), right_stride)
                for group in range(len(self._heights)):
                    self._registers.multiply(sum_register(group, v), LEFT + group, RIGHT + v)

    def finish(
        self,
        epilogue: EpilogueCode,
        *,
        channel: Callable[[int, int], ir.Value],
        tensor: LoadOperand,
        store: Callable[[ir.Value, ir.Value, ir.Value], None],
        rolled: bool | None = None,
    ) -> None:
        """Apply the epilogue and store, as `Tile.finish` does; always in a loop over rows."""
        body = self.body
        self.put_aside(self._sums)
        count = sum(op.operand == "channel" for op in epilogue.ops)
        together = 1 if rolled else next(n for n in ROWS_TOGETHER if self.rows % n == 0)
        for v in range(self.vectors):
            operands = [channel(i, v) for i in range(count)]
            initial = body.b.load(self._initial[v], typ=body.vector)
            column = constant(v)
            with body.loop(0, constant(self.rows), together) as first:
                for row in (body.add(first, i) for i in range(together)):
                    at = body.floats(self._sums, body.add(body.mul(row, self.columns), v * body.lanes))
                    result = epilogue.emit(
                        body.b,
                        body.b.fadd(body.load(at), initial),
                        channel=operands.__getitem__,
                        tensor=functools.partial(tensor, row=row, column=column),
                    )
                    store(result, row, column)

    def _each_sum(self, at: ir.Value, move: Callable[[int, ir.Value, ir.Value], None]) -> None:
        for group in range(len(self._heights)):
            for v in range(self.vectors):
                first = group * REGISTER_ROWS * self.columns + v * self.body.lanes
                move(sum_register(group, v), self.body.floats(at, first), constant(4 * self.columns))


class Instructions:
    """The registers themselves."""

    def __init__(self, body: Body, multiply: str) -> None:
        """``multiply``: LLVM's name of the instruction."""
        self._body, self._multiply = body, multiply

    def open(self, heights: Sequence[int]) -> None:
        """Rows per register; every row has 64 bytes."""
        body = self._body
        layout = bytearray(64)
        layout[0] = 1  # the palette
        for register, height in enumerate(heights):
            layout[16 + 2 * register] = 4 * REGISTER_WORDS
            layout[48 + register] = height
        kind = ir.VectorType(I8, len(layout))
        place = body.memory(kind)
        body.b.store(ir.Constant(kind, list(layout)), place, align=1)
        body.b.call(body.declared("llvm.x86.ldtilecfg", ir.FunctionType(VOID, [POINTER])), [place])

    def close(self) -> None:
        body = self._body
        body.b.call(body.declared("llvm.x86.tilerelease", ir.FunctionType(VOID, [])), [])

    def clear(self, register: int) -> None:
        body = self._body
        function = body.declared("llvm.x86.tilezero", ir.FunctionType(VOID, [I8]))
        body.b.call(function, [ir.Constant(I8, register)])

    def load(self, register: int, at: ir.Value, stride: ir.Value) -> None:
        self._move("llvm.x86.tileloadd64", register, at, stride)

    def store(self, register: int, at: ir.Value, stride: ir.Value) -> None:
        self._move("llvm.x86.tilestored64", register, at, stride)

    def multiply(self, sums: int, left: int, right: int) -> None:
        body = self._body
        function = body.declared(self._multiply, ir.FunctionType(VOID, [I8, I8, I8]))
        body.b.call(function, [ir.Constant(I8, register) for register in (sums, left, right)])

    def _move(self, name: str, register: int, at: ir.Value, stride: ir.Value) -> None:
        function = self._body.declared(name, ir.FunctionType(VOID, [I8, POINTER, I64]))
        self._body.b.call(function, [ir.Constant(I8, register), at, stride])


class Emulation:
    """Memory in the place of the registers, for tests where there are none."""

    def __init__(self, body: Body, add: Callable[[ir.Value, ir.Value, ir.Value], ir.Value]) -> None:
        """``add``: of a word of the left operand in all lanes, a row of the right one, and the sums so far."""
        self._body, self._add = body, add
        self._heights: Sequence[int] = ()
        self._memory = [body.memory(ir.ArrayType(body.vector, REGISTER_ROWS)) for _ in range(REGISTERS)]

    def open(self, heights: Sequence[int]) -> None:
        self._heights = heights

    def close(self) -> None:
        """Nothing is held."""

    def clear(self, register: int) -> None:
        for row in range(self._heights[register]):
            self._body.store(self._body.zero(), self._body.floats(self._memory[register], row * self._body.lanes))

    def load(self, register: int, at: ir.Value, stride: ir.Value) -> None:
        body = self._body
        for row in range(self._heights[register]):
            body.store(body.load(self._row(at, stride, row)), body.floats(self._memory[register], row * body.lanes))

    def store(self, register: int, at: ir.Value, stride: ir.Value) -> None:
        body = self._body
        for row in range(self._heights[register]):
            body.store(body.load(body.floats(self._memory[register], row * body.lanes)), self._row(at, stride, row))

    def multiply(self, sums: int, left: int, right: int) -> None:
        body = self._body
        with body.loop(0, constant(self._heights[sums])) as row, body.loop(0, constant(REGISTER_ROWS)) as word:
            first = body.mul(row, body.lanes)
            factor = body.splat(body.load_scalar(body.floats(self._memory[left], body.add(first, word))))
            columns = body.load(body.floats(self._memory[right], body.mul(word, body.lanes)))
            at = body.floats(self._memory[sums], first)
            body.store(self._add(factor, columns, body.load(at)), at)

    def _row(self, at: ir.Value, stride: ir.Value, row: int) -> ir.Value:
        return self._body.b.gep(at, [self._body.mul(stride, row)], source_etype=I8)


def _integer(value: ir.Value | int) -> ir.Value:
    return constant(value) if isinstance(value, int) else value
