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
from mace_cpu.quantized.low_bits.weights import Codes, Weights, by_blocks, is_worth_packing, unpacked
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.nodes import fixed, need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

BITS = (2, 4, 8)

ROUNDED = 4
"""The accuracy level that lets the input be rounded to 8 bits."""


def _check_product_of_blocks(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index in (0, 2, 5):
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    reason = reason or dtype_in(view, node.input(1), {DType.UINT8})
    reason = reason or dtype_in(view, node.input(3), {DType.UINT8, DType.FLOAT32})
    for index, what in ((1, "the weights"), (2, "the scales"), (3, "the zero points"), (4, "g_idx")):
        reason = reason or fixed(view, node, index, what)
    if reason is not None:
        return reason
    bits, block = int(node.attr("bits", 4)), int(node.attr("block_size"))
    if node.attr("weight_prepacked", 0):
        return "the weights are in the order of another library (weight_prepacked)"
    if bits not in BITS:
        return f"weights have {' or '.join(map(str, BITS))} bits, not {bits}"
    return _check_groups(view, node, bits, block)


def _check_groups(view: GraphView, node: Node, bits: int, block: int) -> str | None:
    """A reason if the blocks of rows (g_idx) are none, or so small that floats take less memory."""
    steps = int(node.attr("K"))
    groups = view.constant(node.input(4))
    if groups is None and (block % Form(bits).group == 0 or block >= steps):
        return None
    numbers = _numbers(None if groups is None else groups.numpy(), steps, block)
    if numbers.min() < 0 or numbers.max() >= -(-steps // block):
        return "its rows are of blocks that there are not (g_idx)"
    order, _, owners = by_blocks(numbers, Form(bits))
    if not is_worth_packing(order.size, steps, owners.size, Form(bits)):
        return "so few rows share a scale that floats take less memory"
    return None


def _numbers(groups: npt.NDArray[Any] | None, steps: int, block: int) -> npt.NDArray[np.int64]:
    """The block of each step."""
    if groups is None:
        return np.arange(steps) // block
    return groups.reshape(-1)[:steps].astype(np.int64)


@lowers("MatMulNBits", check=_check_product_of_blocks, domain="com.microsoft")
def lower_product_of_blocks(program: Program, node: Node) -> None:
    weights = product_of_blocks(
        program.facts.constant_of(node.input(1)),
        program.facts.constant_of(node.input(2)),
        program.facts.constant_of(node.input(3)),
        program.facts.constant_of(node.input(4)),
        steps=int(node.attr("K")),
        columns=int(node.attr("N")),
        bits=int(node.attr("bits", 4)),
        block=int(node.attr("block_size")),
    )
    # onnxruntime does not round where g_idx says another order
    rounded = int(node.attr("accuracy_level", 0)) == ROUNDED and node.input(4) is None
    emit_low_bits(program, weights, need(node.input(0)), need(node.output(0)), node.input(5), rounded=rounded)


def product_of_blocks(
    data: npt.NDArray[Any] | None,
    scales: npt.NDArray[Any] | None,
    zeros: npt.NDArray[Any] | None,
    groups: npt.NDArray[Any] | None = None,
    *,
    steps: int,
    columns: int,
    bits: int,
    block: int,
) -> Weights:
    """Weights as MatMulNBits has them: (columns, blocks, bytes of a block), lowest bits first.

    ``groups``: the block whose scale and zero point each step has, if it is not the one that it lies in.
    """
    assert data is not None and scales is not None
    blocks = -(-steps // block)
    stored = data.reshape(columns, blocks, -1)
    middle = 1 << (bits - 1)

    def codes(begin: int, end: int) -> Codes:
        return unpacked(stored[begin:end], bits)[:, :, :block].reshape(end - begin, -1)[:, :steps]

    minus: npt.NDArray[Any] | None = None
    kind = ""
    if zeros is not None and zeros.dtype == np.uint8:
        whole = unpacked(zeros.reshape(columns, -1), bits)[:, :blocks].astype(np.int16) - middle
        minus, kind = (whole.astype(np.int8), "int8") if whole.any() else (None, "")
    elif zeros is not None:
        minus, kind = zeros.reshape(columns, blocks).astype(np.float32) - np.float32(middle), "float32"
    factors = np.ascontiguousarray(scales.reshape(columns, blocks), np.float32)
    read = (data, scales) if zeros is None else (data, scales, zeros)
    form, order, size = Form(bits, "", kind), None, block
    if groups is None and block >= steps:
        size = -(-steps // form.group) * form.group
    elif groups is not None or block % form.group:
        order, size, numbers = by_blocks(_numbers(groups, steps, block), form)
        factors, minus = factors[:, numbers], None if minus is None else minus[:, numbers]
    return Weights(form, steps, columns, size, data, codes, factors, minus, read, order)


def _claims_nothing(view: GraphView, node: Node) -> str | None:
    return "only the provider itself makes such nodes"


@lowers("MatMul", "Gemm", check=_claims_nothing, domain=LOW_BITS)
def lower_stored_product(program: Program, node: Node) -> None:
    weights = stored_weights(program.facts.view, node)
    assert weights is not None
    emit_low_bits(program, weights, need(node.input(0)), need(node.output(0)), None)
