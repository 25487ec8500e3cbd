"""MatMulNBits, and the products that ``pass_low_bits`` makes of DequantizeLinear and MatMul."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node
from mace_core.tensor import DType
from mace_cpu.quantized.low_bits.arguments import Form
from mace_cpu.quantized.low_bits.emit import emit_low_bits
from mace_cpu.quantized.low_bits.stored import LOW_BITS, stored_weights
from mace_cpu.quantized.low_bits.weights import Codes, Weights, unpacked
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.nodes import fixed, need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

BITS = (2, 4, 8)
SMALLEST_BLOCK = 16

ROUNDED = 4
"""The accuracy level that lets the input be rounded to 8 bits."""


def _check_product_of_blocks(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index in (0, 2, 5):
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    reason = reason or dtype_in(view, node.input(1), {DType.UINT8})
    reason = reason or dtype_in(view, node.input(3), {DType.UINT8, DType.FLOAT32})
    for index, what in ((1, "the weights"), (2, "the scales"), (3, "the zero points")):
        reason = reason or fixed(view, node, index, what)
    if reason is not None:
        return reason
    bits, block = int(node.attr("bits", 4)), int(node.attr("block_size"))
    if node.input(4) is not None:
        return "rows in another order than their groups (g_idx) are not unpacked in registers"
    if node.attr("weight_prepacked", 0):
        return "the weights are in the order of another library (weight_prepacked)"
    if bits not in BITS:
        return f"weights have {' or '.join(map(str, BITS))} bits, not {bits}"
    if block < SMALLEST_BLOCK or block % SMALLEST_BLOCK:
        return f"a block of {block} steps is not a multiple of {SMALLEST_BLOCK}"
    return None


@lowers("MatMulNBits", check=_check_product_of_blocks, domain="com.microsoft")
def lower_product_of_blocks(program: Program, node: Node) -> None:
    weights = product_of_blocks(
        program.facts.constant_of(node.input(1)),
        program.facts.constant_of(node.input(2)),
        program.facts.constant_of(node.input(3)),
        steps=int(node.attr("K")),
        columns=int(node.attr("N")),
        bits=int(node.attr("bits", 4)),
        block=int(node.attr("block_size")),
    )
    rounded = int(node.attr("accuracy_level", 0)) == ROUNDED
    emit_low_bits(program, weights, need(node.input(0)), need(node.output(0)), node.input(5), rounded=rounded)


def product_of_blocks(
    data: npt.NDArray[Any] | None,
    scales: npt.NDArray[Any] | None,
    zeros: npt.NDArray[Any] | None,
    *,
    steps: int,
    columns: int,
    bits: int,
    block: int,
) -> Weights:
    """Weights as MatMulNBits has them: (columns, blocks, bytes of a block), lowest bits first."""
    assert data is not None and scales is not None
    blocks = -(-steps // block)
    stored = data.reshape(columns, -1)
    middle = 1 << (bits - 1)

    def codes(begin: int, end: int) -> Codes:
        return unpacked(stored[begin:end], bits)[:, :steps]

    minus: npt.NDArray[Any] | None = None
    kind = ""
    if zeros is not None and zeros.dtype == np.uint8:
        whole = unpacked(zeros.reshape(columns, -1), bits)[:, :blocks].astype(np.int16) - middle
        minus, kind = (whole.astype(np.int8), "int8") if whole.any() else (None, "")
    elif zeros is not None:
        minus, kind = zeros.reshape(columns, blocks).astype(np.float32) - np.float32(middle), "float32"
    factors = np.ascontiguousarray(scales.reshape(columns, blocks), np.float32)
    read = (data, scales) if zeros is None else (data, scales, zeros)
    return Weights(Form(bits, "", kind), steps, columns, block, data, codes, factors, minus, read)


def _claims_nothing(view: GraphView, node: Node) -> str | None:
    return "only the provider itself makes such nodes"


@lowers("MatMul", "Gemm", check=_claims_nothing, domain=LOW_BITS)
def lower_stored_product(program: Program, node: Node) -> None:
    weights = stored_weights(program.facts.view, node)
    assert weights is not None
    emit_low_bits(program, weights, need(node.input(0)), need(node.output(0)), None)
