"""Attention of a single query for each head: softmax(scale * q K^T + mask) V, keys and values read where they lie.

For one query, bringing keys and values into panels would take longer than all the rest: each is read once.
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.attention.arguments import RowArg
from mace_cpu.attention.generate import weigh
from mace_cpu.shared.codegen.body import constant
from mace_cpu.shared.codegen.rows import RowBody

TABLES = (RowArg.QUERY_STARTS, RowArg.KEY_STARTS, RowArg.VALUE_STARTS, RowArg.OUTPUT_STARTS, RowArg.MASK_STARTS)
POINTERS = (RowArg.QUERY, RowArg.KEY, RowArg.VALUE, RowArg.OUTPUT, RowArg.MASK, RowArg.SCRATCH, *TABLES)
SUMS = 8
"""Vectors of a result that are summed up side by side, of different columns or of different values."""


def build(symbol: str, wide: int, mask: bool, empty: bool, target: Target) -> str:
    """IR of the kernel; a unit is a product.  ``wide``: vectors of columns at a time; ``mask``, ``empty``: as
    `Variant` has them."""
    return _SingleQuery(symbol, wide, mask, empty, target).emit()


class _SingleQuery:
    def __init__(self, symbol: str, wide: int, mask: bool, empty: bool, target: Target) -> None:
        self.wide, self.mask, self.empty = wide, mask, empty
        self.body = body = RowBody(symbol, target, "float32")
        self.words: dict[RowArg, ir.Value] = {
            arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in RowArg if arg != RowArg.SCALE
        }
        self.scale = body.real(RowArg.SCALE)

    def emit(self) -> str:
        body, words = self.body, self.words
        scores = body.floats(words[RowArg.SCRATCH], body.mul(body.chunk, words[RowArg.SCRATCH_STEP]))
        with body.loop(body.begin, body.end) as product:
            self._scores(product, scores)
            mask = self._of(RowArg.MASK, RowArg.MASK_STARTS, product) if self.mask else None
            inverse = weigh(body, scores, mask, words[RowArg.KEYS], empty=self.empty)
            self._mix(product, scores, inverse)
        return body.text()

    def _of(self, base: RowArg, starts: RowArg, product: ir.Value) -> ir.Value:
        """Where the part of an operand begins that belongs to a product."""
        return self.body.floats(self.words[base], self.body.table_entry(self.words[starts], product))

    def _scores(self, product: ir.Value, scores: ir.Value) -> None:
        body, step, lanes = self.body, self.words[RowArg.KEY_STEP], self.body.lanes
        query = self._of(RowArg.QUERY, RowArg.QUERY_STARTS, product)
        keys = self._of(RowArg.KEY, RowArg.KEY_STARTS, product)
        count = self.words[RowArg.KEYS]
        whole = body.sub(count, body.b.urem(count, constant(lanes)))
        with body.loop(0, whole, lanes) as first:
            rows = [body.floats(keys, body.mul(body.add(first, i), step)) for i in range(lanes)]
            sums = _across_each(body, self._dots(query, rows))
            body.store(body.b.fmul(sums, self.scale), body.floats(scores, first))
        with body.loop(whole, count) as key:
            (dot,) = self._dots(query, [body.floats(keys, body.mul(key, step))])
            total = body.b.fmul(body.across(dot, lambda b, x, y: b.fadd(x, y)), self.scale)
            body.b.store(body.first_lane(total), body.floats(scores, key), align=4)

    def _dots(self, query: ir.Value, rows: list[ir.Value]) -> list[ir.Value]:
        """For each row, vectors of products with the query, summed over its length."""
        body = self.body
        sums = [body.variable(body.vector) for _ in rows]
        for cell in sums:
            body.b.store(body.zero(), cell)

        def step(index: ir.Value, rest: ir.Value | None) -> None:
            left = body.read(query, index, rest)
            for row, cell in zip(rows, sums, strict=True):
                body.b.store(body.multiply_add(body.read(row, index, rest), left, body.held(cell)), cell)

        body.each(self.words[RowArg.DEPTH], step)
        return [body.held(cell) for cell in sums]

    def _mix(self, product: ir.Value, weights: ir.Value, inverse: ir.Value) -> None:
        body, columns = self.body, self.words[RowArg.COLUMNS]
        values = self._of(RowArg.VALUE, RowArg.VALUE_STARTS, product)
        output = self._of(RowArg.OUTPUT, RowArg.OUTPUT_STARTS, product)
        width = self.wide * body.lanes
        whole = body.sub(columns, body.b.urem(columns, constant(width)))
        with body.loop(0, whole, width) as column:
            self._some_columns(values, weights, inverse, output, column, self.wide, None)
        rest = body.b.urem(columns, constant(body.lanes))
        last = body.sub(columns, rest)
        with body.loop(whole, last, body.lanes) as column:
            self._some_columns(values, weights, inverse, output, column, 1, None)
        with body.b.if_then(body.b.icmp_signed(">", rest, constant(0))):
            self._some_columns(values, weights, inverse, output, last, 1, rest)

    def _some_columns(
        self,
        values: ir.Value,
        weights: ir.Value,
        inverse: ir.Value,
        output: ir.Value,
        column: ir.Value,
        wide: int,
        rest: ir.Value | None,
    ) -> None:
        """``wide`` vectors of the result, or the first ``rest`` lanes of one."""
        body, b, step, count = self.body, self.body.b, self.words[RowArg.VALUE_STEP], self.words[RowArg.KEYS]
        turns = SUMS // wide
        sums = [[body.variable(body.vector) for _ in range(wide)] for _ in range(turns)]
        for cell in (cell for row in sums for cell in row):
            b.store(body.zero(), cell)

        def add(key: ir.Value, turn: int) -> None:
            weight = body.splat(body.load_scalar(body.floats(weights, key)))
            row = body.floats(values, body.add(body.mul(key, step), column))
            for part, cell in enumerate(sums[turn]):
                found = body.read(row, constant(part * body.lanes), rest)
                b.store(body.multiply_add(found, weight, body.held(cell)), cell)

        whole = body.sub(count, b.urem(count, constant(turns)))
        with body.loop(0, whole, turns) as key:
            for turn in range(turns):
                add(body.add(key, turn), turn)
        with body.loop(whole, count) as key:
            add(key, 0)
        for part in range(wide):
            totals = [body.held(row[part]) for row in sums]
            while len(totals) > 1:
                totals = [b.fadd(x, y) for x, y in zip(totals[::2], totals[1::2], strict=True)]
            place = body.add(column, part * body.lanes)
            body.write(b.fmul(totals[0], inverse), output, place, rest)


def _across_each(body: RowBody, vectors: list[ir.Value]) -> ir.Value:
    """Lane i is the sum of all lanes of vector i; there are as many as lanes."""
    distance = body.lanes // 2
    while distance:
        # two vectors become one, half of whose groups of lanes are sums of the one, half of the other
        pairs = zip(vectors[:distance], vectors[distance : 2 * distance], strict=True)
        vectors = [_halved(body, x, y, distance) for x, y in pairs]
        distance //= 2
    return vectors[0]


def _halved(body: RowBody, x: ir.Value, y: ir.Value, distance: int) -> ir.Value:
    lanes = body.lanes
    low: list[int] = []
    high: list[int] = []
    for start in range(0, lanes, 2 * distance):
        for vector in range(2):
            at = vector * lanes + start
            low += range(at, at + distance)
            high += range(at + distance, at + 2 * distance)
    return body.b.fadd(body.shuffle(x, y, low), body.shuffle(x, y, high))
