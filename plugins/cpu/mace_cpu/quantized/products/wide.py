"""Products of numbers of 16 bits with known 8-bit weights: as convolutions of pixels whose channels are the steps.

See `mace_cpu.quantized.convolution`: the high and the low bytes of the numbers have sums of their own.  Products of
bytes with results of 16 bits go the same way.
"""

from __future__ import annotations

import math

from mace_core.graph import GraphView, Node
from mace_core.symbolic import is_same, is_symbolic
from mace_cpu.conv.geometry import Geometry
from mace_cpu.quantized.convolution.bytes import requantization_of, result_of_sums
from mace_cpu.quantized.convolution.dense import emit_dense
from mace_cpu.quantized.convolution.weights import DEEPEST, signed_weights_of
from mace_cpu.quantized.integer_form import BYTES, WORDS
from mace_cpu.shared.checks import dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.program.program import Program


def is_wide(view: GraphView, node: Node) -> bool:
    """Whether the left operand or the result of a QLinearMatMul or QGemm is of 16 bits."""
    return any(dtype_in(view, value, WORDS) is None for value in (node.input(0), node.output(0)))


def check_wide_product(view: GraphView, node: Node) -> str | None:
    """A reason if the operands of a wide product are none that the kernels take."""
    left, right = need(node.input(0)), need(node.input(3))
    reason = dtype_in(view, right, BYTES)
    if reason is not None:
        return reason
    if view.constant(right) is None or len(view.shape(right)) != 2:
        return "the right operand of a product of 16 bits is not one known matrix"
    if any(view.constant(node.input(index)) is None for index in (2, 5)):
        return "its zero points are not known before the run"
    shape = view.shape(left)
    if (
        view.constant(left) is not None
        or len(shape) < 2
        or any(is_same(size, 0) for size in (*shape, *view.shape(right)))
    ):
        return "its left operand is known, a vector, or has no elements"
    if is_symbolic(shape[-1]) or shape[-1] > DEEPEST:
        return f"its sums have more than {DEEPEST} terms, or nobody knows how many"
    return None


def emit_wide_product(program: Program, node: Node, *, bias: int, result: tuple[int, int], transposed: bool) -> None:
    """Emit a product that `check_wide_product` takes.

    Args:
        bias: the input with the bias.
        result: the inputs with the scale and the zero point of the result.
        transposed: the right operand lies as (columns, steps).
    """
    facts = program.facts
    left = need(node.input(0))
    array, left_zero, right_zero = (facts.constant_of(node.input(index)) for index in (3, 2, 5))
    assert array is not None
    assert left_zero is not None
    weights = signed_weights_of((array if transposed else array.T)[:, :, None, None], right_zero)
    columns, steps = weights.bytes.shape[:2]
    rows = math.prod(facts.shape(left)[:-1])
    numbers = requantization_of(program, node, columns, weights.largest, (1, 4, *result), bias)
    if numbers is None:
        raise ValueError(f"node '{node.name}' multiplies what the kernels for 16 bits do not cover")
    finished, _, place = result_of_sums(program, node, numbers, Layout.PLAIN, -1)
    one = (1, 1)
    geometry = Geometry(1, steps, columns, 1, (rows, 1), one, (rows, 1), one, one, (0, 0))
    zeros = b"" if right_zero is None else right_zero.tobytes()
    emit_dense(
        program,
        geometry,
        left,
        weights,
        (array, ("wide product", transposed, zeros)),
        finished,
        place,
        int(left_zero.reshape(-1)[0]),
        layout=Layout.PLAIN,
    )
