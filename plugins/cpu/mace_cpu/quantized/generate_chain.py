"""Operations in float32 on bytes, rounded to bytes again: a row of channels, a vector of bytes at a time."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.chain_variant import HEAD, Chain
from mace_cpu.shared.codegen.body import I8, I32, Body, constant
from mace_cpu.shared.codegen.vector_basic import splat
from mace_cpu.shared.epilogue.generate_requantize import FloatLoads, RequantizeCode, ShortAccess

NAMES = HEAD.split()


def build(symbol: str, variant: Chain, target: Target) -> str:
    """IR; one unit is some rows."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    code = _Rows(body, variant, is_x86=target.architecture == "x86_64")
    unit_rows, rows = code.words["unit_rows"], code.words["rows"]
    start, stop = body.mul(body.begin, unit_rows), body.minimum(body.mul(body.end, unit_rows), rows)
    with body.loop(start, stop) as row:
        code.emit_row(body.mul(row, code.words["columns"]))
    return body.text()


class _Rows:
    """The code while it is emitted."""

    def __init__(self, body: Body, variant: Chain, *, is_x86: bool) -> None:
        self.body, self.variant = body, variant
        self.source, self.target = body.pointer(0), body.pointer(1)
        self.words = {name: body.word(i) for i, name in enumerate(NAMES[2:6], 2)}
        self.factor = body.splat(body.number(6))
        self.code = RequantizeCode(body, len(NAMES), variant.spec, is_x86=is_x86)
        self.width = variant.vectors * body.lanes
        self.bytes, self.ints = ir.VectorType(I8, self.width), ir.VectorType(I32, body.lanes)
        self.zero = splat(body.b, body.b.trunc(self.words["zero"], I32), self.ints)
        self.whole, self.some = (ShortAccess(body, self.width, partial=partial) for partial in (False, True))

    def emit_row(self, start: ir.Value) -> None:
        """All columns of a row; the last vector is moved back, so that it is whole, if there are so many."""
        body, columns = self.body, self.words["columns"]
        last = body.sub(columns, constant(self.width))
        with body.b.if_else(body.less(last, 0)) as (then, otherwise):
            with then:
                self._emit_columns(start, constant(0), self.some, columns)
            with otherwise, body.loop(0, columns, self.width) as column:
                self._emit_columns(start, body.minimum(column, last), self.whole, constant(self.width))

    def _emit_columns(self, start: ir.Value, column: ir.Value, access: ShortAccess, valid: ir.Value) -> None:
        body, b = self.body, self.body.b
        place = body.add(start, column)
        widen = b.sext if self.variant.source == "int8" else b.zext
        codes = access.load(self._at(self.source, place), self.bytes, valid)
        is_whole = access is self.whole
        distances = []
        for v in range(self.variant.vectors):
            own = body.shuffle(codes, codes, list(range(v * body.lanes, (v + 1) * body.lanes)))
            distances.append(b.sub(widen(own, self.ints), self.zero))

        def tensor(base: ir.Value, v: int) -> ir.Value:
            at = body.floats(base, body.add(place, v * body.lanes))
            return body.load(at) if is_whole else body.load_some(at, body.sub(valid, constant(v * body.lanes)))

        floats = FloatLoads(lambda base, v: body.load(body.floats(base, body.add(column, v * body.lanes))), tensor)
        arguments = (
            distances,
            lambda v: self.factor,
            lambda v: body.zero(),
            lambda base, kind: access.load(self._at(base, place), kind, valid),
            floats,
        )
        if self.variant.spec.is_quantized:
            found = self.code.to_numbers(*arguments[:4], floats=floats)
            access.store(found, self._at(self.target, place), valid)
            return
        for v, number in enumerate(self.code.to_floats(*arguments)):
            at = body.floats(self.target, body.add(place, v * body.lanes))
            if is_whole:
                body.store(number, at)
            else:
                body.store_some(number, at, body.sub(valid, constant(v * body.lanes)))

    def _at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=I8)
