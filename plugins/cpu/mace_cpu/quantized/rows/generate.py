"""Rows of floats as bytes: the range of each, the size of a step, which byte stands for 0, and the bytes.

The formulas, operation by operation, are those of the nodes that `mace_cpu.quantized.rows.patterns` describes.  Short
rows are taken as many at a time as a vector has lanes: their ranges are brought into the lanes of one vector by a tree
of permutations, and what they are rounded by is computed for all of them at once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import F32, I8, I32, POINTER, constant
from mace_cpu.shared.codegen.rows import Combine, RowBody
from mace_cpu.shared.codegen.vector_basic import F64, shaped_like, type_suffix
from mace_cpu.shared.codegen.vector_basic import constant as number
from mace_cpu.shared.epilogue.generate_requantize import ShortAccess

ROUNDER = 12582912.0
"""1.5 * 2**23: adding and subtracting it rounds a float32 below 2**22 to nearest even."""

WIDE_ROUNDER = 6755399441055744.0
"""1.5 * 2**52: the same for float64."""

FAR_BELOW = -1e9
"""Stands for NaN where floats become integers."""

TO_UNSIGNED = 128.0
"""Bytes are unsigned here, and signed in the nodes."""


class _Rounding(NamedTuple):
    """What rows are rounded by, a row in each lane: steps per unit, the byte for 0 as a float, the size of a step."""

    per_unit: ir.Value
    zero: ir.Value
    size: ir.Value


def build(symbol: str, rule: str, vectors: int, target: Target) -> str:
    """Whole rows.  Words: source, target, zeros, sizes, length.  Unit: a row of ``length`` floats.

    ``vectors``: of which a row consists, the last one full, if they are few; else 0.
    """
    body = RowBody(symbol, target, "float32")
    lanes = body.lanes
    source, found, zeros, sizes = (body.pointer(index) for index in range(4))
    length = body.word(4)
    lows, highs = (body.memory(ir.ArrayType(F32, lanes * lanes)) for _ in range(2))
    factors, offsets = (body.memory(ir.ArrayType(F32, lanes)) for _ in range(2))
    for room in (lows, highs):  # rows that are not there are in the tree, too
        for row in range(lanes):
            body.store(body.zero(), body.floats(room, row * lanes))
    access = ShortAccess(body, lanes, partial=True)
    with body.loop(body.begin, body.end, lanes) as first:
        count = body.minimum(body.sub(body.end, first), constant(lanes))
        with body.loop(0, count) as row:
            parts = _range(body, body.at(source, body.mul(body.add(first, row), length)), length, vectors)
            for part, room in zip(parts, (lows, highs), strict=True):
                body.store(part, body.floats(room, body.mul(row, lanes)))
        low, high = (
            _gathered(body, [body.load(body.floats(room, row * lanes)) for row in range(lanes)], name)
            for room, name in ((lows, "minimum"), (highs, "maximum"))
        )
        by = _RULES[rule](body, low, high)
        body.store(by.per_unit, body.floats(factors, 0))
        body.store(by.zero, body.floats(offsets, 0))
        body.store_some(by.size, body.floats(sizes, first), count)
        access.store(_byte(body, _known(body, by.zero)), _bytes_at(body, zeros, first), count)
        with body.loop(0, count) as row:
            at = body.mul(body.add(first, row), length)
            per_unit, zero = (body.splat(body.load_scalar(body.floats(room, row))) for room in (factors, offsets))
            _store_row(
                body, access, rule, body.at(source, at), _bytes_at(body, found, at), length, per_unit, zero, vectors
            )
    return body.text()


def build_ranges(symbol: str, target: Target) -> str:
    """The least and the largest element of each piece of a row, 0 among them.

    Words: source, lows, highs, length, pieces, piece.  Unit: ``piece`` elements.
    """
    body = RowBody(symbol, target, "float32")
    source, lows, highs = (body.pointer(index) for index in range(3))
    length, pieces, piece = (body.word(index) for index in range(3, 6))
    with body.loop(body.begin, body.end) as unit:
        at, count = _piece(body, unit, length, pieces, piece)
        for part, name, target_of in zip(
            _range(body, body.at(source, at), count), ("minimum", "maximum"), (lows, highs), strict=True
        ):
            combined = body.across(part, _EXTREMES[name])
            body.b.store(body.first_lane(combined), body.at(target_of, unit), align=4)
    return body.text()


def build_parameters(symbol: str, rule: str, target: Target) -> str:
    """What rows are rounded by, from the ranges of their pieces.

    Words: lows, highs, inverses, zeros, sizes, pieces.  Unit: a row.
    """
    body = RowBody(symbol, target, "float32")
    b = body.b
    lows, highs, inverses, zeros, sizes = (body.pointer(index) for index in range(5))
    pieces = body.word(5)
    with body.loop(body.begin, body.end) as row:
        at = body.mul(row, pieces)
        low, high = (
            body.fold(
                pieces,
                [0.0],
                [_EXTREMES[name]],
                functools.partial(_ranges_at, body, body.at(room, at)),
            )[0]
            for room, name in ((lows, "minimum"), (highs, "maximum"))
        )
        by = _RULES[rule](body, low, high)
        b.store(body.first_lane(by.per_unit), body.at(inverses, row), align=4)
        b.store(body.first_lane(by.size), body.at(sizes, row), align=4)
        b.store(body.first_lane(_byte(body, _known(body, by.zero))), _bytes_at(body, zeros, row), align=1)
    return body.text()


def build_bytes(symbol: str, rule: str, target: Target) -> str:
    """The bytes of each piece of a row.

    Words: source, target, inverses, zeros, length, pieces, piece.  Unit: ``piece`` elements.
    """
    body = RowBody(symbol, target, "float32")
    b = body.b
    source, found, inverses, zeros = (body.pointer(index) for index in range(4))
    length, pieces, piece = (body.word(index) for index in range(4, 7))
    access = ShortAccess(body, body.lanes, partial=True)
    with body.loop(body.begin, body.end) as unit:
        at, count = _piece(body, unit, length, pieces, piece)
        row = b.udiv(unit, pieces)
        per_unit = body.element(inverses, row)
        zero = body.splat(b.uitofp(b.load(_bytes_at(body, zeros, row), typ=I8, align=1), F32))
        _store_row(body, access, rule, body.at(source, at), _bytes_at(body, found, at), count, per_unit, zero)
    return body.text()


def _piece(
    body: RowBody, unit: ir.Value, length: ir.Value, pieces: ir.Value, piece: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Where the elements of a piece begin, and how many they are."""
    row, part = body.divide(unit, pieces)
    start = body.mul(part, piece)
    return body.add(body.mul(row, length), start), body.minimum(piece, body.sub(length, start))


def _range(body: RowBody, x: ir.Value, length: ir.Value, vectors: int = 0) -> list[ir.Value]:
    """The least and the largest of some floats, 0 among them, still apart in lanes."""
    if vectors:
        found = [body.read(x, constant(index * body.lanes)) for index in range(vectors)]
        return [_combined(body, name, [body.zero(), *found]) for name in _EXTREMES]
    return body.fold_lanes(
        length,
        [0.0, 0.0],
        [_EXTREMES["minimum"], _EXTREMES["maximum"]],
        lambda i, rest: [body.read(x, i, rest)] * 2,
    )


def _extreme(b: ir.IRBuilder, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller or larger of two numbers, NaN if one of them is; the sign of a 0 does not matter to anything here."""
    full = f"llvm.{name}.{type_suffix(x.type)}"
    function = b.module.globals.get(full)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(x.type, [x.type, x.type]), full)
    return b.call(function, [x, y], fastmath=("nsz",))


_EXTREMES: dict[str, Combine] = {
    "minimum": lambda b, x, y: _extreme(b, "minimum", x, y),
    "maximum": lambda b, x, y: _extreme(b, "maximum", x, y),
}


def _combined(body: RowBody, name: str, values: Sequence[ir.Value]) -> ir.Value:
    """All of these, lane by lane, two and two."""
    found = list(values)
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=False)
        found = [_extreme(body.b, name, x, y) for x, y in pairs] + found[len(found) // 2 * 2 :]
    return found[0]


def _ranges_at(body: RowBody, room: ir.Value, index: ir.Value, rest: ir.Value | None) -> list[ir.Value]:
    return [body.read(room, index, rest)]


def _gathered(body: RowBody, rows: Sequence[ir.Value], name: str) -> ir.Value:
    """A vector whose lane ``i`` combines all lanes of ``rows[i]``; there are as many rows as lanes.

    In each round, two vectors become one with half as many partial results of twice as many rows: lane
    ``part * rows + row``.
    """
    lanes, held, vectors = body.lanes, 1, list(rows)
    while len(vectors) > 1:
        parts = lanes // (2 * held)
        chosen = [
            [(half * parts + part) * held + row + (lanes if other else 0)
             for part in range(parts) for other in (False, True) for row in range(held)]
            for half in (0, 1)
        ]  # fmt: skip
        vectors = [
            _extreme(body.b, name, *(body.shuffle(left, right, places) for places in chosen))
            for left, right in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        held *= 2
    return vectors[0]


def _even(body: RowBody, low: ir.Value, high: ir.Value) -> _Rounding:
    """All in float32."""
    b, kind = body.b, low.type
    span = b.fsub(high, low)
    per_unit = b.select(
        b.fcmp_ordered("==", span, number(kind, 0.0)), number(kind, 1.0), b.fdiv(number(kind, 255.0), span)
    )
    zero = _zero(b, b.fmul(low, per_unit), b.fmul(high, per_unit), ROUNDER)
    return _Rounding(per_unit, b.fadd(zero, number(kind, TO_UNSIGNED)), b.fdiv(number(kind, 1.0), per_unit))


def _away(body: RowBody, low: ir.Value, high: ir.Value) -> _Rounding:
    """Partly in float64."""
    b, kind = body.b, low.type
    wide = shaped_like(kind, F64)
    span = b.fpext(b.fsub(high, low), wide)
    is_flat = b.fcmp_ordered("==", span, number(wide, 0.0))
    step = b.select(is_flat, number(wide, 1.0), b.fdiv(span, number(wide, 255.0)))
    zero = _zero(b, b.fdiv(b.fpext(low, wide), step), b.fdiv(b.fpext(high, wide), step), WIDE_ROUNDER)
    found = b.select(is_flat, number(kind, 0.0), b.fptrunc(zero, kind))
    size = b.fptrunc(step, kind)
    return _Rounding(b.fdiv(number(kind, 1.0), size), b.fadd(found, number(kind, TO_UNSIGNED)), size)


_RULES = {"even": _even, "away": _away}
"""By how halves are rounded."""


def _zero(b: ir.IRBuilder, low: ir.Value, high: ir.Value, rounder: float) -> ir.Value:
    """The signed byte for 0, as a float, from the ends of a range in steps."""
    kind = low.type
    least, most = number(kind, -128.0), number(kind, 127.0)
    error = b.fadd(b.fadd(low, least), b.fadd(high, most))
    zero = b.select(b.fcmp_ordered(">", error, number(kind, 0.0)), b.fsub(least, low), b.fsub(most, high))
    zero = _extreme(b, "minimum", _extreme(b, "maximum", zero, least), most)
    return b.fsub(b.fadd(zero, number(kind, rounder)), number(kind, rounder))


def _store_row(
    body: RowBody,
    access: ShortAccess,
    rule: str,
    x: ir.Value,
    y: ir.Value,
    length: ir.Value,
    per_unit: ir.Value,
    zero: ir.Value,
    vectors: int = 0,
) -> None:
    """The bytes of neighboring floats."""

    def step(index: ir.Value, rest: ir.Value | None) -> None:
        found = _byte(body, _placed(body, rule, body.read(x, index, rest), per_unit, zero))
        if rest is None:
            body.b.store(found, _bytes_at(body, y, index), align=1)
        else:
            access.store(found, _bytes_at(body, y, index), rest)

    if not vectors:
        body.each(length, step)
    for index in range(vectors):
        step(constant(index * body.lanes), None)


def _placed(body: RowBody, rule: str, x: ir.Value, per_unit: ir.Value, zero: ir.Value) -> ir.Value:
    """Floats rounded to steps, from the least byte on and within bytes; NaN is the least."""
    b, kind = body.b, x.type
    steps = b.fmul(x, per_unit)
    if rule == "even":
        steps = b.fsub(b.fadd(steps, number(kind, ROUNDER)), number(kind, ROUNDER))
    else:
        is_less = b.fcmp_ordered("<", steps, number(kind, 0.0))
        moved = b.fadd(steps, b.select(is_less, number(kind, -0.5), number(kind, 0.5)))
        moved = b.select(b.fcmp_ordered("ord", moved, moved), moved, number(kind, FAR_BELOW))
        steps = b.sitofp(b.fptosi(moved, shaped_like(kind, I32)), kind)
    place = b.fadd(steps, zero)
    place = b.select(b.fcmp_ordered(">", place, number(kind, 0.0)), place, number(kind, 0.0))
    return b.select(b.fcmp_ordered("<", place, number(kind, 255.0)), place, number(kind, 255.0))


def _byte(body: RowBody, place: ir.Value) -> ir.Value:
    """Floats from 0 to 255 as bytes."""
    return body.b.trunc(body.b.fptosi(place, shaped_like(place.type, I32)), shaped_like(place.type, I8))


def _known(body: RowBody, zero: ir.Value) -> ir.Value:
    """``zero``, and 0 for NaN, of which there are no integers."""
    return body.b.select(body.b.fcmp_ordered("ord", zero, zero), zero, number(zero.type, 0.0))


def _bytes_at(body: RowBody, base: ir.Value, index: ir.Value) -> ir.Value:
    found = body.b.gep(base, [index], inbounds=True, source_etype=I8)
    assert found.type == POINTER
    return found
