"""Sums, differences, products and quotients of quantized numbers, with broadcasting.

Each operand less its zero point is exact.  With float32 factors, each rounded once, results are

* A + B, A - B: ``round(a * (sa / sc) ± b * (sb / sc))``
* A * B: ``round(a * b * (sa * sb / sc))``
* A / B: ``round(a / b * (sa / (sb * sc)))``

to nearest even, plus the zero point, saturated.  No multiplication and addition are done in one.  This is within one
step of quantizing the float result; of 16 bits, if an operand has no step that is more than 16 of the result's.
"""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import GraphView, Node
from mace_core.symbolic import is_symbolic, minimum
from mace_cpu.elementwise.operands import collapse
from mace_cpu.quantized.checks import numbers_with_one_scale
from mace_cpu.quantized.integer_form import BYTES, INTEGERS
from mace_cpu.quantized.layouts import best_layout, place, walked
from mace_cpu.quantized.numbers import Result, result_of, scaled
from mace_cpu.quantized.pairs import Pair
from mace_cpu.shared.checks import dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

MOST_STEPS = {8: 255, 16: 65535}
"""From any number to any zero point of its type, by its bits."""

LARGEST_FACTOR = 16
"""Steps of 16 bits times more are too large for a float32 to tell the steps of the result apart."""

LARGEST_WHOLE = 1 << 30
"""What is larger might leave int32 when it is rounded."""

LONGEST_ROW = 8192
SEGMENT = 4096

WORK = 0.5
"""Scalar operations for one element."""


def _check(view: GraphView, node: Node) -> str | None:
    reason = numbers_with_one_scale(view, node, (0, 3), (1, 4, 6), (2, 5, 7))
    if reason is not None:
        return reason
    constants = [view.constant(node.input(index)) for index in (1, 4, 6)]
    a, b, result = (np.float32(found.numpy().reshape(-1)[0]) for found in constants if found is not None)
    kind = _kind(node)
    factors = _factors(kind, a, b, result)
    if not np.isfinite(factors).all():
        return "the scales are so far apart that their quotient is not finite"
    is_wide = any(dtype_in(view, node.input(index), BYTES) is not None for index in (0, 3))
    if is_wide and kind in ("add", "sub") and max(factors) > LARGEST_FACTOR:
        return "a step of an operand of 16 bits is too many of the result's"
    return None


def _kind(node: Node) -> str:
    return node.op_type.removeprefix("QLinear").lower()


@lowers("QLinearAdd", "QLinearSub", "QLinearMul", "QLinearDiv", check=_check, domain=INTEGERS)
def lower_pair(program: Program, node: Node) -> None:
    a, b, result = scaled(program, node, 0), scaled(program, node, 3), result_of(program, node, 6)
    facts = program.facts
    shape = facts.shape(result.value)
    layout = best_layout(program, [a.value, b.value], result.value)
    placed = [place(program, operand.value, shape, layout) for operand in (a, b)]
    rows = collapse(walked(shape, layout), [strides for _, strides in placed], [1, 1], 0)
    kind = _kind(node)
    factors = _factors(kind, a.scale, b.scale, result.scale)
    pair = Pair(
        kind,
        (facts.dtype(a.value).label, facts.dtype(b.value).label),
        (rows.reads[0], rows.reads[1]),
        len(rows.outer),
        _requantization(program, result, kind, factors, max(facts.dtype(one.value).bits for one in (a, b))),
    )
    if is_symbolic(rows.length):
        segment = minimum(rows.length, SEGMENT)
    else:
        segment = rows.length if rows.length <= LONGEST_ROW else SEGMENT
    segments = -(-rows.length // segment) if segment else 0
    program.steps.emit(
        generated("mace_cpu.quantized.generate_pairs", pair.symbol, pair, words=lambda: pair.words),
        {
            "length": rows.length,
            "segment": segment,
            "segments": segments,
            "target": program.values.write(result.value, layout),
            "a": placed[0][0],
            "b": placed[1][0],
            "a_zero": float(a.zero),
            "b_zero": float(b.zero),
            "a_factor": factors[0],
            "b_factor": factors[1],
            "zero": result.zero,
            "low": result.low,
            "high": result.high,
            "outer": rows.outer,
            "a_strides": rows.strides[0],
            "b_strides": rows.strides[1],
        },
        extent=math.prod(rows.outer) * segments,
        work=facts.size(result.value) * WORK,
    )


def _factors(kind: str, a: np.float32, b: np.float32, result: np.float32) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        if kind in ("add", "sub"):
            return float(a / result), float(b / result)
        if kind == "mul":
            return float(a * b / result), 0.0
        return float(a / (b * result)), 0.0


def _requantization(
    program: Program, result: Result, kind: str, factors: tuple[float, float], bits: int
) -> Requantization:
    label = program.facts.dtype(result.value).label
    limits = np.iinfo(label)
    most = MOST_STEPS[bits]
    reach = most * (sum(factors) if kind in ("add", "sub") else most * factors[0])
    return Requantization(
        label,
        bounded=(result.low, result.high) != (limits.min, limits.max),
        far=kind != "div" and not reach < LARGEST_WHOLE,
    )
