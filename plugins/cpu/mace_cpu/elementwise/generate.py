"""One kernel for a whole expression of elementwise operations, for any shapes.

The kernel walks *rows*: stretches of the output along its innermost (collapsed) dimension, each read from every input
with step 1, or as one element for all (broadcast), or as one vector for all (a block of channels).  Longer rows are cut
into segments.  Work units are segments.

Argument words: `Expression.words`.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.elementwise.expression import CONTIGUOUS, HEADER_WORDS, ONE_BLOCK, Expression
from mace_cpu.elementwise.generate_operations import emit
from mace_cpu.shared.codegen.body import POINTER, Body, constant
from mace_cpu.shared.codegen.element_types import bit_width, load, register_type, round_to, store
from mace_cpu.shared.codegen.vector_basic import allow_features, splat

MOST_LANES = 32


def build(symbol: str, expression: Expression, target: Target) -> str:
    types = {expression.dtype(i) for i in range(len(expression.operations))} | {t for t, _ in expression.inputs}
    widest = max(32 if t in ("float16", "bfloat16") else bit_width(t) for t in types)
    lanes = expression.block or min(target.vector_bits // widest, MOST_LANES)
    body = Body(symbol, lanes)
    allow_features(body.module, target.features)
    words = _Words(body, expression)
    length, segment, segments = (body.word(i) for i in range(len(HEADER_WORDS)))
    with body.loop(body.begin, body.end) as unit:
        row, part = body.divide(unit, segments)
        rows = words.rows(body, row)
        results_at = words.result_rows(body, expression, row)
        start = body.mul(part, segment)
        stop = body.minimum(body.add(start, segment), length)
        heads = _row_heads(body, expression, rows, lanes)
        whole = body.sub(stop, body.b.urem(body.sub(stop, start), constant(lanes)))
        with body.loop(start, whole, lanes) as index:
            _evaluate(body, expression, rows, heads, results_at, index, lanes)
        if not expression.block:
            _rest(body, expression, rows, heads, results_at, whole, stop, lanes)
    return body.text()


def _rest(
    body: Body,
    expression: Expression,
    rows: Sequence[ir.Value],
    heads: Sequence[ir.Value | None],
    results_at: Sequence[ir.Value],
    whole: ir.Value,
    stop: ir.Value,
    lanes: int,
) -> None:
    """The elements after the last whole vector: once more the row's last vector, or one by one in a short row."""
    last = body.sub(stop, constant(lanes))
    something = body.less(whole, stop)
    is_long = body.b.icmp_signed(">=", stop, constant(lanes))
    once = body.b.select(body.b.and_(something, is_long), body.add(last, 1), last)
    with body.loop(last, once) as index:
        _evaluate(body, expression, rows, heads, results_at, index, lanes)
    singles = body.b.select(is_long, stop, whole)
    with body.loop(singles, stop) as index:
        _evaluate(body, expression, rows, heads, results_at, index, 0)


class _Words:
    """Argument words loaded once, before the loop over units."""

    def __init__(self, body: Body, expression: Expression) -> None:
        self.length = body.word(0)
        at = len(HEADER_WORDS)
        self.outer = [body.word(at + i) for i in range(expression.outer)]
        at += expression.outer
        self.outputs = [body.pointer(at + i) for i in range(len(expression.outputs))]
        at += len(expression.outputs)
        self.inputs = [body.word(at + i) for i in range(len(expression.inputs))]
        at += len(expression.inputs)
        self.strides = [
            [body.word(at + i * expression.outer + j) for j in range(expression.outer)]
            for i in range(len(expression.inputs))
        ]

    def rows(self, body: Body, row: ir.Value) -> list[ir.Value]:
        """The address of each input's part of a row."""
        addresses = list(self.inputs)
        left = row
        for axis in reversed(range(len(self.outer))):
            if axis:
                left, position = body.divide(left, self.outer[axis])
            else:
                position = left
            addresses = [
                body.add(address, body.mul(position, strides[axis]))
                for address, strides in zip(addresses, self.strides, strict=True)
            ]
        return [body.b.inttoptr(address, POINTER) for address in addresses]

    def result_rows(self, body: Body, expression: Expression, row: ir.Value) -> list[ir.Value]:
        """The address of each output's part of a row."""
        start = body.mul(row, self.length)
        return [
            body.b.gep(
                address,
                [start],
                inbounds=True,
                source_etype=ir.IntType(bit_width(expression.operations[output].dtype)),
            )
            for output, address in zip(expression.outputs, self.outputs, strict=True)
        ]


def _row_heads(body: Body, expression: Expression, rows: Sequence[ir.Value], lanes: int) -> list[ir.Value | None]:
    """What is read once per row: the one element, or the one block, of inputs that do not vary along it."""
    heads: list[ir.Value | None] = []
    for (dtype, how), address in zip(expression.inputs, rows, strict=True):
        if how == CONTIGUOUS:
            heads.append(None)
        else:
            heads.append(load(body.b, address, dtype, lanes if how == ONE_BLOCK else 0))
    return heads


def _evaluate(
    body: Body,
    expression: Expression,
    rows: Sequence[ir.Value],
    heads: Sequence[ir.Value | None],
    results_at: Sequence[ir.Value],
    index: ir.Value,
    lanes: int,
) -> None:
    """Compute and store ``lanes`` elements (0: one, as a scalar) at ``index`` of a row."""
    builder = body.b

    def place(base: ir.Value, position: ir.Value, dtype: str) -> ir.Value:
        return builder.gep(base, [position], inbounds=True, source_etype=ir.IntType(bit_width(dtype)))

    loaded: list[ir.Value] = []
    for (dtype, _), address, head in zip(expression.inputs, rows, heads, strict=True):
        if head is None:
            loaded.append(load(builder, place(address, index, dtype), dtype, lanes))
        else:
            loaded.append(splat(builder, head, register_type(dtype, lanes)))
    results: list[ir.Value] = []
    for operation in expression.operations:
        arguments = [results[a] if a >= 0 else loaded[~a] for a in operation.arguments]
        kind = expression.dtype(operation.arguments[1 if operation.name == "select" else 0])
        value = emit(builder, operation.name, arguments, kind, operation.parameters)
        results.append(round_to(builder, value, operation.dtype))
    for output, address in zip(expression.outputs, results_at, strict=True):
        dtype = expression.operations[output].dtype
        store(builder, results[output], place(address, index, dtype), dtype)
