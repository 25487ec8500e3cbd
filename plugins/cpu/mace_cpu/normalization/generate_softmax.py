"""Softmax and LogSoftmax along an axis: rows of neighboring elements, or columns taken several at a time.

Work units are rows; for columns, the outer positions.
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.rows import RowBody, larger, plus
from mace_cpu.shared.codegen.vector_basic import constant
from mace_cpu.shared.codegen.vector_math import exp_of_negative, log


def build(symbol: str, dtype: str, logarithm: bool, columns: bool, target: Target) -> str:
    """IR of the kernel for float32 or float64."""
    body = RowBody(symbol, target, dtype)
    (_columns if columns else _rows)(body, logarithm)
    return body.text()


def _rows(body: RowBody, logarithm: bool) -> None:
    b = body.b
    source, result, length = body.pointer(0), body.pointer(1), body.word(2)
    with body.loop(body.begin, body.end) as row:
        offset = body.mul(row, length)
        x, y = body.at(source, offset), body.at(result, offset)
        (top,) = body.fold(length, [float("-inf")], [larger], lambda i, rest: [body.read(x, i, rest, float("-inf"))])

        def exponential(i: ir.Value, rest: ir.Value | None) -> list[ir.Value]:
            lowered = b.fsub(body.read(x, i, rest), top)
            found = exp_of_negative(b, lowered)
            if not logarithm:
                body.write(found, y, i, rest)
            return [body.selected(found, rest, 0.0)]

        (total,) = body.fold(length, [0.0], [plus], exponential)
        if logarithm:
            shift = log(b, total)
            body.each(
                length,
                lambda i, rest: body.write(b.fsub(b.fsub(body.read(x, i, rest), top), shift), y, i, rest),
            )
        else:
            factor = _inverse(body, total)
            body.each(length, lambda i, rest: body.write(b.fmul(body.read(y, i, rest), factor), y, i, rest))


def _columns(body: RowBody, logarithm: bool) -> None:
    source, result, length, inner = body.pointer(0), body.pointer(1), body.word(2), body.word(3)
    with body.loop(body.begin, body.end) as outer:
        offset = body.mul(outer, body.mul(length, inner))
        x, y = body.at(source, offset), body.at(result, offset)
        body.each(inner, lambda i, rest: _few_columns(body, x, y, length, inner, i, rest, logarithm))


def _few_columns(
    body: RowBody,
    x: ir.Value,
    y: ir.Value,
    length: ir.Value,
    inner: ir.Value,
    column: ir.Value,
    rest: ir.Value | None,
    logarithm: bool,
) -> None:
    """A vector of neighboring columns."""
    b = body.b
    top, total = body.variable(body.vector), body.variable(body.vector)
    b.store(constant(body.vector, float("-inf")), top)
    b.store(constant(body.vector, 0.0), total)
    with body.loop(0, length) as k:
        value = body.read(x, body.add(body.mul(k, inner), column), rest)
        b.store(larger(b, body.held(top), value), top)
    highest = body.held(top)
    with body.loop(0, length) as k:
        at = body.add(body.mul(k, inner), column)
        found = exp_of_negative(b, b.fsub(body.read(x, at, rest), highest))
        if not logarithm:
            body.write(found, y, at, rest)
        b.store(b.fadd(body.held(total), found), total)
    summed = body.held(total)
    factor = log(b, summed) if logarithm else _inverse(body, summed)
    with body.loop(0, length) as k:
        at = body.add(body.mul(k, inner), column)
        if logarithm:
            body.write(b.fsub(b.fsub(body.read(x, at, rest), highest), factor), y, at, rest)
        else:
            body.write(b.fmul(body.read(y, at, rest), factor), y, at, rest)


def _inverse(body: RowBody, x: ir.Value) -> ir.Value:
    return body.b.fdiv(constant(body.vector, 1.0), x)
