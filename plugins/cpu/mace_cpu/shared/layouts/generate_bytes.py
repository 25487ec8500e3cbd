"""Transposes of bytes, or of words of 16 bits, in registers: squares of 16 x 16, and a few rows woven into one or taken
apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from mace_cpu.shared.codegen.body import I8, Body, constant

SQUARE = 16
"""Rows and columns of what is exchanged at a time."""

MOST_WOVEN = 4
"""Up to so many rows (the channels of a picture) are woven directly: a square would be mostly empty."""

Address = Callable[[ir.Value, ir.Value], ir.Value]
"""Of the element at a row and a column."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Indices ``first`` to ``last`` of an axis of ``size``."""

    first: ir.Value
    last: ir.Value
    size: ir.Value


def transpose_bytes(
    body: Body, source: Address, target: Address, rows: Stretch, columns: Stretch, kind: ir.IntType = I8
) -> None:
    """``target(r, c) = source(c, r)``; the last index of both names elements that lie next to each other.

    The last square of an axis is moved back, so that none is incomplete: some elements are moved twice.

    Args:
        kind: of an element, of 8 or 16 bits.
    """
    b = body.b
    whole = b.and_(*(b.icmp_signed(">=", axis.size, constant(SQUARE)) for axis in (rows, columns)))
    with b.if_else(whole) as (then, otherwise):
        with (
            then,
            body.loop(rows.first, rows.last, SQUARE) as wanted_row,
            body.loop(columns.first, columns.last, SQUARE) as wanted_column,
        ):
            row = body.minimum(wanted_row, body.sub(rows.size, constant(SQUARE)))
            column = body.minimum(wanted_column, body.sub(columns.size, constant(SQUARE)))
            taken = [_load(body, source(body.add(column, i), row), kind) for i in range(SQUARE)]
            for i, vector in enumerate(_turned(body, taken)):
                b.store(vector, target(body.add(row, i), column), align=1)
        with otherwise, body.loop(rows.first, rows.last) as row, body.loop(columns.first, columns.last) as column:
            b.store(b.load(source(column, row), typ=kind, align=1), target(row, column), align=1)


def weave_rows(
    body: Body,
    count: int,
    source: Address,
    target: ir.Value,
    first: ir.Value,
    last: ir.Value,
    kind: ir.IntType = I8,
) -> None:
    """Columns first <= r < last of ``count`` rows one after another: element ``r * count + c`` of ``target`` is
    ``source(c, r)``."""
    b = body.b
    whole = body.add(first, b.and_(body.sub(last, first), constant(-SQUARE)))
    with body.loop(first, whole, SQUARE) as column:
        rows = [_load(body, source(constant(c), column), kind) for c in range(count)]
        lanes = [(i % count) * SQUARE + i // count for i in range(count * SQUARE)]
        at = body.mul(column, count)
        for part, vector in enumerate(_picked(body, rows, lanes)):
            b.store(vector, _element(body, target, body.add(at, part * SQUARE), kind), align=1)
    with body.loop(whole, last) as column:
        for c in range(count):
            value = b.load(source(constant(c), column), typ=kind, align=1)
            b.store(value, _element(body, target, body.add(body.mul(column, count), c), kind), align=1)


def unweave_rows(
    body: Body,
    count: int,
    source: ir.Value,
    target: Address,
    first: ir.Value,
    last: ir.Value,
    kind: ir.IntType = I8,
) -> None:
    """The other way: ``target(c, r)`` is element ``r * count + c`` of ``source``, for first <= r < last."""
    b = body.b
    whole = body.add(first, b.and_(body.sub(last, first), constant(-SQUARE)))
    with body.loop(first, whole, SQUARE) as column:
        at = body.mul(column, count)
        parts = [_load(body, _element(body, source, body.add(at, part * SQUARE), kind), kind) for part in range(count)]
        lanes = [(i % SQUARE) * count + i // SQUARE for i in range(count * SQUARE)]
        for c, vector in enumerate(_picked(body, parts, lanes)):
            b.store(vector, target(constant(c), column), align=1)
    with body.loop(whole, last) as column:
        for c in range(count):
            value = b.load(_element(body, source, body.add(body.mul(column, count), c), kind), typ=kind, align=1)
            b.store(value, target(constant(c), column), align=1)


def _load(body: Body, at: ir.Value, kind: ir.IntType) -> ir.Value:
    return body.b.load(at, typ=ir.VectorType(kind, SQUARE), align=1)


def _element(body: Body, base: ir.Value, index: ir.Value, kind: ir.IntType) -> ir.Value:
    return body.b.gep(base, [index], inbounds=True, source_etype=kind)


def _turned(body: Body, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """The columns of a square: four rounds in which rows that are half of it apart are interleaved."""
    half = SQUARE // 2
    low = [lane // 2 + (lane % 2) * SQUARE for lane in range(SQUARE)]
    high = [lane + half for lane in low]
    turned = list(rows)
    for _ in range(SQUARE.bit_length() - 1):
        pairs = [(turned[i], turned[i + half]) for i in range(half)]
        turned = [body.shuffle(left, right, lanes) for left, right in pairs for lanes in (low, high)]
    return turned


def _picked(body: Body, rows: Sequence[ir.Value], lanes: Sequence[int]) -> list[ir.Value]:
    """As many vectors made of the elements of ``rows``, numbered one row after another."""
    result = []
    for start in range(0, len(lanes), SQUARE):
        wanted = lanes[start : start + SQUARE]
        vector = ir.Constant(rows[0].type, ir.Undefined)
        for number, row in enumerate(rows):
            own = range(number * SQUARE, (number + 1) * SQUARE)
            mask = [lane - own.start + SQUARE if lane in own else i for i, lane in enumerate(wanted)]
            vector = body.shuffle(vector, row, mask)
        result.append(vector)
    return result
