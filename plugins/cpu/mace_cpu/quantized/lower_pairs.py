"""Sums, differences, products and quotients of quantized numbers, with broadcasting.

Each operand less its zero point is exact.  With float32 factors, each rounded once, results are

* A + B, A - B: ``round(a * (sa / sc) ± b * (sb / sc))``
* A * B: ``round(a * b * (sa * sb / sc))``
* A / B: ``round(a / b * (sa / (sb * sc)))``

to nearest even, plus the zero point, saturated.  No multiplication and addition are done in one.  This is within one
step of quantizing the float result.
"""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.symbolic import is_symbolic, minimum
from mace_cpu.elementwise.expression import Expression, Operation, stride_word
from mace_cpu.elementwise.lower_chain import LONGEST_ROW, SEGMENT, elementwise_kernel
from mace_cpu.elementwise.operands import collapse
from mace_cpu.quantized.checks import bytes_with_one_scale
from mace_cpu.quantized.integer_form import INTEGERS
from mace_cpu.quantized.layouts import best_layout, place, walked
from mace_cpu.quantized.numbers import Result, Scaled, result_of, scaled
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

WORK = 8
"""Scalar operations for one element."""


def _check(view: GraphView, node: Node) -> str | None:
    return bytes_with_one_scale(view, node, (0, 3), (1, 4, 6), (2, 5, 7))


@lowers("QLinearAdd", "QLinearSub", "QLinearMul", "QLinearDiv", check=_check, domain=INTEGERS)
def lower_pair(program: Program, node: Node) -> None:
    a, b, result = scaled(program, node, 0), scaled(program, node, 3), result_of(program, node, 6)
    factors = _factors(node.op_type, a, b, result)
    numbers = [float(a.zero), float(b.zero), *factors, float(result.zero), float(result.low), float(result.high)]
    _emit(program, node.op_type, a.value, b.value, result.value, numbers)


def _factors(op_type: str, a: Scaled, b: Scaled, result: Result) -> list[float]:
    with np.errstate(over="ignore"):
        if op_type in ("QLinearAdd", "QLinearSub"):
            return [float(a.scale / result.scale), float(b.scale / result.scale)]
        if op_type == "QLinearMul":
            return [float(a.scale * b.scale / result.scale)]
        return [float(a.scale / (b.scale * result.scale))]


def _emit(program: Program, op_type: str, a: Value, b: Value, result: Value, numbers: list[float]) -> None:
    facts = program.facts
    shape = facts.shape(result)
    layout = best_layout(program, [a, b], result)
    placed = [place(program, value, shape, layout) for value in (a, b)]
    dims = walked(shape, layout)
    rows = collapse(dims, [strides for _, strides in placed], [1, 1], 0)
    constants: list[Buf] = [program.constants.put(np.array([number], np.float32)) for number in numbers]
    types = [facts.dtype(value).label for value in (a, b)]
    inputs = (*zip(types, rows.reads, strict=True), *(("float32", "s") for _ in constants))
    operations = _operations(op_type, facts.dtype(result).label)
    expression = Expression(inputs, operations, (len(operations) - 1,), len(rows.outer))
    if is_symbolic(rows.length):
        segment = minimum(rows.length, SEGMENT)
    else:
        segment = rows.length if rows.length <= LONGEST_ROW else SEGMENT
    segments = -(-rows.length // segment) if segment else 0
    program.steps.emit(
        elementwise_kernel(expression),
        {
            "length": rows.length,
            "segment": segment,
            "segments": segments,
            "outer": rows.outer,
            "outputs": [program.values.write(need(result), layout)],
            "inputs": [*(buf for buf, _ in placed), *constants],
            **{stride_word(index): strides for index, strides in enumerate(rows.strides)},
            **{stride_word(2 + index): (0,) * len(rows.outer) for index in range(len(constants))},
        },
        extent=math.prod(rows.outer) * segments,
        work=facts.size(result) * WORK,
    )


def _operations(op_type: str, target: str) -> tuple[Operation, ...]:
    """Inputs: a, b, their zero points, one or two factors, the result's zero point and bounds."""
    made: list[Operation] = []

    def apply(name: str, *arguments: int, dtype: str = "float32", parameters: tuple[str, ...] = ()) -> int:
        made.append(Operation(name, arguments, dtype, parameters))
        return len(made) - 1

    def given(index: int) -> int:
        return ~index

    a, b = (apply("sub", apply("cast", given(i), parameters=("float32",)), given(2 + i)) for i in range(2))
    if op_type in ("QLinearAdd", "QLinearSub"):
        name = "add" if op_type == "QLinearAdd" else "sub"
        value, following = apply(name, apply("mul", a, given(4)), apply("mul", b, given(5))), 6
    else:
        value, following = apply("mul", apply("mul" if op_type == "QLinearMul" else "div", a, b), given(4)), 5
    whole = apply("add", apply("round", value), given(following))
    bounded = apply("clip_high", apply("clip_low", whole, given(following + 1)), given(following + 2))
    apply("cast", bounded, dtype=target, parameters=(target,))
    return tuple(made)
