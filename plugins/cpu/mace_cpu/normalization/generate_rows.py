"""Normalizing rows by their mean and variance, or by their mean square, with a scale and a shift.

A row is ``parts`` times ``inner`` neighboring elements.  Scale and shift belong to elements (LayerNormalization: one
value per element of a row) or to parts (Instance- and GroupNormalization: one value per part, ``period`` rows sharing
no value before they repeat).
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.normalization.rows import RowNorm
from mace_cpu.shared.codegen.body import F32
from mace_cpu.shared.codegen.rows import RowBody, plus
from mace_cpu.shared.codegen.vector_basic import F64, constant, splat
from mace_cpu.shared.codegen.vector_math import sqrt


def build(symbol: str, variant: RowNorm, target: Target) -> str:
    body = RowBody(symbol, target, variant.dtype)
    source, result = body.pointer(0), body.pointer(1)
    parts, inner, period, epsilon = body.word(2), body.word(3), body.word(4), body.real(5)
    optional = iter(range(6, 10))
    scale = body.pointer(next(optional)) if variant.scale else None
    shift = body.pointer(next(optional)) if variant.shift else None
    mean_out = body.pointer(next(optional)) if variant.mean else None
    inverse_out = body.pointer(next(optional)) if variant.inverse else None
    length = body.mul(parts, inner)
    with body.loop(body.begin, body.end) as row:
        offset = body.mul(row, length)
        x, y = body.at(source, offset), body.at(result, offset)
        mean, inverse = _statistics(body, variant, x, length, epsilon)
        for out, value in ((mean_out, mean), (inverse_out, inverse)):
            if out is not None and value is not None:
                _store_number(body, variant.statistics or variant.dtype, body.first_lane(value), out, row)
        if variant.per_part:
            first = body.mul(body.b.urem(row, period), parts)
            with body.loop(0, parts) as part:
                at = body.mul(part, inner)
                factor = None if scale is None else body.element(scale, body.add(first, part))
                term = None if shift is None else body.element(shift, body.add(first, part))
                _write_part(body, body.at(x, at), body.at(y, at), inner, mean, inverse, factor, term)
        else:
            _write_elements(body, x, y, length, mean, inverse, scale, shift)
    return body.text()


def _store_number(body: RowBody, dtype: str, value: ir.Value, base: ir.Value, index: ir.Value) -> None:
    """Store one number of the rows' type at ``base[index]`` as ``dtype``."""
    kind, itemsize = (F64, 8) if dtype == "float64" else (F32, 4)
    if itemsize < body.itemsize:
        value = body.b.fptrunc(value, kind)
    elif itemsize > body.itemsize:
        value = body.b.fpext(value, kind)
    body.b.store(value, body.b.gep(base, [index], inbounds=True, source_etype=kind), align=itemsize)


def _statistics(
    body: RowBody, variant: RowNorm, x: ir.Value, length: ir.Value, epsilon: ir.Value
) -> tuple[ir.Value | None, ir.Value]:
    """The mean (None where rows are not centered) and the factor that normalizes, in all lanes."""
    b = body.b
    one = constant(body.vector, 1.0)
    share = b.fdiv(one, splat(b, b.sitofp(length, body.scalar), body.vector))
    mean: ir.Value | None = None
    if variant.centered:
        (total,) = body.fold(length, [0.0], [plus], lambda i, rest: [body.read(x, i, rest)])
        mean = b.fmul(total, share)

    def square(i: ir.Value, rest: ir.Value | None) -> list[ir.Value]:
        value = body.read(x, i, rest)
        if mean is not None:
            value = body.selected(b.fsub(value, mean), rest, 0.0)
        return [b.fmul(value, value)]

    (squares,) = body.fold(length, [0.0], [plus], square)
    variance = b.fmul(squares, share)
    if variant.deviation_epsilon:
        return mean, b.fdiv(one, b.fadd(sqrt(b, variance), epsilon))
    return mean, b.fdiv(one, sqrt(b, b.fadd(variance, epsilon)))


def _write_elements(
    body: RowBody,
    x: ir.Value,
    y: ir.Value,
    length: ir.Value,
    mean: ir.Value | None,
    inverse: ir.Value,
    scale: ir.Value | None,
    shift: ir.Value | None,
) -> None:
    b = body.b

    def step(i: ir.Value, rest: ir.Value | None) -> None:
        value = body.read(x, i, rest)
        value = b.fmul(value if mean is None else b.fsub(value, mean), inverse)
        if scale is not None:
            value = b.fmul(value, body.read(scale, i, rest))
        if shift is not None:
            value = b.fadd(value, body.read(shift, i, rest))
        body.write(value, y, i, rest)

    body.each(length, step)


def _write_part(
    body: RowBody,
    x: ir.Value,
    y: ir.Value,
    inner: ir.Value,
    mean: ir.Value | None,
    inverse: ir.Value,
    factor: ir.Value | None,
    term: ir.Value | None,
) -> None:
    b = body.b
    slope = inverse if factor is None else b.fmul(inverse, factor)

    def step(i: ir.Value, rest: ir.Value | None) -> None:
        value = body.read(x, i, rest)
        value = b.fmul(value if mean is None else b.fsub(value, mean), slope)
        body.write(value if term is None else b.fadd(value, term), y, i, rest)

    body.each(inner, step)
