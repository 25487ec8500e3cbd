"""Products of the provider's own integer form: with bounds and biases, and with results of floats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.symbolic import is_same
from mace_cpu.quantized.integer_form import BYTES, INTEGERS
from mace_cpu.quantized.products.bytes import emit_quantized_gemm, emit_quantized_product
from mace_cpu.quantized.products.wide import check_wide_product, emit_wide_product, is_wide
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


def _check_product(view: GraphView, node: Node) -> str | None:
    reason = _check_operands(view, node)
    return reason or _check_numbers(view, node, view.shape(need(node.input(3)))[-1], bias=8, result=(6, 7))


def _check_gemm(view: GraphView, node: Node) -> str | None:
    reason = _check_operands(view, node)
    if reason is None and (node.attr("transA", 0) or node.attr("alpha", 1.0) != 1):
        return "the left operand is transposed, or the product is scaled"
    turned = bool(node.attr("transB", 0))
    if reason is None and turned and view.constant(node.input(3)) is None:
        return "the right operand is transposed and not constant"
    columns = 0 if reason is not None else view.shape(need(node.input(3)))[0 if turned else 1]
    return reason or _check_numbers(view, node, columns, bias=6, result=(7, 8))


def _check_operands(view: GraphView, node: Node) -> str | None:
    if is_wide(view, node):
        return all_concrete(view, node) or check_wide_product(view, node)
    reason = all_concrete(view, node) or dtype_in(view, node.output(0), BYTES | FLOAT32)
    for index in (0, 2, 3, 5):
        reason = reason or dtype_in(view, node.input(index), BYTES)
    if reason is None and min(len(view.shape(need(node.input(index)))) for index in (0, 3)) < 2:
        return "one of the operands is a vector"
    return reason


def _check_numbers(view: GraphView, node: Node, columns: int, *, bias: int, result: tuple[int, int]) -> str | None:
    """A reason if scales, zero points or the bias are not known, or neither one number nor one per column."""
    is_real = node.input(result[0]) is None
    for index in (1, 2, *(() if is_real else result)):
        found = view.constant(node.input(index))
        if found is None or found.size != 1:
            return f"input {index} is not one constant"
    for index in (4, 5, *([bias] if node.input(bias) is not None else [])):
        found = view.constant(node.input(index))
        if found is None or (found.size != 1 and not is_same(found.size, columns)) or len(found.shape) > 1:
            return f"input {index} is not a constant with one element, or one for each column"
    left, right = (_floats(view, node, index) for index in (1, 4))
    scale = np.ones(1, np.float32) if is_real else _floats(view, node, result[0])
    with np.errstate(all="ignore"):
        scales = left * right / scale
        offset = _floats(view, node, bias) / scale if node.input(bias) is not None else scale
    if not np.isfinite(scales).all() or not np.isfinite(offset).all():
        return "the scales are so far apart that their quotient is not finite"
    return None


def _floats(view: GraphView, node: Node, index: int) -> npt.NDArray[np.float32]:
    found = view.constant(node.input(index))
    assert found is not None
    return np.asarray(found.numpy().reshape(-1), np.float32)


@lowers("QLinearMatMul", check=_check_product, domain=INTEGERS)
def lower_product(program: Program, node: Node) -> None:
    if is_wide(program.facts.view, node):
        emit_wide_product(program, node, bias=8, result=(6, 7), transposed=False)
    elif not emit_quantized_product(program, node):
        raise ValueError(f"node '{node.name}' multiplies what the kernels for bytes do not cover")


@lowers("QGemm", check=_check_gemm, domain=INTEGERS)
def lower_gemm(program: Program, node: Node) -> None:
    if is_wide(program.facts.view, node):
        emit_wide_product(program, node, bias=6, result=(7, 8), transposed=bool(node.attr("transB", 0)))
    elif not emit_quantized_gemm(program, node):
        raise ValueError(f"node '{node.name}' multiplies what the kernels for bytes do not cover")
